"""Measures: single benchmarks as modules, the lab that reproduces the tables of `results/`."""

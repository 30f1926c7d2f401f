"""Kernels for GPUs: Triton for the ops of training, Numba for the local checks. Imported only when asked for."""

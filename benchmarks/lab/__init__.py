"""Experiments on integer training: its quality and speed beside float32, and what breaks as models grow."""

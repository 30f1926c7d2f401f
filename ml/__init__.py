"""The computation that is proven: exact integer training, traces, checks, kernels. Pure."""

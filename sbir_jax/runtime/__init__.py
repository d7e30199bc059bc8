"""Devices, processes, compiling, prefetching, checkpoints: what every job needs."""

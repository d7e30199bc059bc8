"""Frozen diffusion models: what one is, and how it is loaded from files."""

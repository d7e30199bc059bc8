"""Masks and depth from a frozen diffusion model, learned and training-free."""

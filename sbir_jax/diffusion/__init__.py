"""Noise schedules, and drawing pictures with them."""

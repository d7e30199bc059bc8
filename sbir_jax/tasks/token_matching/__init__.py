"""Matching sketches and photos token by token, and re-ranking by it."""

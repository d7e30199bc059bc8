"""Cosines: products of descriptors of unit length."""

import numpy as np
from jaxtyping import Float


def unit(rows: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    """Of length 1 along the last axis; zeros stay zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)

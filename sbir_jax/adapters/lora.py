"""Low-rank changes of the attention layers' projections (Hu et al., 2021).

As in the release of arXiv 2305.10722: rank 4 on queries, keys, values and outputs of
every attention layer, those of self-attention included. The change is zero before the
first step.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

LAYERS, PROJECTIONS = ("attn1", "attn2"), ("to_q", "to_k", "to_v", "to_out_0")


def init(key: Array, network: Any, rank: int) -> Any:
    """{"down", "up"} at the place of every projection's kernel.

    Args:
      network: parameters of a denoising network, or their shapes.
    Raises: ValueError for a network without such projections.
    """
    made: dict[tuple[str, ...], Any] = {}
    flat: dict[tuple[str, ...], Any] = flatten_dict(network)
    for path, kernel in flat.items():
        if not (set(path) & set(LAYERS) and path[-2] in PROJECTIONS):
            continue
        if path[-1] != "kernel":
            continue
        inputs, outputs = kernel.shape
        key, mine = jax.random.split(key)
        made[*path[:-1], "down"] = jax.random.normal(mine, (inputs, rank)) / rank
        made[*path[:-1], "up"] = jnp.zeros((rank, outputs))
    if not made:
        raise ValueError(
            "this backbone has no projections that LoRA knows "
            f"({', '.join(PROJECTIONS)} in {' or '.join(LAYERS)}); leave it out"
        )
    return unflatten_dict(made)


def merged(network: Any, lora: Any) -> Any:
    """The parameters with the change in them."""
    flat: dict[tuple[str, ...], Any] = flatten_dict(network)
    change: dict[tuple[str, ...], Any] = flatten_dict(lora)
    for path in {path[:-1] for path in change}:
        kernel = flat[*path, "kernel"]
        added = change[*path, "down"] @ change[*path, "up"]
        flat[*path, "kernel"] = kernel + added.astype(kernel.dtype)
    return unflatten_dict(flat)

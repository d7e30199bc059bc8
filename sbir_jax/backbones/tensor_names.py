"""Our parameter paths and the names and shapes of published tensors."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sbir_jax.backbones.tensors import Tensors

# The first autoencoders on the hub have these names in their attention layers.
OLD_ATTENTION = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}


def tensor_name(keys: tuple[str, ...]) -> str:
    """The published name: ("mid_block", "resnets_0", "conv1", "kernel") is
    "mid_block.resnets.0.conv1.weight". A table has the name of its scope alone."""
    *scopes, leaf = keys
    # `linear_1` is a name, not the second entry of a list.
    scopes = [
        scope if scope.startswith("linear_") else re.sub(r"_(\d+)$", r".\1", scope)
        for scope in scopes
    ]
    end = {"bias": ["bias"], "table": []}.get(leaf, ["weight"])
    return ".".join([*scopes, *end])


def check_counts(what: str, tensors: Tensors, counts: dict[str, int]) -> None:
    """Raise ValueError where a config asks for many more layers than the weights have.

    It is asked before anything is traced, which takes time and memory by layers.

    Args:
      counts: by the end of a tensor's name, how many the config asks for.
    """
    names = tensors.shapes()
    for end, wanted in counts.items():
        have = sum(name.endswith(end) for name in names)
        if wanted > 2 * have + 2:
            raise ValueError(
                f"{tensors.path} has {have} tensors named *{end}, and "
                f"{tensors.described} describes a {what} with {wanted}. Take config "
                "and weights from the same checkpoint"
            )


def check_tensors(what: str, tensors: Tensors, expected: dict[str, Any]) -> None:
    """Raise ValueError naming every missing, extra and misshapen tensor."""
    have = tensors.shapes()
    want = {
        tensor_name(keys): tuple(leaf.shape[i] for i in to_file(keys, leaf.ndim))
        for keys, leaf in leaves(expected)
    }
    problems = {
        "missing": sorted(want.keys() - have.keys()),
        "not expected": sorted(have.keys() - want.keys()),
        "of another shape": [
            f"{name} {have[name]}, not {want[name]}"
            for name in sorted(want.keys() & have.keys())
            if want[name] != have[name]
        ],
    }
    lines = []
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            lines.append(f"{len(names)} {problem}: {', '.join(names[:10])}{more}")
    if lines:
        raise ValueError(
            f"{tensors.path} does not hold the {what} that {tensors.described} "
            f"describes: {'; '.join(lines)}. "
            "Take config and weights from the same checkpoint; adapters and other "
            "kinds of networks cannot be loaded."
        )


def renamer(network: str) -> Callable[[str], str | None]:
    """From names found in files to those that `tensor_name` gives.

    None for what is not read: a constant 0, 1, 2, ... that transformers once saved, and
    the decoder of a "tiny" autoencoder.
    """

    def rename(name: str) -> str | None:
        if network.startswith("text_encoder"):
            name = name.removeprefix("text_model.")
            return None if name == "embeddings.position_ids" else name
        if network == "tiny" and name.startswith("decoder."):
            return None
        if network == "vae" and ".attentions." in name:
            *scopes, layer, leaf = name.split(".")
            return ".".join([*scopes, OLD_ATTENTION.get(layer, layer), leaf])
        return name

    return rename


def published(params: dict[str, Any], dtype: Any) -> dict[str, np.ndarray]:
    """Parameters as checkpoints have them: names, order of axes, floating type."""
    return {
        tensor_name(keys): np.ascontiguousarray(
            np.asarray(leaf).transpose(to_file(keys, leaf.ndim)).astype(dtype)
        )
        for keys, leaf in leaves(params)
    }


def to_file(keys: tuple[str, ...], ndim: int) -> tuple[int, ...]:
    """The permutation from a parameter's axes to those in the file."""
    if keys[-1] == "kernel":
        return (3, 2, 0, 1) if ndim == 4 else (1, 0)
    return tuple(range(ndim))


def leaves(tree: dict[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """Every parameter with the keys that lead to it."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(path_keys(path), leaf) for path, leaf in pairs]


def path_keys(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The plain keys of one of JAX's tree paths."""
    return tuple(entry.key for entry in path)

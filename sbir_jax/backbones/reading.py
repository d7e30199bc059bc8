"""The networks of a checkpoint: compared with their configs, hashed and placed."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from sbir_jax.backbones.base import Frozen
from sbir_jax.backbones.parameters import Placing, place
from sbir_jax.backbones.tensor_names import check_counts, check_tensors
from sbir_jax.backbones.tensors import Tensors


class Part(NamedTuple):
    """One network's files, and what its config makes of them.

    Attributes:
      name: said in errors.
      counts: layers by the end of a tensor's name, as of `UNetConfig`.
      shapes: gives those of all parameters; called once the counts are checked.
      wanted: gives those of the parameters to load; none for a network left out.
      dtype: that the network computes in, and its parameters are placed in.
    """

    name: str
    tensors: Tensors
    counts: dict[str, int]
    shapes: Callable[[], dict[str, Any]]
    wanted: Callable[[], dict[str, Any]]
    dtype: Any


def read_networks(
    parts: Mapping[str, Part], configs: dict[str, dict[str, Any]], placing: Placing
) -> tuple[Frozen, str]:
    """The weights that are wanted, and the fingerprint of the whole checkpoint.

    Args:
      parts: by the name that a network's weights have in `Frozen`.
      configs: contents of all configs; they count in the fingerprint.
    Raises: ValueError where a network's tensors are not what its config describes.
    """
    # Keys with an underscore are bookkeeping: paths and versions of other software.
    public = {
        part: {key: value for key, value in config.items() if key[0] != "_"}
        for part, config in configs.items()
    }
    fingerprint = hashlib.sha256(json.dumps(public, sort_keys=True).encode())
    frozen, digests = {}, []
    # Hashing takes a core of its own, beside tracing shapes and placing parameters.
    with ThreadPoolExecutor(1) as aside:
        for name, part in parts.items():
            check_counts(part.name, part.tensors, part.counts)
            digests.append(aside.submit(part.tensors.digest))
            check_tensors(part.name, part.tensors, part.shapes())
            wanted = part.wanted()
            if wanted:
                own = dataclasses.replace(placing, dtype=part.dtype)
                frozen[name] = place(name, part.tensors, wanted, own)
        for digest in digests:
            fingerprint.update(digest.result().encode())
    return frozen, fingerprint.hexdigest()

"""Scores of a run's models on disk, so that an evaluation that was stopped goes on."""

import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from sbir_jax.runtime import multiprocess


def cached(
    folder: pathlib.Path,
    name: str,
    key: Any,
    compute: Callable[[], Float[np.ndarray, "p k"]],
) -> Float[np.ndarray, "p k"]:
    """The scores of a model, from its file where that was made with the same key.

    Of several processes the first one reads and writes.

    Args:
      key: JSON values of all that the scores depend on.
      compute: asked where there is no such file.
    """
    text = json.dumps(key, sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()
    path = folder / f"{name}.npz"
    if multiprocess.as_first_says(path.exists()):
        with np.load(path, allow_pickle=False) as found:
            if str(found["key"]) == mark:
                return found["scores"]
    scores = compute()
    if multiprocess.is_first():
        content = io.BytesIO()
        np.savez_compressed(content, key=np.array(mark), scores=scores)
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{name}.npz.part"
        aside.write_bytes(content.getvalue())
        os.replace(aside, path)
    multiprocess.barrier("scores")
    return scores

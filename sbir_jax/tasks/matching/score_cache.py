"""Scores of a run's models on disk, so that an evaluation that was stopped goes on."""

import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float

from sbir_jax.data.image_files import means_machine
from sbir_jax.runtime import multiprocess


def cached(
    folder: pathlib.Path,
    name: str,
    key: Any,
    compute: Callable[[], tuple[Float[np.ndarray, "p k *more"], float]],
) -> tuple[Float[np.ndarray, "p k *more"], float]:
    """The scores of a model and the seconds they took, from its file where that was
    made with the same key; else as `compute` gives them.

    Of several processes the first one writes.

    Args:
      key: JSON values of all that the scores depend on.
    """
    mark = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = folder / f"{name}.npz"
    kept = _read(path, mark)
    if multiprocess.smallest(int(kept is not None)) and kept is not None:
        return kept
    scores, seconds = compute()
    if multiprocess.is_first():
        content = io.BytesIO()
        np.savez_compressed(content, key=mark, scores=scores, seconds=seconds)
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{name}.npz.part"
        aside.write_bytes(content.getvalue())
        os.replace(aside, path)
    multiprocess.barrier("scores")
    return scores, seconds


def _read(path: pathlib.Path, mark: str) -> tuple[np.ndarray, float] | None:
    """What is kept; None where that is nothing, of another key, or damaged."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            if str(found["key"]) != mark:
                return None
            return found["scores"], float(found["seconds"])
    # A damaged archive lets nearly any exception through.
    except Exception as error:
        if means_machine(error):
            raise
        logging.warning("%s is damaged (%s): it is made again", path, error)
        return None

"""Which model an index is made with, and how to make it again."""

import pathlib
from typing import Any

from sbir_jax import sharing
from sbir_jax.embedder import Embedder
from sbir_jax.features import Task

RUN = "config.json"


def open_model(model: str, task: Task = "category", batch_size: int = 0) -> Embedder:
    """The embedder of a run folder, of shared prompts, or of a frozen backbone.

    Args:
      model: a run folder, a folder in the diffusers layout, a hub id, or "toybox".
      task: which layers to read, where the model itself does not say.
      batch_size: images at a time; 0 for what fits the memory.
    Raises: FileNotFoundError, ValueError; see `Embedder`.
    """
    folder = pathlib.Path(model).expanduser()
    if (folder / RUN).is_file() and '"recipe"' in (folder / RUN).read_text():
        return Embedder.from_run(folder, batch_size)
    if sharing.find_prompts(model) is not None:
        return sharing.load_prompts(model, batch_size=batch_size)
    return Embedder.from_pretrained(model, task, batch_size=batch_size)


def make_embedder(
    source: dict[str, Any] | None, index: str, batch_size: int = 1
) -> Embedder:
    """The embedder that `Embedder.source` describes, by default for single drawings.

    Args:
      index: where `source` was found, for errors.
    Raises: ValueError where the index does not say; what loading it raises.
    """
    if source is None:
        raise ValueError(
            f"{index} does not say how to make its embedder (it was put together by "
            "hand): open it with Index.open(path, embedder)"
        )
    if source["kind"] == "run":
        return Embedder.from_run(source["source"], batch_size)
    if source["kind"] == "prompts":
        return sharing.load_prompts(source["source"], source["backbone"], batch_size)
    # Indexes from before there was a choice are of float32.
    dtype = source.get("dtype", "float32")
    given = source["source"], source["task"], source["text"], batch_size
    return Embedder.from_pretrained(*given, dtype=dtype)

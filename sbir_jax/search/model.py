"""Which model an index is made with, and how to make it again."""

import pathlib
from typing import Any

from sbir_jax.adapters import prompt_files
from sbir_jax.backbones.frozen import lasting_name
from sbir_jax.backbones.known import HOG
from sbir_jax.embedder import Embedder
from sbir_jax.features import Task
from sbir_jax.hog import HogEmbedder
from sbir_jax.search import model_paths

RUN = "config.json"


def open_model(
    model: str, task: Task | None = None, batch_size: int = 0, encoder: str = ""
) -> Embedder | HogEmbedder:
    """The embedder of a run folder, of shared prompts, or of a frozen backbone, or the
    plain baseline.

    Args:
      model: a run folder, a folder in the diffusers layout, a hub id, or a short name
        (`known.MODELS`).
      task: which layers to read, where the model itself does not say; category by
        default.
      batch_size: images at a time; 0 for what fits the memory.
      encoder: a distilled one for a frozen backbone, as of `load_backbone`.
    Raises: FileNotFoundError, ValueError; see `Embedder`. ValueError for an encoder
      or a task where the model itself says which, or has none.
    """
    if model == HOG:
        for what, given in (("task", task), ("encoder", encoder)):
            if given:
                raise ValueError(
                    f"{HOG} has no layers to choose and no encoder: leave the {what} "
                    f"{given!r} out, or give a diffusion model, such as toybox"
                )
        return HogEmbedder(batch_size)
    folder = pathlib.Path(model).expanduser()
    run = (folder / RUN).is_file() and '"recipe"' in (folder / RUN).read_text()
    prompts = not run and prompt_files.find_prompts(model) is not None
    if encoder and (run or prompts):
        raise ValueError(
            f"{model} holds prompts, which belong to the encoder they were learned "
            f"with: leave the encoder {encoder!r} out, or train with it"
        )
    if task and (run or prompts):
        raise ValueError(
            f"{model} holds prompts, which say themselves which layers are read: leave "
            f"the task {task!r} out"
        )
    if run:
        return Embedder.from_run(folder, batch_size)
    if prompts:
        return prompt_files.load_prompts(model, batch_size=batch_size)
    given = {"batch_size": batch_size, "encoder": encoder}
    return Embedder.from_pretrained(model, task or "category", **given)


def make_embedder(
    source: dict[str, Any] | None, index: str, batch_size: int = 1, model: str = ""
) -> Embedder | HogEmbedder:
    """The embedder that `Embedder.source` describes, by default for single drawings.

    Args:
      index: where `source` was found, for errors and for paths relative to it.
      model: where the run, the prompts or the backbone are now, if they were moved.
    Raises: ValueError where the index does not say; FileNotFoundError for a model that
      is not there any more; what loading it raises.
    """
    if source is None:
        raise ValueError(
            f"{index} does not say how to make its embedder (it was put together by "
            "hand): open it with Index.open(path, embedder)"
        )
    if HOG in (source["kind"], model):
        # Another one in its place is refused, as ever, by its fingerprint.
        return open_model(model or HOG, batch_size=batch_size)
    if model:
        source = {**source, "source": lasting_name(model, "toybox")}
    source = model_paths.resolve(source, index)
    if source["kind"] == "run":
        return Embedder.from_run(source["source"], batch_size)
    if source["kind"] == "prompts":
        given = source["source"], source["backbone"], batch_size
        return prompt_files.load_prompts(*given, source.get("encoder"))
    # Indexes from before there was a choice are of float32.
    dtype = source.get("dtype", "float32")
    encoder = source.get("encoder", "")
    given = source["source"], source["task"], source["text"], batch_size
    return Embedder.from_pretrained(*given, dtype=dtype, encoder=encoder)

"""Learned prompts as one small file, to keep, send and put on a hub.

    FOLDER/prompts.safetensors   the prompts, float32; in its header, under "sbir_jax",
                                 JSON of what else makes a descriptor
    FOLDER/README.md             a model card

The backbone is not in it, only its name and its fingerprint.

save_prompts(Embedder.from_run("runs/sketchy"), "my-prompts")
push("my-prompts", "me/my-prompts")
embedder = load_prompts("me/my-prompts")
"""

import dataclasses
import json
import os
import pathlib
from typing import Annotated, Any, Literal

import jax
import numpy as np
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sbir_jax.adapters.prompts import Prompts, check_shapes
from sbir_jax.backbones import hub
from sbir_jax.backbones.diffusers_files import cached_folder
from sbir_jax.backbones.frozen import lasting_name, load_frozen
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.runtime import checkpoint, schema, sharding
from sbir_jax.types import MODALITIES

REMEDY = "Copy or fetch it again, or have it written again by save_prompts"
MOST_BYTES = 2**28  # some ten times the prompts of the largest published nets
FILE, CARD, KEY, FORMAT = "prompts.safetensors", "README.md", "sbir_jax", 1
# The tensors of either kind of prompts, by where their frames are added.
NAMES = {
    place: {"text"}
    | {
        f"{place}.{modality}.{side}"
        for modality in MODALITIES
        for side in ("top", "bottom", "left", "right")
    }
    for place in ("visual", "latent")
}


@dataclasses.dataclass(frozen=True)
class Head:
    """What the header of a file says of its prompts."""

    recipe: Recipe
    size: Annotated[int, Field(ge=1, le=2**13)]
    visual_scale: Annotated[float, Field(allow_inf_nan=False)]
    backbone: str
    backbone_fingerprint: str
    fingerprint: str
    encoder: str = ""
    # Files from before there was a choice are of float32.
    dtype: Literal["float32", "bfloat16"] = "float32"


def save_prompts(embedder: Embedder, folder: str | os.PathLike) -> pathlib.Path:
    """Writes the prompts of an embedder and, where there is none yet, a model card.

    Returns: the path of the file.
    """
    folder = pathlib.Path(folder)
    # A frozen backbone's are written out here, so that their numbers count.
    embedder = embedder.with_prompts(embedder.prompts)
    tensors = {
        name: np.asarray(leaf, np.float32)
        for name, leaf in checkpoint.named(embedder.prompts).items()
    }
    head = {
        "format": FORMAT,
        "recipe": dataclasses.asdict(embedder.recipe),
        "size": embedder.size,
        "visual_scale": embedder.visual_scale,
        "dtype": embedder.dtype,
        "backbone": lasting_name(embedder.backbone.source, "toybox"),
        "encoder": lasting_name(embedder.backbone.encoder, "tiny"),
        "backbone_fingerprint": embedder.backbone.fingerprint,
        "fingerprint": embedder.fingerprint,
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = save(tensors, {KEY: json.dumps(head, sort_keys=True)})
    aside = folder / f"{FILE}.part"
    aside.write_bytes(content)
    os.replace(aside, folder / FILE)
    if not (folder / CARD).exists():
        (folder / CARD).write_text(_card(folder.absolute().name, head, tensors))
    return folder / FILE


def find_prompts(source: str | os.PathLike) -> pathlib.Path | None:
    """The prompts file of a folder or of a hub id; None where there is none.

    The hub is asked only about a repository that its cache does not have.

    Raises: FileNotFoundError for a repository that cannot be had.
    """
    folder = pathlib.Path(source).expanduser()
    if folder.exists():
        return folder / FILE if (folder / FILE).is_file() else None
    if not hub.is_hub_id(source):
        return None
    name = os.fspath(source)
    path = hub.cached_file(name, FILE)
    if path is not None or cached_folder(name) is not None:  # a backbone has no prompts
        return path
    hub.fetch(name, lambda files: [FILE] if FILE in files else [])
    return hub.cached_file(name, FILE)


def load_prompts(
    source: str | os.PathLike,
    backbone: str | os.PathLike | None = None,
    batch_size: int = 0,
    encoder: str | None = None,
) -> Embedder:
    """The embedder that `save_prompts` was given.

    Args:
      source: a folder, or a hub id ("owner/name", optionally with "@revision").
      backbone: where the backbone is here, if not where the file says.
      encoder: likewise, of a distilled encoder that is not the backbone's own.
    Raises: FileNotFoundError without prompts there, or without the backbone; ValueError
      for a file that is not ours or damaged, and for another backbone than the one the
      prompts were learned on, naming both fingerprints.
    """
    path = find_prompts(source)
    if path is None:
        raise FileNotFoundError(
            f"no {FILE} in {os.fspath(source)}. Give a folder that save_prompts wrote, "
            "or the hub id of one (offline: one that was fetched before)."
        )
    head, tensors = _read(path)
    recipe, where = head.recipe, os.fspath(backbone or head.backbone)
    tiny = head.encoder if encoder is None else encoder
    try:
        mesh = sharding.make_mesh(devices=jax.local_devices())
        loaded = load_frozen(where, recipe.taps, mesh, head.dtype, tiny)
    except FileNotFoundError as error:
        with_encoder = f" with the encoder {tiny}" if tiny else ""
        raise FileNotFoundError(
            f"the prompts in {path} belong to the backbone {where}{with_encoder}, "
            "which is not here; say where it is: load_prompts(source, backbone=..., "
            f"encoder=...). {error}"
        ) from error
    described = loaded.backbone
    if described.fingerprint != head.backbone_fingerprint:
        raise ValueError(
            f"the prompts in {path} were learned on {head.backbone} with "
            f"fingerprint {head.backbone_fingerprint[:12]} and {where} has "
            f"{described.fingerprint[:12]}: prompts fit only their own backbone"
        )
    learned, size = _prompts(tensors), described.checked_size(head.size)
    latent = described.latent_shape(size)
    check_shapes(learned, str(path), size, latent, described.context_dim)
    embedder = Embedder(loaded, learned, recipe, size, head.visual_scale, batch_size)
    if embedder.fingerprint != head.fingerprint:
        raise ValueError(
            f"{path} is damaged: its prompts have the fingerprint "
            f"{embedder.fingerprint[:12]}, and {head.fingerprint[:12]} was written. "
            f"{REMEDY}"
        )
    local = pathlib.Path(source).expanduser()
    embedder.source = {
        "kind": "prompts",
        "source": str(local.resolve() if local.exists() else source),
        "backbone": described.source,
        "encoder": tiny,
    }
    return embedder


def push(folder: str | os.PathLike, hub_id: str, private: bool = False) -> str:
    """Puts a folder that `save_prompts` wrote on the hub; returns its address.

    Needs a token that may write (`hf auth login`).

    Raises: FileNotFoundError and ValueError as `load_prompts`, before anything is sent;
      what the hub's client raises, where it refuses.
    """
    folder = pathlib.Path(folder)
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"no {FILE} in {folder}; write it with save_prompts")
    _read(folder / FILE)
    import huggingface_hub

    api = huggingface_hub.HfApi()
    api.create_repo(hub_id, private=private, exist_ok=True)
    sent = api.upload_folder(
        repo_id=hub_id, folder_path=folder, allow_patterns=[FILE, CARD]
    )
    return str(sent)


def _read(path: pathlib.Path) -> tuple[Head, dict[str, np.ndarray]]:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(
            f"{path} has {size} bytes; prompts have at most {MOST_BYTES}. {REMEDY}"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            head = json.loads((file.metadata() or {}).get(KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}. {REMEDY}") from error
    form = head.get("format") if isinstance(head, dict) else None
    if form != FORMAT or set(tensors) not in NAMES.values():
        newer = type(form) is int and form > FORMAT
        raise ValueError(
            f"{path} holds no prompts that this version of sbir_jax reads (format "
            f"{str(form)[:20]}, {len(tensors)} tensors); it reads format {FORMAT}"
            + ", and this was made by a newer version: update sbir_jax"
            * newer
        )
    wrong = [name for name, x in tensors.items() if x.dtype != np.float32]
    wrong += [name for name, x in tensors.items() if not np.isfinite(x).all()]
    if wrong:
        raise ValueError(
            f"{path} is damaged: {wrong[0]} is not finite float32. {REMEDY}"
        )
    return schema.validated(Head, head, str(path), REMEDY), tensors


def _prompts(tensors: dict[str, np.ndarray]) -> Prompts:
    found: dict[str, Any] = {"text": tensors["text"]}
    for name in sorted(tensors.keys() - {"text"}):
        place, modality, side = name.split(".")
        found.setdefault(place, {}).setdefault(modality, {})[side] = tensors[name]
    return Prompts(**found)


def _card(name: str, head: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    count = sum(value.size for value in tensors.values())
    backbone, grid = head["backbone"], head["recipe"]["grid"]
    base = f"base_model: {backbone}\n" if hub.is_hub_id(backbone) else ""
    rows = {
        "backbone": f"`{backbone}`, fingerprint `{head['backbone_fingerprint'][:12]}`",
        "image size": f"{head['size']} px",
        "encoder": f"`{head['encoder']}`" if head["encoder"] else "the backbone's own",
        "layers": ", ".join(head["recipe"]["taps"]),
        "timestep": head["recipe"]["timestep"],
        "noise copies": head["recipe"]["copies"],
        "pooling": f"{head['recipe']['pooling']}, {grid} x {grid} cells",
        "frames": "in pixels" if "visual.photo.top" in tensors else "in latent space",
        "learned numbers": f"{count:,}",
        "fingerprint": f"`{head['fingerprint'][:12]}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""---
library_name: sbir_jax
pipeline_tag: image-feature-extraction
tags: [sketch-based-image-retrieval, prompt-learning]
{base}---

# {name}

Prompts for finding photos by drawing: a border frame for sketches, one for photos, and
a matrix in place of the text, learned on a frozen text-to-image diffusion model. The
model itself is not in this file and is loaded from where it is.

```python
from sbir_jax.adapters.prompt_files import load_prompts

embedder = load_prompts("OWNER/{name}")  # or a local folder
photos = embedder.embed(paths, "photo")
sketch = embedder.embed(["cup.png"], "sketch")
```

| | |
|---|---|
{table}

## What they were learned on, and how well they do

To be written by their author: data, split, protocol, scores.
"""

"""Latents of the images that training will draw, each encoded once (ours).

Where nothing before the autoencoder is trained, a step needs latents and no pixels.
Which images a run draws, and which of them mirrored, is known before its first step, so
just these are encoded, and never more than there would be without:

    WORKDIR/latents/sketch-0.bin    float16 [n, y, x, c], of the first process
                    sketch-0.json   what they are of; of another run they are made anew

A stopped run goes on where its file ends. Batches are read from the disk, so that
memory does not grow with the number of images.
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from sbir_jax import features
from sbir_jax.adapters.prompts import Prompts
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.data import Dataset, triplets
from sbir_jax.data.triplets import Reader, Task
from sbir_jax.runtime import hardware, row_cache, sharding
from sbir_jax.types import MODALITIES, Modality


def reader(
    loaded: LoadedBackbone,
    prompts: Prompts,
    visual_scale: float,
    dataset: Dataset,
    folder: pathlib.Path,
    model_shards: int,
    *,
    size: int,
    host: int,
    **drawing: Any,
) -> Reader:
    """Encodes what this process will draw, or what is missing of it, and reads it.

    Args:
      prompts: frames in pixels are in the latents; those in latent space are not.
      folder: where they are kept.
      model_shards: devices of this process that share one copy of the weights.
      size, host, drawing: as of `triplet_batches`, of which `drawing` is what `drawn`
        takes.
    Returns: for `triplet_batches`; its rows are latents, float32 [k, y, x, c].
    """
    codes = drawn(dataset, host=host, **drawing)
    encode = encoder(loaded, prompts, visual_scale, model_shards, row_cache.BATCH)
    frames = hashlib.sha256()
    for leaf in jax.tree.leaves(prompts.visual):
        frames.update(np.asarray(visual_scale * leaf, np.float32).tobytes())
    whose = {
        "backbone": loaded.backbone.fingerprint,
        "computed": loaded.backbone.dtype.name,
        "frames": frames.hexdigest(),
    }
    shape = loaded.backbone.latent_shape(size)
    return kept_reader(dataset, codes, folder, host, size, shape, whose, encode)


def kept_reader(
    dataset: Dataset,
    codes: dict[Modality, Int[np.ndarray, " _"]],
    folder: pathlib.Path,
    host: int,
    size: int,
    shape: tuple[int, ...],
    whose: dict[str, Any],
    encode: Callable[[np.ndarray, Modality], np.ndarray],
) -> Reader:
    """What stands for images, computed once and kept in `folder`.

    Args:
      codes: of `drawn`.
      shape: of what stands for one image; `whose`: all that it depends on beside the
        image.
      encode: from images in [-1, 1], at most `row_cache.BATCH`, to these rows.
    Returns: for `triplet_batches`; its rows are float32.
    """
    pixels = triplets.pixel_reader(dataset, size, cache_bytes=0)
    kept = {}
    for modality, wanted in codes.items():
        stamp = {
            **whose,
            "data": dataset.fingerprint,
            "drawn": hashlib.sha256(wanted.tobytes()).hexdigest(),
            "size": size,
        }

        def some(
            rows: slice, modality: Modality = modality, wanted: np.ndarray = wanted
        ) -> np.ndarray:
            part = wanted[rows]
            return encode(pixels(modality, part // 2, part % 2 == 1), modality)

        path, desc = folder / f"{modality}-{host}.bin", f"encode {modality}"
        rows = (len(wanted), *shape)
        kept[modality] = row_cache.keep(path, stamp, rows, some, desc)

    def read(
        modality: Modality, indices: np.ndarray, mirrored: np.ndarray
    ) -> np.ndarray:
        rows = np.searchsorted(codes[modality], code(indices, mirrored))
        return kept[modality][rows].astype(np.float32)

    return read


def drawn(
    dataset: Dataset,
    *,
    seed: int,
    steps: int,
    batch_size: int,
    task: Task,
    host: int,
    hosts: int,
) -> dict[Modality, Int[np.ndarray, " _"]]:
    """What `triplet_batches` will read in all steps: each `code` once, in order."""
    table = triplets.triplet_table(dataset, task)
    codes: dict[Modality, list] = {modality: [] for modality in MODALITIES}
    for step in range(steps):
        found, mirrored = triplets.draw(seed, step, host, hosts, batch_size, table)
        for name, indices in found.items():
            codes[triplets.MODALITY[name]].append(code(indices, mirrored))
    return {name: np.unique(np.concatenate(codes[name])) for name in MODALITIES}


def code(indices: Int[np.ndarray, " k"], mirrored: np.ndarray) -> np.ndarray:
    """One number for an item and for its mirror image each."""
    return 2 * indices + mirrored


def encoder(
    loaded: LoadedBackbone,
    prompts: Prompts,
    visual_scale: float,
    model_shards: int,
    batch_size: int,
) -> Callable[[np.ndarray, Modality], Float[np.ndarray, "k y x c"]]:
    """From images in [-1, 1] to latents, on the devices of this process.

    Args:
      batch_size: images that it takes at most; rounded up, the same on each device.
    """
    backbone = loaded.backbone
    mesh = sharding.make_mesh(model_shards, jax.local_devices())
    frozen = sharding.place_frozen(loaded.frozen, mesh)
    in_pixels = sharding.place_whole(prompts.replace(latent=None), mesh)  # pyright: ignore
    groups = mesh.shape["data"]
    batch = -(-batch_size // groups) * groups

    @functools.partial(hardware.jit, on=mesh, static_argnames="modality")
    def run(frozen, prompts, images, modality) -> Array:
        return features.encode_prompted(
            backbone, frozen, prompts, images, modality, visual_scale
        )

    def encode(images: np.ndarray, modality: Modality) -> np.ndarray:
        padded = sharding.pad_batch(images, batch)
        placed = jax.device_put(padded, sharding.batch_sharding(mesh))
        found = run(frozen, in_pixels, placed, modality=modality)
        return np.asarray(found)[: len(images)]

    return encode

"""What layers hold of a sketch and of its photo, as pictures in shared colours.

After the pilot study of Koley et al. (CVPR 2024): the first three principal components
of a layer's activations as red, green and blue, the same components for sketch and
photo. Which pairs, how colours are scaled, and that all pairs shown share their
components is ours.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from sbir_jax.features import Recipe
from sbir_jax.types import MODALITIES
from tools import study_pictures
from tools.study_sweep import Bench, Program, save

PIXELS = 128  # side of the inputs shown


def shared_colours(maps: Float[np.ndarray, "b h w c"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Principal components of all positions of all maps, the largest as red.

    Each component runs from its 1st to its 99th percentile over all maps; its sign is
    such that its largest loading is positive.

    Raises: ValueError for fewer than three channels.
    """
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    if flat.shape[1] < 3:
        raise ValueError(f"a layer has {flat.shape[1]} channels; colours need three")
    flat -= flat.mean(axis=0)
    _, axes = np.linalg.eigh(flat.T @ flat)  # by rising variance
    axes = axes[:, ::-1][:, :3]
    largest = np.abs(axes).argmax(axis=0)
    scores = flat @ (axes * np.sign(axes[largest, np.arange(3)]))
    low, high = np.percentile(scores, [1, 99], axis=0)
    unit = (scores - low) / np.maximum(high - low, 1e-12)
    return np.round(255 * unit.clip(0, 1)).astype(np.uint8).reshape(*maps.shape[:3], 3)


def pick_pairs(bench: Bench, count: int) -> Bench:
    """The bench of `count` sketches and a right photo of each, spread over classes."""
    protocol = bench.protocol
    order = np.argsort(protocol.query_labels, kind="stable")
    spread = np.linspace(0, len(order) - 1, min(count, len(order)) + 2)[1:-1]
    queries = order[np.round(spread).astype(int)]
    photos = [int(protocol.right(slice(q, q + 1))[0].argmax()) for q in queries]
    chosen = dataclasses.replace(
        protocol,
        queries=protocol.queries[queries],
        gallery=protocol.gallery[photos],
        query_labels=protocol.query_labels[queries],
        gallery_labels=protocol.gallery_labels[photos],
        query_instances=protocol.query_instances[queries],
        gallery_instances=protocol.gallery_instances[photos],
    )
    return dataclasses.replace(bench, protocol=chosen)


def inputs(bench: Bench) -> UInt8[np.ndarray, "p 2 h w 3"]:
    """The pairs themselves, sketch first."""
    both = [
        items.pixels(indices, PIXELS) for items, indices in map(bench.items, MODALITIES)
    ]
    return np.stack(both, axis=1)


def colours(
    bench: Bench, taps: tuple[str, ...], timesteps: Sequence[int], recipe: Recipe
) -> dict[str, dict[int, UInt8[np.ndarray, "p 2 _ _ 3"]]]:
    """Pictures of every pair by layer and timestep; finished ones come from disk.

    Args:
      bench: from `pick_pairs`.
      recipe: its copies and noise are used.
    """
    program, found = None, {tap: {} for tap in taps}
    for timestep in timesteps:
        asked = dataclasses.replace(recipe, taps=taps, timestep=timestep)
        rest = {
            "timestep": timestep,
            "copies": recipe.copies,
            "seed": recipe.noise_seed,
        }
        paths = {tap: bench.path("pca", "npy", tap=tap, **rest) for tap in taps}
        if not all(path.exists() for path in paths.values()):
            program = program or Program(bench)
            sketch, photo = (
                program.mean_maps(program.latents(m), asked) for m in MODALITIES
            )
            for tap, path in paths.items():
                pictures = shared_colours(np.concatenate([sketch[tap], photo[tap]]))
                save(path, np.stack(np.split(pictures, 2), axis=1))
        for tap, path in paths.items():
            found[tap][timestep] = np.load(path)
    return found


def draw(
    bench: Bench,
    recipe: Recipe,
    taps: tuple[str, ...],
    timesteps: Sequence[int],
    count: int,
    picture: pathlib.Path,
) -> tuple[list[dict], str]:
    """One sheet of `count` pairs.

    Returns: which pairs they are, and a line on the sheet.
    """
    pairs = pick_pairs(bench, count)
    found = colours(pairs, taps, timesteps, recipe)
    study_pictures.maps_sheet(
        picture,
        f"{bench.dataset.name}, {'learned prompts' if bench.learned else 'frozen'}: "
        "the first three principal components of a layer at a timestep, for all maps",
        inputs(pairs),
        found,
    )
    (sketches, queries), (photos, gallery) = map(pairs.items, MODALITIES)
    shown = [
        {"sketch": sketches.ids[q], "photo": photos.ids[g]}
        for q, g in zip(queries, gallery, strict=True)
    ]
    return shown, f"{len(shown)} pairs, {len(taps)} layers, {len(timesteps)} timesteps"

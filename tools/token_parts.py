"""Whether matched tokens lie on the same part of a thing, on Toybox, whose renderer
knows.

    python -m tools.token_parts runs/rerank [runs/tokens ...] [--pairs 50] [--save DIR]

A pair is a drawing of a thing of an unseen category and the photo of that very thing,
from poses up to some ten degrees apart. Counted is every place of the drawing with
strokes on the thing: is what answers it, among the photo's places on the thing, of the
same part? Beside the matches that explanations draw, from a re-ranker's tokens, stand
its cross-attention, the nearest neighbour of the backbone's own features, the same
place, and chance. Standard errors are over pairs.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from sbir_jax import data
from sbir_jax.data.dataset import Dataset
from sbir_jax.data.images import to_float
from sbir_jax.data.toybox import render, world
from sbir_jax.report import correspondences
from sbir_jax.reranker import Reranker
from sbir_jax.runtime import hardware

LEAST = 0.1  # of a place's pixels must lie on the thing
NONE = -1
TOYBOX = {"size": 64, "instances": 12, "sketches": 3, "world": 0}


@jax.jit
def _trace(scenes):
    def one(scene):
        count = scene["count"].astype(jnp.int32)
        size = TOYBOX["size"] * render.OVERSAMPLE
        return render.trace(scene["rows"], count, scene["camera"], size).part

    return jax.lax.map(one, scenes)


def parts(
    names: list[str], numbers: list[int], variants: list[int | None], side: int
) -> Int[np.ndarray, "n p"]:
    """The part that most of each place's pixels on the thing show; NONE off the thing.

    Args:
      variants: of drawings; None for the photo.
    """
    things = [world.instance(*given) for given in zip(names, numbers, strict=True)]
    pairs = zip(things, variants, strict=True)
    scenes = world.stack([world._scene(thing, 0, k) for thing, k in pairs])
    return np.stack([on_grid(shown, side) for shown in np.asarray(_trace(scenes))])


def on_grid(shown: Int[np.ndarray, "h w"], side: int) -> Int[np.ndarray, " p"]:
    """The commonest part of each place."""
    edge = len(shown) // side
    places = shown.reshape(side, edge, side, edge).swapaxes(1, 2).reshape(side**2, -1)
    found = np.full(side**2, NONE)
    for i, place in enumerate(places):
        on = place[place >= 0]
        if len(on) >= LEAST * place.size:
            found[i] = np.bincount(on).argmax()
    return found


def chosen_pairs(toybox: Dataset, count: int) -> list[tuple[int, int]]:
    """Rows of drawings and of their photos, categories in turn."""
    labels = [toybox.classes.index(name) for name in toybox.unseen]
    photos = {n: i for i, n in enumerate(toybox.photos.instances.tolist())}
    rows = [np.flatnonzero(toybox.sketches.labels == label) for label in labels]
    turns = [row[i] for i in range(min(map(len, rows))) for row in rows]
    drawn = [int(row) for row in turns[:count]]
    return [(row, photos[int(toybox.sketches.instances[row])]) for row in drawn]


def shares(
    strength: Float[np.ndarray, "p p"], own: np.ndarray, their: np.ndarray, ink
) -> float:
    """Of places with strokes on the thing, answered by the same part."""
    counted = np.flatnonzero(ink & (own != NONE))
    there = np.flatnonzero(their != NONE)
    best = there[strength[np.ix_(counted, there)].argmax(1)]
    return float(np.mean(their[best] == own[counted]))


def alike(a: Float[np.ndarray, "p c"], b: Float[np.ndarray, "p c"]) -> np.ndarray:
    """Cosines."""
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    return a @ b.T / np.maximum(lengths, 1e-9)


def attention(
    model: Reranker, sketch: Float[np.ndarray, "m c"], photo: Float[np.ndarray, "n c"]
) -> Float[np.ndarray, "_ _"]:
    """How much places look at each other: the geometric mean of both directions, each
    the mean over heads."""
    found = model.related(sketch, photo[None])
    there, back = (
        np.asarray(m[0]).mean(0) for m in (found.sketch_map, found.photo_map)
    )
    return np.sqrt(there * back.T)[1:, 1:]


def near(side: int) -> Float[np.ndarray, "p p"]:
    """How near places are: the same one is the best."""
    y, x = np.divmod(np.arange(side**2), side)
    return -np.hypot(y[:, None] - y[None], x[:, None] - x[None])


def measure(
    model: Reranker, toybox: Dataset, pairs: list, save: pathlib.Path | None, name: str
) -> dict[str, list[float]]:
    """Each method's share for each pair."""
    side = model.source.side
    drawn, shown = ([pair[i] for pair in pairs] for i in range(2))
    names, numbers = [], []
    for row in shown:
        path = toybox.photos.ids[row]
        names.append(toybox.classes[toybox.photos.labels[row]])
        numbers.append(int(path.rpartition("_")[2].partition(".")[0]))
    variants = [
        int(toybox.sketches.ids[row].rpartition("-")[2].partition(".")[0]) - 1
        for row in drawn
    ]
    own = parts(names, numbers, variants, side)
    their = parts(names, numbers, [None] * len(pairs), side)
    sketches = toybox.sketches.pixels(drawn, model.size)
    photos = toybox.photos.pixels(shown, model.size)
    raw = [
        model.read(to_float(pixels), modality)
        for pixels, modality in ((sketches, "sketch"), (photos, "photo"))
    ]
    states = [model.tokens(x).states for x in raw]
    found: dict[str, list[float]] = {}
    for i in range(len(pairs)):
        seen = model.look(sketches[i], photos[i])
        ink = correspondences.inked(seen.sketch, side)
        at = np.ix_(seen.sketch_patches, seen.photo_patches)
        drawn_ones, looked = np.zeros((2, side**2, side**2))
        drawn_ones[at] = correspondences.mutual(seen.alike)
        looked[at] = attention(model, states[0][i], states[1][i])
        ways = {
            f"matches as drawn, {name}": drawn_ones,
            f"cross-attention, {name}": looked,
            "same place": near(side),
        }
        if raw[0].shape[1] == side:  # of a backbone; else these are pixels
            flat = [x[i].reshape(side**2, -1) for x in raw]
            ways["raw features' cosines"] = alike(*flat)
        for way, strength in ways.items():
            found.setdefault(way, []).append(shares(strength, own[i], their[i], ink))
        on, counted = their[i][their[i] != NONE], own[i][ink & (own[i] != NONE)]
        blind = np.mean([np.mean(on == part) for part in counted])
        found.setdefault("chance", []).append(float(blind))
        if save is not None and i < 12:
            Image.fromarray(correspondences.picture(seen)).save(
                save / f"{name}-{i:02}-{names[i]}.png"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--save", type=pathlib.Path, help="for pictures of some pairs")
    args = parser.parse_args()
    hardware.keep_programs()
    if args.save:
        args.save.mkdir(parents=True, exist_ok=True)
    toybox = data.load("toybox", **TOYBOX)
    pairs = chosen_pairs(toybox, args.pairs)
    print(f"\n| {len(pairs)} pairs of unseen categories | same part |\n|---|---|")
    rows: dict[str, list[float]] = {}
    for run in args.runs:
        rows |= measure(Reranker.from_run(run), toybox, pairs, args.save, run.name)
    for name, values in sorted(rows.items(), key=lambda row: -np.mean(row[1])):
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"| {name} | {np.mean(values):.3f} ± {error:.3f} |")


if __name__ == "__main__":
    main()

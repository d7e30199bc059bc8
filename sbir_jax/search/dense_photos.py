"""Masks and depth of many photos into a folder, one after the other.

    OUT/masks/PHOTO.png        0 for none, then the number of the word
    OUT/depth/PHOTO.png        16 bits, thousandths of the unit
    OUT/PHOTO.jpg              to look at
    OUT/photos.jsonl           a line for each photo that is done
    OUT/skipped.csv            photos that cannot be used, and why

The same command goes on where it was stopped. Files are renamed into place when whole,
and a photo's line comes after them.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from sbir_jax.data.image_files import BadImage
from sbir_jax.dense.depth_estimator import DepthEstimator
from sbir_jax.dense.painting import legend, paint_depth, paint_labels
from sbir_jax.dense.segmenter import Segmenter
from sbir_jax.dense.views import resized
from sbir_jax.runtime import checkpoint, schema
from sbir_jax.search import photos

SHOWN = 1600  # longest side of the pictures to look at
DONE, SKIPPED, SETTINGS = "photos.jsonl", "skipped.csv", "settings.json"


class Made(NamedTuple):
    """Of one photo: the exact result, a picture of it, and figures for its line."""

    exact: np.ndarray
    shown: np.ndarray
    says: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Line:
    path: str


class Summary(NamedTuple):
    """What was done."""

    made: int
    before: int
    skipped: list[tuple[str, str]]


def segment_photos(
    sources: Sequence[str],
    out: pathlib.Path,
    segmenter: Segmenter,
    words: Sequence[str],
) -> Summary:
    """Raises: ValueError for words that cannot be asked for; as `over`."""
    words = segmenter.checked(words)

    def one(path: str) -> Made:
        found = segmenter.segment(path, words)
        small = _smaller(found.photo)
        painted = paint_labels(small, found.labels, bare=(0,))
        there = [(i, w) for i, w in enumerate(words, 1) if found.shares[w] > 0]
        return Made(found.labels, legend(painted, there), {"shares": found.shares})

    return over(sources, out, "masks", one, {"words": list(words)})


def depth_photos(
    sources: Sequence[str], out: pathlib.Path, estimator: DepthEstimator, place: str
) -> Summary:
    """Raises: ValueError for a place that the run does not know; as `over`."""

    def one(path: str) -> Made:
        photo, depth = estimator.estimate(path, place)
        exact = np.clip(np.rint(1000 * depth), 0, 2**16 - 1).astype(np.uint16)
        small = _smaller(photo)
        painted = paint_depth(resized_depth(depth, small.shape[:2]))
        says = {"nearest": float(depth.min()), "farthest": float(depth.max())}
        both = np.concatenate([small, painted], axis=1)
        return Made(exact, both, says | {"unit": estimator.unit})

    return over(sources, out, "depth", one, {"place": place})


def _smaller(photo: np.ndarray) -> np.ndarray:
    ratio = min(1.0, SHOWN / max(photo.shape[:2]))
    size = tuple(max(1, round(n * ratio)) for n in photo.shape[:2])
    return resized(photo, size)  # pyright: ignore


def resized_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """By the nearest pixel."""
    rows, columns = (
        np.arange(new) * old // new for old, new in zip(depth.shape, size, strict=True)
    )
    return depth[rows[:, None], columns[None]]


def over(
    sources: Sequence[str],
    out: pathlib.Path,
    kind: str,
    one: Callable[[str], Made],
    settings: dict[str, Any],
) -> Summary:
    """Every photo of the sources that is not done yet.

    Raises: ValueError where the folder holds results made with other settings;
      FileNotFoundError as `photos.list_photos`.
    """
    listing = photos.list_photos(sources, avoid=out)
    _claim(out, {"kind": kind, **settings})
    names = _names([photo.path for photo in listing.photos])
    done = set(_done(out))
    skipped = [(path, reason) for path, reason in listing.skipped]
    waiting = [path for path in names if path not in done]
    (out / kind).mkdir(exist_ok=True)
    with (out / DONE).open("a", encoding="utf-8") as lines:
        for path in tqdm(waiting, desc=kind, unit="photo", dynamic_ncols=True):
            try:
                made = one(path)
            except BadImage as error:
                skipped.append((path, error.reason))
                continue
            _replace(out / kind / f"{names[path]}.png", _file(made.exact, "PNG"))
            _replace(out / f"{names[path]}.jpg", _file(made.shown, "JPEG"))
            line = {"path": path, "name": names[path], **made.says}
            lines.write(json.dumps(line, ensure_ascii=True) + "\n")
            lines.flush()
    _write_skipped(out, skipped)
    before = len(names) - len(waiting)
    bad = len(skipped) - len(listing.skipped)
    return Summary(len(waiting) - bad, before, skipped)


def _claim(out: pathlib.Path, settings: dict[str, Any]) -> None:
    path = out / SETTINGS
    if path.exists():
        remedy = "Delete it, or give another --out"
        found = schema.read_json(path, remedy)
        if found != settings:
            raise ValueError(
                f"{out} holds results of {found}, and these are of {settings}; give "
                "another --out"
            )
    else:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.write_own_json(path, settings)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A file name for each photo, the same at every call: its own, and for photos of
    one name in several folders a number behind."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = pathlib.Path(path).name.rsplit(".", 1)[0] or "photo"
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        found[path] = name
    return found


def _done(out: pathlib.Path) -> Iterator[str]:
    path = out / DONE
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        # Cut short by a kill, or damaged: that photo is made again.
        with contextlib.suppress(ValueError):
            yield schema.validated(_Line, schema.parsed(line), DONE).path


def _file(picture: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": 90} if form == "JPEG" else {}
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()


def _replace(path: pathlib.Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    os.replace(aside, path)


def _write_skipped(out: pathlib.Path, skipped: Sequence[tuple[str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("path", "reason"), *skipped])
    content = buffer.getvalue().encode("utf-8", "backslashreplace")
    _replace(out / SKIPPED, content)

"""An index without a network: photos lie on a grid, and a drawing finds those nearest
to where its ink is."""

import hashlib
import pathlib
import types
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sbir_jax.data import images
from sbir_jax.dense.segmenter import Masks
from sbir_jax.search.explain import Explanation, Match
from sbir_jax.search.opened import UnknownPhoto


def fake_masks(photo, words):
    """The first word on the left, the second on the right, others nowhere."""
    labels = np.ones(photo.shape[:2], np.uint8)
    labels[:, labels.shape[1] // 2 :] = min(len(words), 2)
    return Masks(photo, tuple(words), labels)


class Hit(NamedTuple):
    id: str
    path: str
    score: float
    above: float | None = None
    copies: tuple[str, ...] = ()


class FakeIndex:
    """36 photos, numbered row by row from top left. The word "far" turns the order."""

    embedder = types.SimpleNamespace(size=64)
    segment = staticmethod(fake_masks)
    reranker = None
    imagines = True  # as if opened with an imaginer

    def __init__(self, folder: pathlib.Path):
        self.paths = {}
        self.asked = b""  # the last drawing
        self.imagined = []  # what was asked to be imagined
        for i in range(36):
            place = folder / ("left" if i % 6 < 3 else "right")
            place.mkdir(exist_ok=True)
            path = place / f"photo{i:02}.png"
            picture = Image.new("RGB", (90, 60), f"hsl({i * 10}, 60%, 70%)")
            ImageDraw.Draw(picture).ellipse((30, 15, 60, 45), fill="white")
            picture.save(path)
            self.paths[hashlib.md5(path.name.encode()).hexdigest()[:16]] = str(path)

    def _ranked(self, x: float, y: float, far: bool) -> list[Hit]:
        hits = []
        for i, (name, path) in enumerate(self.paths.items()):
            gap = np.hypot((i % 6 + 0.5) / 6 - x, (i // 6 + 0.5) / 6 - y) / 1.5
            score = float(gap if far else 1 - gap)
            hits.append(Hit(name, path, score, 4 * score - 2, ("copy",) * (i == 7)))
        return sorted(hits, key=lambda hit: -hit.score)

    def search(
        self,
        sketch=None,
        text=None,
        k=20,
        min_score=None,
        text_weight=0.5,
        prepare=True,
        fold=True,
        folder="",
        rerank_text=0,
        rerank=0,
        modality="sketch",
    ):
        self.asked, self.reranked, self.closer = sketch, rerank_text, rerank
        self.modality = modality
        ink = np.zeros((64, 64))
        if sketch is not None:
            ink = 255.0 - images.decode(sketch, 64, "pad").mean(-1)
        ink += 1e-6  # an empty sheet has its centre in the middle
        y, x = ((np.indices(ink.shape) + 0.5) * ink).sum((1, 2)) / ink.sum() / 64
        hits = self._ranked(x, y, text is not None and "far" in text)
        hits = [hit for hit in hits if hit.path.startswith(folder)][:k]
        return [h for h in hits if min_score is None or h.score >= min_score]

    def imagine(self, sketch, text=None, seed=0, prepare=True):
        """Four sheets with ink in a corner each: top left, top right, ..."""
        self.imagined.append((sketch, text, seed, prepare))
        made = np.full((4, 64, 64, 3), 255, np.uint8)
        for i, (y, x) in enumerate(((2, 2), (2, 54), (54, 2), (54, 54))):
            made[i, y : y + 8, x : x + 8] = 0
        return made

    def folders(self):
        root = pathlib.Path(next(iter(self.paths.values()))).parent.parent
        return {str(root): 36, str(root / "left"): 18, str(root / "right"): 18}

    def similar(self, photo_id, k=20, fold=True, folder=""):
        self.photo(photo_id)
        i = list(self.paths).index(photo_id)
        hits = self._ranked((i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6, False)
        return [hit for hit in hits[1:] if hit.path.startswith(folder)][:k]

    def photo(self, photo_id):
        if photo_id not in self.paths:
            raise UnknownPhoto(photo_id)
        return self.paths[photo_id]

    def reload(self):
        return False

    def info(self):
        return {
            "path": "/private/index",
            "photos": 36,
            "dim": 2,
            "fingerprint": "f" * 64,
            "backend": "exact",
            "reranker": self.reranker is not None,
            "imaginer": self.imagines,
        }


def fake_explain(embedder, sketch, photo):
    """As `sbir_jax.search.explain.explain`, with one warm place in each picture."""
    heat = np.zeros((4, 4))
    heat[1, 1] = 0.5
    seen = [images.decode(source, 64, "pad") for source in (sketch, photo)]
    match = Match((0.4, 0.4), (0.6, 0.4), 0.9)
    return Explanation(0.5, *seen, heat, heat, [match])

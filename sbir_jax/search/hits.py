"""From scores and rows to what a person is shown: photos, how they stand, their copies.

Cosines of one model all lie close together ("0.92 to 0.97"), and another model's lie
elsewhere. What a person can read is how far a photo stands out of the others for the
same question; a sample of the gallery tells.
"""

import os
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from sbir_jax.search.opened import Opened

ENOUGH = 20  # photos; of fewer no spread is told
# Cosine of two photos' descriptors from which they count as copies: those saved anew or
# resized have 0.9999 (`tools.bench_copies`).
COPY = 0.9995
NEAR = 64  # photos before one in the ranking that it is compared with


class Hit(NamedTuple):
    """A photo that was found.

    Attributes:
      id: 16 hex digits, see `opened.photo_id`.
      score: the cosine, from -1 to 1, larger is nearer.
      above: how many standard deviations the score lies above the mean of all photos'
        for this question, estimated from a sample; None in an index of under 20.
      copies: paths of its copies, which are not shown for themselves.
    """

    id: str
    path: str
    score: float
    above: float | None = None
    copies: tuple[str, ...] = ()


def find(
    state: Opened,
    query: Float[np.ndarray, "1 d"],
    k: int,
    fold: bool,
    inside: str = "",
    without: int | None = None,
) -> list[Hit]:
    """The k photos nearest to a descriptor, best first.

    Args:
      fold: copies stand behind the best of them.
      inside: a folder; only photos below it.
      without: a row that is left out; with `fold` its copies are, too.
    """
    rows, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
    groups: list[list[int]] = []
    asked = k + (without is not None) + 16 * fold
    while True:
        if inside:
            scores, rows = _ranked_inside(state, query[0], inside)
        else:
            found, places = state.backend.search(query, asked)
            scores, rows = found[0], places[0]
        groups = _folded(state, rows) if fold else [[i] for i in range(len(rows))]
        groups = [g for g in groups if without is None or without not in rows[g]]
        if inside or len(groups) >= k or len(rows) < asked:
            break
        asked *= 4
    above = standing(state.sample @ query[0], scores)
    numbers = rows.tolist()
    return [
        Hit(
            state.id(numbers[first]),
            state.path(numbers[first]),
            float(scores[first]),
            None if above is None else float(above[first]),
            tuple(state.path(numbers[i]) for i in copies),
        )
        for first, *copies in groups[:k]
    ]


def standing(
    sample: Float[np.ndarray, " m"], scores: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"] | None:
    """Scores as standard deviations above a sample's mean; None for a small one."""
    if len(sample) < ENOUGH or sample.std() < 1e-6:
        return None
    return (scores - sample.mean()) / sample.std()


def _folded(state: Opened, rows: Int[np.ndarray, " n"]) -> list[list[int]]:
    """Places in a ranking by copies: same contents, or all but the same descriptor.

    Equal descriptors have equal scores, so neighbours in the ranking are compared.
    """
    groups: list[list[int]] = []
    by_content: dict[str, list[int]] = {}
    leaders = np.zeros((0, state.snapshot.head.dim), np.float32)
    for place, row in enumerate(rows.tolist()):
        content = state.content(row)
        own = state.snapshot.descriptor(row).astype(np.float32)
        group = by_content.get(content)
        if group is None and len(leaders):
            alike = leaders @ own
            nearest = int(alike.argmax())
            if alike[nearest] >= COPY:
                group = groups[len(groups) - len(leaders) + nearest]
        if group is None:
            group = []
            groups.append(group)
            leaders = np.concatenate([leaders, own[None]])[-NEAR:]
        by_content[content] = group
        group.append(place)
    return groups


def _ranked_inside(
    state: Opened, query: Float[np.ndarray, " d"], folder: str
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """All photos below a folder, which has some: no graph can be asked for them."""
    rows = np.flatnonzero(below(state, folder) & state.snapshot.alive)
    size, found = state.snapshot.head.shard_rows, state.snapshot.descriptors
    parts = np.split(rows, np.flatnonzero(np.diff(rows // size)) + 1)
    scores = np.concatenate(
        [
            found[part[0] // size][part % size].astype(np.float32) @ query
            for part in parts
        ]
    )
    order = np.argsort(-scores, kind="stable")
    return scores[order], rows[order]


def below(state: Opened, folder: str) -> Bool[np.ndarray, " rows"]:
    """Which rows' photos lie below a folder, an absolute path."""
    start = folder.rstrip(os.sep) + os.sep
    found = pc.call_function(
        "starts_with",
        [state.snapshot.table["path"]],
        pc.MatchSubstringOptions(start),
    )
    return found.to_numpy()


def folder_inside(state: Opened, folder: str | os.PathLike, index: str) -> str:
    """A folder as the paths of the index have it; "" for all.

    Args:
      index: its folder, for errors.
    Raises: ValueError for a folder without photos.
    """
    text = os.fspath(folder)
    if not text:
        return ""
    inside = text if "://" in text else os.path.abspath(os.path.expanduser(text))
    if not (below(state, inside) & state.snapshot.alive).any():
        raise ValueError(
            f"{index} has no photo below {inside}; give a folder that was indexed, or "
            "one inside of it"
        )
    return inside

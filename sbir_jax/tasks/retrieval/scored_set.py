"""The data set that a run is scored on, and where its report goes."""

import hashlib
import json
import pathlib
from typing import Any

from sbir_jax import data
from sbir_jax.data import sketchy
from sbir_jax.data.tree import normal_name
from sbir_jax.features import Task
from sbir_jax.runtime import schema
from sbir_jax.tasks.retrieval.setup import Scoring


def scored_on(
    score: Scoring, dataset: data.Dataset, task: Task
) -> tuple[data.Dataset, tuple[str, ...]]:
    """The data set to score on, and its classes that training has not seen.

    Raises: ValueError where no class is left, or by category but one, or for a data
      set that is not known; DataError as `data.load`.
    """
    dataset, unseen = _chosen(score, dataset, task)
    return (dataset.with_prepared_sketches() if score.prepare else dataset), unseen


def _chosen(
    score: Scoring, dataset: data.Dataset, task: Task
) -> tuple[data.Dataset, tuple[str, ...]]:
    if not score.name:
        _enough(dataset.unseen, dataset.name, task, "data.unseen")
        return dataset, dataset.unseen
    if score.name not in data.NAMES:
        raise ValueError(
            f"score.name is {score.name!r}; give one of {', '.join(data.NAMES)}, or "
            "nothing for the data set that is trained on"
        )
    photos = score.photos
    if score.name == "sketchy":
        photos = photos or sketchy.photos_for(task)
    options: dict[str, Any] = {"photos": photos} if photos else {}
    if score.unseen or score.name == "folder":
        # Of a folder nothing was trained on, so all of its classes can be asked.
        options["unseen"] = score.unseen or []
    try:
        other = data.load(score.name, score.root, score.split, **options)
    except data.DataError as error:
        raise data.DataError(f"score.name={score.name}: {error}") from error
    named = other.unseen if score.unseen or score.name != "folder" else other.seen
    seen = {_letters(name) for name in dataset.seen + dataset.val}
    unseen = tuple(
        name for name in named if name in other.drawn and _letters(name) not in seen
    )
    if not unseen:
        raise ValueError(
            f"score: all {len(named)} unseen classes of {other.name} were "
            f"seen in training on {dataset.name}; give another split, or score.unseen"
        )
    _enough(unseen, other.name, task, "score.unseen")
    return other, unseen


def _enough(unseen: tuple[str, ...], name: str, task: Task, key: str) -> None:
    if not unseen:
        raise ValueError(
            f"{name} has no unseen class to score; name some in {key}, or give another "
            "data set in score.name"
        )
    if task == "category" and len(unseen) == 1:
        raise ValueError(
            f"{unseen[0]} is the only unseen class of {name}: among photos of one "
            f"class every ranking is right; name two or more in {key}, or give "
            "task=fine_grained"
        )


def folder(workdir: pathlib.Path | None, score: Scoring) -> str:
    """Where the report of a scoring goes, below the run folder.

    The first scoring of a kind has the plain name; one that differs from it in root,
    cutoffs or classes only has a folder of its own beside it.
    """
    if workdir is None:
        return score.folder
    report = workdir / score.folder / "report.json"
    if not report.exists():
        return score.folder
    there = schema.read_json(report, "Delete it; it is written again")
    there = there.get("config", {}).get("score", {})
    own = {
        "root": str(pathlib.Path(score.root).expanduser().resolve()) * bool(score.root),
        "cutoffs": list(score.cutoffs),
        "unseen": score.unseen,
    }
    theirs = {
        "root": there.get("root", ""),
        "cutoffs": there.get("cutoffs"),
        "unseen": there.get("unseen", ""),
    }
    if theirs["root"]:
        theirs["root"] = str(pathlib.Path(theirs["root"]).expanduser().resolve())
    if own == theirs:
        return score.folder
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]
    plain = "scores/own" if score.folder == "." else score.folder
    return f"{plain}-{digest}"


def _letters(name: str) -> str:
    """`hot-dog` of one data set is the `hotdog` of another."""
    return "".join(filter(str.isalnum, normal_name(name)))

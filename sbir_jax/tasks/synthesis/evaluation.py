"""How well pictures follow drawings, beside words alone and the simplest rival."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from sbir_jax.backbones.diffusers_files import TOYBOX
from sbir_jax.data.dataset import Dataset
from sbir_jax.metrics import generation
from sbir_jax.models import judge as judges
from sbir_jax.report.sections import Grid, Section, Table
from sbir_jax.runtime import multiprocess
from sbir_jax.tasks.base import Evaluation, Result
from sbir_jax.tasks.synthesis.imaginer import Imaginer
from sbir_jax.tasks.synthesis.pairs import Pairs
from sbir_jax.types import Metric

METRICS = (
    Metric("edge F", "mean F of edges and strokes, within 1/32 of a side"),
    Metric("class accuracy", "share of pictures in which the judge sees the class"),
    Metric(
        "diversity", "mean distance of the judge's features of one drawing's pictures"
    ),
    Metric(
        "Fréchet distance",
        "of the judge's features of pictures and of the photos drawn; no FID of the "
        "literature, which is in Inception's features",
        "lower",
    ),
    Metric("precision", "share of pictures among the photos, k = 3, judge's features"),
    Metric("recall", "share of photos among the pictures, k = 3, judge's features"),
)
# The simplest rival: begin with the noised drawing itself (Meng et al., SDEdit, 2022).
STRENGTH = 0.8
Judge = Callable[[np.ndarray], judges.Judged]
ROWS = {
    "frozen": "words alone",
    "sdedit": "words, begun with the noised drawing",
    "drawing": "drawing alone",
    "learned": "drawing and words",
    "shuffled": "words and another thing's drawing",
}
SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Group:
    """One group of pairs, with words, and pictures made of them.

    Attributes:
      sketches, photos: uint8 [n h w 3].
      texts: captions of the photos.
      pictures: by row of the table, [seeds n h w 3].
    """

    sketches: np.ndarray
    photos: np.ndarray
    classes: list[str]
    texts: list[str]
    pictures: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def evaluate(task: Any, trained: Any) -> Evaluation:
    """Rows of `ROWS` on things of seen classes and on unseen classes, which count."""
    imaginer = Imaginer(task.loaded, trained, task.setup.sampling)
    score, judge, found, kept = task.setup.score, judge_of(task), {}, {}
    for name in ("seen", "unseen"):
        pairs = getattr(task.groups, name).some(score.sketches)
        kept[name] = read_group(task.dataset, pairs, imaginer.size)
        draw_rows(imaginer, kept[name], score.seeds)
        found[name] = scored(kept[name], judge)
    results = [Result(row, found["unseen"][row]) for row in ROWS]
    there = [m for m in METRICS if m.name in found["unseen"]["learned"]]
    facts = {
        "benchmark": task.dataset.name,
        "seen": found["seen"],
        "rows": ROWS,
        "sampling": dataclasses.asdict(task.setup.sampling),
        "queries": len(kept["unseen"].sketches),
        "seeds": score.seeds,
    }
    return Evaluation(results, there, "edge F", facts=facts, kept=(kept, found))


def read_group(dataset: Dataset, pairs: Pairs, size: int) -> Group:
    """Pairs of which nothing is made yet, at `size` pixels a side."""
    sketches = dataset.sketches.pixels(pairs.sketches, size)
    photos = dataset.photos.pixels(pairs.photos, size)
    classes = [dataset.classes[label] for label in dataset.photos.labels[pairs.photos]]
    texts = [dataset.photos.captions[row] for row in pairs.photos]
    if not any(texts):  # a data set without captions still knows its classes
        texts = [f"a photo of a {name}" for name in classes]
    return Group(sketches, photos, classes, texts)


def draw_rows(imaginer: Imaginer, group: Group, seeds: int) -> None:
    """Puts the pictures of every row of `ROWS` into the group."""
    sketches, texts = group.sketches, group.texts
    others = np.roll(sketches, len(sketches) // 2, axis=0)
    draw = {
        "frozen": lambda seed: imaginer.imagine(None, texts, seed),
        "sdedit": lambda seed: imaginer.redraw(sketches, texts, STRENGTH, seed),
        "drawing": lambda seed: imaginer.imagine(sketches, None, seed),
        "learned": lambda seed: imaginer.imagine(sketches, texts, seed),
        "shuffled": lambda seed: imaginer.imagine(others, texts, seed),
    }
    pictures: dict[str, list[np.ndarray]] = {row: [] for row in ROWS}
    todo = list(itertools.product(range(seeds), ROWS))
    for seed, row in tqdm(
        todo, "draw", unit="set", disable=not multiprocess.is_first()
    ):
        pictures[row].append(draw[row](seed))
    group.pictures.update({row: np.stack(some) for row, some in pictures.items()})


def scored(group: Group, judge: Judge | None) -> dict[str, dict[str, float]]:
    """`METRICS` of the pictures of each row; without a judge the first alone."""
    strokes, real = generation.strokes(group.sketches), judge and judge(group.photos)
    features = real and real.features
    return {
        row: figures(made, strokes) | judged(group, row, judge, features)
        for row, made in group.pictures.items()
    }


def judge_of(task: Any) -> Judge | None:
    """The judge, where it knows every class of the data set."""
    folder = TOYBOX.with_name("toybox_judge")
    if not folder.is_dir():
        return None
    config, params = judges.load_judge(folder)
    known = set(task.dataset.classes) <= set(config.categories)
    return functools.partial(judges.judge, config, params) if known else None


def figures(pictures: np.ndarray, strokes: np.ndarray) -> dict[str, float]:
    """The mean over all pictures of a row; strokes are of each of n drawings."""
    flat = pictures.reshape(-1, *pictures.shape[2:])
    each = np.tile(strokes, (len(pictures), 1, 1))
    agreed = generation.edge_agreement(generation.edges(flat), each)
    return {"edge F": float(agreed["F"].mean())}


def judged(
    group: Group, row: str, judge: Judge | None, real: np.ndarray | None
) -> dict[str, float]:
    """What the judge says of a row's pictures; nothing without one.

    Args:
      real: its features of the group's photos.
    """
    if judge is None or real is None:
        return {}
    pictures = group.pictures[row]
    seeds, n = pictures.shape[:2]
    said = judge(pictures.reshape(-1, *pictures.shape[2:]))
    right, made = (
        np.array(said.things) == np.array(group.classes * seeds),
        said.features,
    )
    found = {
        "class accuracy": float(right.mean()),
        "diversity": generation.diversity(made.reshape(seeds, n, -1).swapaxes(0, 1)),
        "Fréchet distance": generation.frechet(made, real),
    }
    if n > 3:
        found["precision"] = generation.coverage(real, made)
        found["recall"] = generation.coverage(made, real)
    return found


def sections(found: Evaluation) -> list[Section]:
    """A table for each group, and some drawings with what was made of them."""
    kept, figures = found.kept
    names = [metric.name for metric in found.metrics]
    tables = [
        Table(
            f"{title}, {len(kept[name].sketches)} drawings",
            ["made from", *names],
            [[ROWS[row], *(figures[name][row][m] for m in names)] for row in ROWS],
        )
        for name, title in (
            ("unseen", "Unseen classes"),
            ("seen", "Unseen things of seen classes"),
        )
    ]
    group = kept["unseen"]
    count = min(SHOWN, len(group.sketches))
    pictures, captions = [], []
    for i in range(count):
        pictures += [group.sketches[i], group.photos[i]]
        captions += ["drawing", f"its photo: {group.classes[i]}"]
        for row in ROWS:
            pictures.append(group.pictures[row][0, i])
            captions.append(ROWS[row])
    grid = Grid("What is made of a drawing", pictures, captions, len(ROWS) + 2)
    return [*tables, grid]

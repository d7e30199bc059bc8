"""Studies of layers, timesteps, copies, pooling, prompts and data, as in the paper.

    python -m tools.study layers --config configs/toybox.py --workdir runs/study

| study | its axis, `--values` | what it does |
|---|---|---|
| `layers` | timesteps | every layer of `--taps` alone, and the paper's pairs |
| `copies` | noise copies | the config's layers, one noise bank a seed |
| `pooling` | max, mean, max:2 (in 2 x 2 cells) | likewise |
| `dtype` | float32, bfloat16 | likewise, with networks of that type |
| `pca` | timesteps | layers of a sketch beside its photo, in shared colours |
| `border` | widths in pixels | trains prompts, a run for each width and seed |
| `parts` | both, frame, text, none | likewise |
| `share` | of each seen class, 0.1 to 1 | likewise |

Any config and its overrides go; with `--run`, a run folder of that config, the first
five take its learned prompts. What a study is to CHOOSE must be chosen on held-out
seen classes, which are scored unless `--classes=unseen` is given. Finished cells stay,
so a stopped study goes on; those of other weights, data or recipes are not mixed in.
"""

import dataclasses
import fnmatch
import functools
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
from absl import app, flags, logging

from sbir_jax.backbones import loading
from sbir_jax.config import Experiment
from sbir_jax.features import Recipe
from sbir_jax.main import FLAGS
from sbir_jax.runtime import checkpoint, hardware
from tools import study_frozen, study_pca, study_sweep, study_train
from tools.study_sweep import CLASSES, Bench

flags.DEFINE_list("values", None, "Values of the study's axis; its own by default.")
flags.DEFINE_list("taps", None, "Layers, or patterns such as up.*.attn.*")
flags.DEFINE_list("seeds", None, "Seeds of the noise, or of training; 0,1,2.")
flags.DEFINE_enum("classes", "val", list(CLASSES), "val to choose, unseen to report.")
flags.DEFINE_string("run", None, "Run folder whose learned prompts are taken.")
flags.DEFINE_integer("limit", 0, "At most so many sketches, and photos (pca: pairs).")


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of a study; None and 0 stand for its own defaults."""

    values: list[str] | None = None
    taps: list[str] | None = None
    seeds: list[str] | None = None
    classes: str = "val"
    run: str | None = None
    limit: int = 0


@dataclasses.dataclass(frozen=True)
class Job:
    """A study that was asked for."""

    name: str
    config: ml_collections.ConfigDict
    setup: Experiment
    workdir: pathlib.Path
    options: Options

    @property
    def picture(self) -> pathlib.Path:
        words = [self.name, self.setup.data["name"], self.setup.task]
        words += [self.options.classes, *(["learned"] if self.options.run else [])]
        return self.workdir / ("-".join(words) + ".png")

    @functools.cached_property
    def bench(self) -> Bench:
        return self.open(self.setup.dtype)

    def open(self, dtype: str) -> Bench:
        given, setup = self.options, dataclasses.replace(self.setup, dtype=dtype)
        run = pathlib.Path(given.run) if given.run else None
        # Of a picture the limit is the number of pairs, drawn from all.
        limit = 0 if self.name == "pca" else given.limit
        return study_sweep.open_bench(setup, self.workdir, given.classes, run, limit)

    def axis(self, what: str, kind: Callable[[str], Any]) -> list:
        values = self.options.values or STUDIES[self.name].values.split(",")
        return parse(values, what, kind)

    def seeds(self) -> list[int]:
        given = self.options.seeds or ["0", "1", "2"]
        return parse(given, "a seed, 0 or more", number(0, 2**31))

    def timesteps(self) -> list[int]:
        last = self.bench.loaded.backbone.schedule.timesteps - 1
        return self.axis(f"a timestep, 0 to {last}", number(0, last))

    def taps(self) -> tuple[str, ...]:
        known = self.bench.loaded.backbone.tap_names
        return find_taps(known, self.options.taps or usual_taps(known))


def parse(values: Sequence[str], what: str, kind: Callable[[str], Any]) -> list:
    """The values as `kind` reads them, in their order, none twice.

    Raises: ValueError naming the one that it cannot read.
    """
    found = []
    for value in values:
        try:
            found.append(kind(value.strip()))
        except (ValueError, KeyError):
            raise ValueError(
                f"{value!r} is not {what}; give some, with commas"
            ) from None
    return list(dict.fromkeys(found))


def number(low: float, high: float, kind: type = int) -> Callable[[str], Any]:
    """A reader of numbers from `low` to `high`."""

    def read(text: str):
        value = kind(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return read


def pooling(text: str) -> tuple[str, int]:
    """ "max:2" as ("max", 2)."""
    name, _, grid = text.partition(":")
    recipe = Recipe(("out",), pooling=name, grid=int(grid or 1))
    return recipe.pooling, recipe.grid


def usual_taps(known: Sequence[str]) -> list[str]:
    """What is studied where no layers are named: the ends of a UNet's decoder blocks,
    or what each block of a transformer attends from."""
    return [p for p in ("up.*.out", "block.*.modulated") if fnmatch.filter(known, p)]


def find_taps(known: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The layers that match any of the patterns, in the order of `known`.

    Raises: ValueError for a pattern that matches none, listing all layers.
    """
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"no layer is {pattern!r}; there are {', '.join(known)}")
    return tuple(n for n in known if any(fnmatch.fnmatch(n, p) for p in patterns))


def layers(job: Job):
    taps, axis = job.taps(), job.timesteps()
    return study_frozen.layers(job.bench, job.setup.recipe, taps, axis, job.picture)


def copies(job: Job):
    axis = job.axis("a number of copies, 1 or more", number(1, 10**4))
    changes = {str(n): {"copies": n} for n in axis}
    return _reductions(job, changes, "noise copies")


def poolings(job: Job):
    axis = job.axis("max, mean, or with a grid max:2", pooling)
    changes = {
        f"{kind}, {n} x {n}" if n > 1 else kind: {"pooling": kind, "grid": n}
        for kind, n in axis
    }
    return _reductions(job, changes, "pooling")


def dtypes(job: Job):
    names = job.axis("float32 or bfloat16", hardware.dtype_name)
    benches = {name: job.open(name) for name in names}
    return study_frozen.dtypes(benches, job.setup.recipe, job.seeds(), job.picture)


def _reductions(job: Job, changes: dict[str, dict[str, Any]], axis: str):
    recipe, seeds = job.setup.recipe, job.seeds()
    return study_frozen.reductions(job.bench, recipe, changes, seeds, axis, job.picture)


def pca(job: Job):
    taps, axis, count = job.taps(), job.timesteps(), job.options.limit or 3
    return study_pca.draw(job.bench, job.setup.recipe, taps, axis, count, job.picture)


def border(job: Job):
    # No parameters are loaded for this.
    native = loading.load_backbone(job.setup.backbone, parts=()).backbone.image_size
    size = job.setup.image_size or native
    values = job.options.values or [str(w) for w in study_train.widths(size)]
    most = (size - 1) // 2
    what = f"a width in pixels, 1 to {most}"
    return _trained(job, parse(values, what, number(1, most)))


def parts(job: Job):
    known = study_train.PARTS
    what = f"one of {', '.join(known)}"
    return _trained(job, job.axis(what, lambda text: (known[text], text)[1]))


def share(job: Job):
    what = "a share of each seen class, above 0 and at most 1"
    return _trained(job, job.axis(what, number(1e-6, 1.0, float)))


def _trained(job: Job, values: list):
    return study_train.trained(
        job.config,
        job.name,
        values,
        job.seeds(),
        job.workdir,
        job.options.classes,
        job.picture,
    )


@dataclasses.dataclass(frozen=True)
class Study:
    """What does it, the values of its axis by default, and the flags it heeds."""

    work: Callable[[Job], tuple[list[dict], str]]
    values: str
    heeds: tuple[str, ...]


SWEPT, REDUCED = ("taps", "run", "limit"), ("seeds", "run", "limit")
STUDIES = {
    # The points of the paper's plot.
    "layers": Study(layers, "0,100,200,273,400,500,600,700,800,900", SWEPT),
    "copies": Study(copies, "1,2,4,6,8", REDUCED),
    "pooling": Study(poolings, "max,mean,max:2,mean:2", REDUCED),
    "dtype": Study(dtypes, "float32,bfloat16", REDUCED),
    "pca": Study(pca, "0,100,273,500,800", SWEPT),
    "border": Study(border, "", ("seeds",)),  # the paper's, scaled from 512 px
    "parts": Study(parts, ",".join(study_train.PARTS), ("seeds",)),
    "share": Study(share, "0.1,0.3,0.5,0.7,1", ("seeds",)),
}


def run(
    name: str,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    options: Options,
    command: str = "",
) -> str:
    """Does one study, or goes on with it, draws it, and writes its cells as JSON.

    Returns: one line that says what was found and where it is.
    Raises: ValueError for settings that cannot be; FileNotFoundError for data, weights
      or a run that are not there.
    """
    if name not in STUDIES:
        raise ValueError(f"study {name!r}; there are {', '.join(STUDIES)}")
    for flag in ("taps", "seeds", "run", "limit"):
        if getattr(options, flag) and flag not in STUDIES[name].heeds:
            raise ValueError(f"study {name} has no use for --{flag}; leave it out")
    begin = time.perf_counter()
    setup = Experiment.from_config(config)
    job = Job(name, config, setup, workdir, options)
    workdir.mkdir(parents=True, exist_ok=True)
    cells, says = STUDIES[name].work(job)
    seconds = time.perf_counter() - begin
    table = job.picture.with_suffix(".json")
    summary = {
        "study": name,
        "classes": CLASSES[options.classes],
        "cells": cells,
        "seconds": round(seconds, 1),  # of what was not kept from before
        "hardware": f"{jax.devices()[0].device_kind} x{jax.device_count()}",
        "command": command or None,
        "config": setup.to_json(),
    }
    if name in ("layers", "copies", "pooling", "dtype"):
        summary["protocol"] = job.bench.protocol.summary()
        summary["chance"] = study_sweep.chance(job.bench)
    checkpoint.write_json(table, summary)
    return f"{name}: {says}  ({seconds:.0f} s)  {table}, {job.picture.name}"


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError(f"name one study of {', '.join(STUDIES)}")
    hardware.keep_programs()
    names = [field.name for field in dataclasses.fields(Options)]
    options = Options(**{name: getattr(FLAGS, name) for name in names})
    command = shlex.join(["python", "-m", "tools.study", *sys.argv[1:]])
    try:
        says = run(argv[1], FLAGS.config, pathlib.Path(FLAGS.workdir), options, command)
    except (ValueError, FileNotFoundError, FloatingPointError, TypeError) as error:
        logging.debug("", exc_info=True)
        sys.exit(f"\n{type(error).__name__}: {error}")
    print(says)


if __name__ == "__main__":
    app.run(main)

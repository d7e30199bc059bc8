"""One run, from a config to a report: open it, train or resume, evaluate, show.

Running the same config into the same folder again goes on where it stopped, and
re-scores a finished run from its cached descriptors.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import filelock
import jax
from absl import logging
from clu import parameter_overview

from sbir_jax import tasks
from sbir_jax.backbones import loading
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import lasting_name
from sbir_jax.config import Experiment
from sbir_jax.report import writing
from sbir_jax.runtime import (
    checkpoint,
    metric_writer,
    multiprocess,
    schema,
    sharding,
)
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.tasks.base import Evaluation, Resources, Task
from sbir_jax.train import train

LOCK = "lock"


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run with all that it needs; nothing is written before `go`.

    Attributes:
      setup: the config of its task, with image size and compute type filled in.
      task: that is trained and scored.
      given: data set, backbone, devices and folder.
      seconds: what opening took.
    """

    setup: Any
    task: Task
    given: Resources
    seconds: float

    def go(self, command: str = "") -> dict[str, Any]:
        """Trains or goes on, evaluates, and writes the report.

        Args:
          command: what the user typed, for the report.
        Returns: what it wrote to `report.json`.
        Raises: ValueError where the folder belongs to another run or another process
          uses it; FloatingPointError as `train`.
        """
        folder = self.given.folder
        if folder is None:
            raise ValueError("this run was opened without a folder; give it one to go")
        with locked(folder):
            self._claim(folder)
            begin, waiting = time.perf_counter(), Waiting()
            start = self.task.init(jax.random.key(self.setup.train.seed))
            leaves = checkpoint.named(start)
            table = parameter_overview.get_parameter_overview(leaves)
            logging.info("%s:\n%s", self.task.saved_as, table)
            learned, step = train(
                self.task, folder, mesh=self.given.mesh, waiting=waiting
            )
            trained = time.perf_counter()
            found = self.task.evaluate(learned)
            scored = time.perf_counter()
            timing = {
                "load_seconds": round(self.seconds, 2),
                "train_seconds": round(trained - begin, 2),
                "embed_and_score_seconds": round(scored - trained, 2),
                "total_seconds": round(scored - begin + self.seconds, 2),
                # Of the time in the loop, how much it waited for its batches.
                "train_waiting_share": round(waiting.share, 4),
            }
            summary = self._summary(found, step, timing, command)
            if multiprocess.is_first():
                self._report(found, summary)
            multiprocess.barrier("report")
        return summary

    def _claim(self, folder: pathlib.Path) -> None:
        resolved = self.setup.to_json()
        # Where the data and the backbone lie may change; what they are may not.
        moving = type(self.setup).MOVING
        owner = {key: value for key, value in resolved.items() if key not in moving}
        if self.given.loaded is not None:
            owner["backbone"] = self.given.loaded.backbone.fingerprint
        checkpoint.claim(folder, owner | self.task.identity())
        checkpoint.write_json(folder / "config.json", resolved)

    def _summary(
        self, found: Evaluation, step: int, timing: dict[str, float], command: str
    ) -> dict[str, Any]:
        assert self.given.folder is not None
        what, steps = self.task.saved_as, self.setup.train.steps
        kept = f"Kept: {what} of step {step} of {steps}"
        if self.task.validates:
            kept += f", best in {self.task.metric.name} on {self.task.held_out}"
        facts, page = dict(found.facts), self.given.folder / found.folder
        definitions = {metric.name: metric.definition for metric in found.metrics}
        return {
            "primary": found.primary,
            "results": [dataclasses.asdict(result) for result in found.results],
            "metrics": {
                metric.name: {"better": metric.better, "unit": metric.unit}
                for metric in found.metrics
            },
            "definitions": definitions | facts.pop("definitions", {}),
            "kept_step": step,
            "timing": timing | facts.pop("timing", {}),
            "hardware": f"{jax.devices()[0].device_kind} x{jax.device_count()}",
            "command": command or None,
            "page": str(page / "report.html"),
            "config": self.setup.to_json(),
            "notes": [*found.notes, kept],
            **facts,
        }

    def _report(self, found: Evaluation, summary: dict[str, Any]) -> None:
        assert self.given.folder is not None
        folder = self.given.folder
        out, history = folder / found.folder, metric_writer.read(folder)
        sections = self.task.sections(found)
        writing.write_report(out, summary, sections, history, self.task.words)
        texts = self.task.texts(summary).items()
        writing.replace_together(out, {name: text.encode() for name, text in texts})


def open(
    setup: Experiment,
    folder: pathlib.Path | None = None,
    taps: tuple[str, ...] = (),
) -> Run:
    """Loads what a run needs and finds whatever is wrong with it; writes nothing.

    Args:
      folder: of the run; None to have its parts only.
      taps: layers that must be there beside those that the task reads.
    Raises: ValueError for settings that cannot work, saying what to change;
      FileNotFoundError for data or weights that are not there, saying where to get
      them.
    """
    begin, kind = time.perf_counter(), tasks.find(setup.task)
    with multiprocess.first_goes_ahead():
        dataset = kind.load_data(setup)
    local = sharding.make_mesh(setup.model_shards, jax.local_devices())
    dtype = setup.dtype or _dtype_of(folder)
    read = {"taps": taps} if taps else {}
    loaded: LoadedBackbone | None = kind.load_backbone(setup, local, dtype, **read)
    size = setup.image_size
    if loaded is not None:
        if setup.random_weights:
            loaded = loading.random_backbone(loaded, seed=setup.train.seed)
        size = loaded.backbone.checked_size(size)
        dtype = loaded.backbone.dtype.name
    setup = dataclasses.replace(
        setup,
        image_size=size,
        dtype=dtype,
        backbone=lasting_name(setup.backbone, "toybox"),
        encoder=lasting_name(setup.encoder, "tiny"),
    )
    mesh = sharding.make_mesh(setup.model_shards)
    given = Resources(setup, dataset, loaded, size, mesh, local, folder)
    return Run(setup, kind(given), given, time.perf_counter() - begin)


def _dtype_of(folder: pathlib.Path | None) -> str:
    """What the run in a folder computes in; "" where there is none yet."""
    if folder is None or not (folder / "config.json").exists():
        return ""
    return schema.read_json(folder / "config.json").get("dtype", "float32")


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """The folder for one run at a time; of several processes the first one locks it.

    Raises: ValueError where another run has it.
    """
    lock, free = filelock.FileLock(folder / LOCK), True
    if multiprocess.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            free = False
    try:
        if not multiprocess.as_first_says(free):
            raise ValueError(
                f"another run is at work in {folder}; wait until it is done, end it, "
                "or give another --workdir"
            )
        yield
    finally:
        lock.release()

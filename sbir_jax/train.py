"""The training loop of every task; the backbone is an argument and stays as it is."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm.auto import tqdm

from sbir_jax.adapters import parts
from sbir_jax.runtime import checkpoint, multiprocess, sharding, stops
from sbir_jax.runtime.metric_writer import MetricWriter
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.tasks.base import Task
from sbir_jax.train_step import Best, Measured, Step, TrainState, new_state


def train(
    task: Task,
    workdir: pathlib.Path,
    *,
    mesh: Mesh | None = None,
    waiting: Waiting | None = None,
    optimiser: optax.GradientTransformation | None = None,
    ema: float = 0.0,
    minutes: float = 0.0,
) -> tuple[Any, int]:
    """Trains from the last checkpoint of `workdir`, or from what the task begins with.

    Of several processes each reads its share of every batch, and the first one writes
    into `workdir`, which all of them see.

    Args:
      mesh: the devices of all processes (`sharding.make_mesh`).
      waiting: is told how long the loop waited for batches.
      optimiser: in place of the config's. Beside gradients it is given `progress`, how
        much of the training was done before this step, from 0 to 1.
      ema: above 0, how slowly a moving average of what is trained follows it; the
        average is then what is scored and kept.
      minutes: above 0, how long all runs into `workdir` train together; they and not
        the config's steps are then the end.
    Returns: what was learned, and the step it is of.
    Raises: FloatingPointError at the first step whose loss, gradient or new parameters
      are not finite, before anything of it is saved; Stopped on SIGINT and SIGTERM,
      after a save; DiskFull where the disk is full. Each says what is kept.
    """
    loop = Loop(task, workdir, mesh, optimiser, ema, minutes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stops.told_where_full(workdir, "its checkpoints are whole"))
        manager = stack.enter_context(checkpoint.manager(workdir))
        state = loop.restore(manager)
        begin = int(state.step)
        if loop.clock.progress(begin) >= 1:
            return loop.kept(state)
        writer = stack.enter_context(contextlib.closing(MetricWriter(workdir, begin)))
        waiting = stack.enter_context(waiting or Waiting())
        stopped = stack.enter_context(stops.caught())
        state, whole = loop.run(state, manager, writer, waiting, stopped)
        manager.wait_until_finished()
    if not whole:
        raise stops.Stopped(
            f"stopped after step {int(state.step)}, which is saved in {workdir}; the "
            "same command goes on from there"
        )
    task.finish()
    return loop.kept(state)


class Clock:
    """How much of a training is done, by its steps or by the time of all its runs."""

    def __init__(self, steps: int, minutes: float):
        self._steps, self._minutes = steps, minutes
        self._before, self._begun = 0.0, time.monotonic()

    def go_on(self, seconds: float) -> None:
        """From here; earlier runs took so many seconds."""
        self._before, self._begun = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._begun

    def progress(self, step: int) -> float:
        """From 0; the end is at 1. Of several processes all get what the first has."""
        if not self._minutes:
            return step / self._steps
        millionths = round(1e6 * self.seconds / (60 * self._minutes))
        return multiprocess.smallest(millionths) / 1e6


class Loop:
    """What is the same in all steps, and what was measured since the last log."""

    def __init__(
        self,
        task: Task,
        workdir: pathlib.Path,
        mesh: Mesh | None,
        optimiser: optax.GradientTransformation | None,
        ema: float,
        minutes: float,
    ):
        self.task, self.config, self.workdir = task, task.config, workdir
        self.mesh = mesh or sharding.make_mesh()
        trained, fixed = task.init(jax.random.key(self.config.seed)), None
        if task.parts is not None:
            trained, fixed = parts.split(trained, task.parts)
        self.fixed = sharding.place_whole(fixed, self.mesh)
        self.frozen = task.frozen(self.mesh)
        self._own = optimiser is None  # its schedule is known
        optimiser = optimiser or self.config.optimiser()
        # Copies: the state is donated at every step, and the caller keeps its own.
        state = new_state(trained, optimiser, task.metric.worst, ema > 0, minutes > 0)
        self._first = sharding.place_whole(state, self.mesh)
        out = sharding.replicated(self.mesh)
        self._step = Step(task.loss, optimiser, self.config.seed, ema, out)
        self.clock, self.minutes = Clock(self.config.steps, minutes), minutes
        self._done = 0  # steps before the next one
        self._groups = 0  # not known before the first batch
        self._measured: list[Measured] = []

    def run(
        self,
        state: TrainState,
        manager: Any,
        writer: MetricWriter,
        waiting: Waiting,
        stopped: stops.Caught,
    ) -> tuple[TrainState, bool]:
        """The last state, and whether no signal came before the end."""
        begin, task = int(state.step), self.task
        if task.validates and not self.scored(state):
            # Training that helps nothing must not be kept.
            state = self.validated(state, begin, writer)
        bar = tqdm(
            waiting(task.batches(begin)),
            desc="train",
            initial=begin,
            total=None if self.minutes else self.config.steps,
            disable=not multiprocess.is_first(),
        )
        for step, batch in enumerate(bar, start=begin + 1):
            state = self.step(state, batch)
            last, stop = self.clock.progress(step) >= 1, self.stops(step, bool(stopped))
            save, log, score = self.due(step, last)
            if save or log or score or stop:
                self.refuse_broken(step, manager.latest_step() or 0)
            if save or log or stop:
                values = self.logged(step) | {"waiting_share": waiting.share}
                writer.write_scalars(step, values)
                shown = {"loss": f"{values['loss']:.4f}"}
                bar.set_postfix(shown, waiting=f"{waiting.share:.0%}")
            if score:
                state = self.validated(state, step, writer)
            if save or stop:
                checkpoint.save(manager, step, self.saved(state))
            if last or stop:
                bar.update()  # it counts a step when the next one is asked for
                bar.close()
                return state, last
        return state, True

    def step(self, state: TrainState, batch: Any) -> TrainState:
        """The state after one more batch."""
        split = sharding.batch_sharding(self.mesh)
        self._groups = self._groups or self._groups_of(state, batch)
        groups = [
            jax.tree.map(
                lambda rows: jax.make_array_from_process_local_data(split, rows), group
            )
            for group in cut(batch, self._groups)
        ]
        progress = self.clock.progress(self._done)
        state, new = self._step(state, self.fixed, self.frozen, groups, progress)
        self._done += 1
        # At most two steps are on the device: else the loop would read ahead of it
        # and wait for batches that nobody needs yet.
        jax.block_until_ready(self._measured[-1:])
        self._measured.append(new)
        return state

    def _groups_of(self, state: TrainState, batch: Any) -> int:
        split, devices = sharding.batch_sharding(self.mesh), self.mesh.shape["data"]

        def program(count: int) -> Any:
            shapes = jax.tree.map(
                lambda rows: jax.ShapeDtypeStruct(
                    (count * devices, *rows.shape[1:]), rows.dtype, sharding=split
                ),
                batch,
            )
            return self._step.compiled(state, self.fixed, self.frozen, shapes)

        at_once = self.task.rows_at_once(batch, self.mesh, program)
        return self.config.batch_size // at_once

    def stops(self, step: int, asked: bool) -> bool:
        """Whether to end after this step because this process, or another one, is
        asked to; several processes compare where they save, not at every step."""
        if jax.process_count() > 1:
            save, _, _ = self.due(step, False)
            return save and not multiprocess.smallest(int(not asked))
        return asked

    def due(self, step: int, last: bool) -> tuple[bool, bool, bool]:
        """Whether to save, to log, to score after this step."""
        every = self.config.save_every, self.config.log_every, self.config.score_every
        save, log, score = (step % n == 0 for n in every)
        return save or last, log, (score or last) and self.task.validates

    def refuse_broken(self, step: int, good: int) -> None:
        """Raises: FloatingPointError where a step since the last log was not finite."""
        measured = self._measured = jax.device_get(self._measured)
        for i, one in enumerate(measured):
            broken = [name for name, fine in one.finite.items() if not fine]
            if not broken:
                continue
            where = step - len(measured) + 1 + i
            raise FloatingPointError(
                f"the {' and the '.join(broken)} of step {where} "
                f"{'is' if len(broken) == 1 else 'are'} not finite (loss "
                f"{one.values['loss']:g}); the last good checkpoint in {self.workdir} "
                f"is step {good}. Lower train.learning_rate "
                f"({self.config.learning_rate}) or look for broken images, and start "
                "again into a new --workdir"
            )

    def logged(self, step: int) -> dict[str, float]:
        """Means of what was measured since the last log."""
        rows = [one.values for one in self._measured]
        self._measured = []
        values = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        if self._own:
            rate = np.asarray(self.config.schedule()(step - 1)).item()
            values["learning_rate"] = rate
        return values

    def whole(self, state: TrainState) -> Any:
        """All of what the task trains: the average where there is one."""
        trained = state.trained if state.average is None else state.average
        return parts.merge(trained, self.fixed)

    def validated(
        self, state: TrainState, step: int, writer: MetricWriter
    ) -> TrainState:
        """With what it holds as the best, where its score is better."""
        found = self.task.validate(self.whole(state))
        row = {f"val/{name}": value for name, value in found.items()}
        writer.write_scalars(step, row)
        value = found[self.task.metric.name]
        # In float32, as it is kept: what is equal there is no better.
        value, before = float(np.float32(value)), float(state.best.score)
        if not self.task.metric.improves(value, before):
            return state
        trained = state.trained if state.average is None else state.average
        best = sharding.place_whole(
            Best(state.step, np.float32(value), trained), self.mesh
        )
        return dataclasses.replace(state, best=best)

    def scored(self, state: TrainState) -> bool:
        """Whether anything was, and so is held as the best."""
        return float(state.best.score) != self.task.metric.worst

    def saved(self, state: TrainState) -> dict[str, Any]:
        """The state by the names of checkpoints."""
        name, best = self.task.saved_as, state.best
        kept = {
            "step": state.step,
            name: parts.merge(state.trained, self.fixed),
            "opt_state": state.opt_state,
            "best": {
                "step": best.step,
                "score": best.score,
                name: parts.merge(best.trained, self.fixed),
            },
        }
        if state.average is not None:
            kept["average"] = state.average
        if state.seconds is not None:
            now = np.float32(self.clock.seconds)
            kept["seconds"] = sharding.place_whole(now, self.mesh)
        return kept

    def restore(self, manager: Any) -> TrainState:
        """The last state saved, or the first of all."""
        found = checkpoint.restore(manager, self.saved(self._first))
        name = self.task.saved_as
        best, seconds = found["best"], found.get("seconds")
        self._done = int(found["step"])
        self.clock.go_on(0.0 if seconds is None else float(seconds))
        return TrainState(
            found["step"],
            self._trained(found[name]),
            found["opt_state"],
            Best(best["step"], best["score"], self._trained(best[name])),
            found.get("average"),
            seconds,
        )

    def _trained(self, whole: Any) -> Any:
        names: Sequence[str] | None = self.task.parts
        return whole if names is None else parts.split(whole, names)[0]

    def kept(self, state: TrainState) -> tuple[Any, int]:
        """The best and its step; the last where nothing was scored."""
        if self.scored(state):
            found = parts.merge(state.best.trained, self.fixed)
            return jax.device_get(found), int(state.best.step)
        return jax.device_get(self.whole(state)), int(state.step)


def cut(batch: Any, groups: int) -> list[Any]:
    """The batch in groups of the same size."""
    leaves, form = jax.tree.flatten(batch)
    split = [np.split(rows, groups) for rows in leaves]
    return [jax.tree.unflatten(form, rows) for rows in zip(*split, strict=True)]

"""Triplet training of the prompts; the backbone is an argument and stays as it is."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm.auto import tqdm

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.data import Dataset, triplets
from sbir_jax.features import Recipe, Task
from sbir_jax.runtime import checkpoint, hardware, multiprocess, sharding
from sbir_jax.runtime.metric_writer import MetricWriter
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.tasks.retrieval import latent_cache
from sbir_jax.tasks.retrieval.train_step import (
    Best,
    Step,
    StepMetrics,
    TrainState,
    new_state,
)
from sbir_jax.train_config import TrainConfig


def train(
    loaded: LoadedBackbone,
    dataset: Dataset,
    prompts: dict,
    *,
    task: Task,
    recipe: Recipe,
    config: TrainConfig,
    image_size: int,
    visual_scale: float,
    workdir: pathlib.Path,
    score: Callable[[dict], dict[str, float]] | None,
    mesh: Mesh | None = None,
    at_once: int = 0,
    waiting: Waiting | None = None,
) -> tuple[dict, int]:
    """Trains from the last checkpoint of `workdir`, or from `prompts`.

    Of several processes each reads its share of every batch, and the first one writes
    into `workdir`, which all of them see.

    Args:
      dataset: triplets are drawn from its seen classes only.
      score: figures of given prompts on held-out seen classes; the first one chooses.
        None where no class was held out: the last prompts are kept then.
      mesh: the devices of all processes (`sharding.make_mesh`); with its axis "model"
        longer than 1 the frozen weights are split over it.
      at_once: triplets, over all hosts, that go through the networks together; 0 for
        as many as the memory holds. It changes what a step takes, not what it learns.
      waiting: is told how long the loop waited for batches.
    Returns: the learned prompts and the step they are of.
    Raises: FloatingPointError at the first loss that is not a number; the last good
      checkpoint stays.
    """
    mesh = mesh or sharding.make_mesh()
    split = sharding.batch_sharding(mesh)
    devices, group = mesh.shape["data"], at_once or config.batch_size
    if group % devices or config.batch_size % group:
        raise ValueError(
            f"triplets_at_once is {at_once}; give a divisor of train.batch_size "
            f"({config.batch_size}), or 0 for what fits, and multiples of {devices} "
            "for both, since so many devices share them"
        )
    # Copies: the state is donated at every step, and the caller keeps its prompts.
    state = sharding.place_whole(new_state(prompts, config), mesh)
    frozen = sharding.place_frozen(loaded.frozen, mesh)
    whole = sharding.replicated(mesh)
    step_fn = Step(loaded.backbone, recipe, config, visual_scale, whole)
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(checkpoint.manager(workdir))
        state = checkpoint.restore(manager, state)
        start = int(state.step)
        if start >= config.steps:
            return kept(state)
        writer = stack.enter_context(contextlib.closing(MetricWriter(workdir, start)))
        drawing: dict[str, Any] = {
            "seed": config.seed,
            "steps": config.steps,
            "batch_size": config.batch_size // jax.process_count(),
            "task": task,
            "size": image_size,
            "host": jax.process_index(),
            "hosts": jax.process_count(),
        }
        read = None
        if config.reads_latents(prompts):
            read = latent_cache.reader(
                loaded,
                prompts,
                visual_scale,
                dataset,
                workdir / "latents",
                mesh.shape["model"],
                **drawing,
            )
        batches = triplets.triplet_batches(
            dataset, start_step=start, read=read, **drawing
        )
        measured, before = StepMetrics.empty(), None
        waiting = stack.enter_context(waiting or Waiting())
        bar = tqdm(
            waiting(batches),
            desc="train",
            initial=start,
            total=config.steps,
            disable=not multiprocess.is_first(),
        )
        for step, batch in enumerate(bar, start=start):
            at_once = at_once or _fitting(
                step_fn, state, frozen, batch, image_size, split
            )
            groups = [
                {
                    name: jax.make_array_from_process_local_data(split, rows)
                    for name, rows in group.items()
                }
                for group in _cut(batch, config.batch_size // at_once)
            ]
            state, new = step_fn(state, frozen, groups)
            measured = measured.merge(new)
            # At most two steps are on the device: else the loop would read ahead of it
            # and wait for batches that nobody needs yet.
            jax.block_until_ready(before)
            before = new
            last = step + 1 == config.steps
            save = (step + 1) % config.save_every == 0 or last
            if save or (step + 1) % config.log_every == 0:
                values = {k: float(v) for k, v in measured.compute().items()}
                measured = StepMetrics.empty()
                if not np.isfinite(values["loss"]):
                    raise FloatingPointError(
                        f"the loss is {values['loss']} by step {step + 1}; the last "
                        f"good checkpoint in {workdir} is step "
                        f"{manager.latest_step() or 0}. Lower train.learning_rate "
                        f"({config.learning_rate}) or look for broken images, and "
                        "start again into a new --workdir"
                    )
                rate = np.asarray(config.schedule()(step)).item()
                values |= {"learning_rate": rate, "waiting_share": waiting.share}
                writer.write_scalars(step + 1, values)
                shown = {"loss": f"{values['loss']:.4f}"}
                bar.set_postfix(shown, waiting=f"{waiting.share:.0%}")
            if score and ((step + 1) % config.score_every == 0 or last):
                found = score(state.prompts)
                row = {f"val/{name}": value for name, value in found.items()}
                writer.write_scalars(step + 1, row)
                value = np.float32(next(iter(found.values())))
                if value > np.float32(state.best.score):
                    best = Best(state.step, value, state.prompts)
                    best = sharding.place_whole(best, mesh)
                    state = dataclasses.replace(state, best=best)
            if save:
                checkpoint.save(manager, step + 1, state)
        manager.wait_until_finished()
    if multiprocess.is_first():
        shutil.rmtree(workdir / "latents", ignore_errors=True)  # of no more use
    return kept(state)


def _fitting(step, state, frozen, batch, image_size, split):
    """Triplets that go through the networks together: as many as are worth while and
    the memory holds."""
    devices, mine = split.mesh.shape["data"], split.mesh.local_devices
    each = len(batch["sketch"]) * jax.process_count() // devices
    images = hardware.image_counts(image_size, mine[0].platform)[0]

    def program(count):
        return step.compiled(
            state,
            frozen,
            {
                name: jax.ShapeDtypeStruct(
                    (count * devices, *rows.shape[1:]), rows.dtype, sharding=split
                )
                for name, rows in batch.items()
            },
        )

    counts = [
        n for n in range(each, 0, -1) if each % n == 0 and len(batch) * n <= images
    ]
    rows = sum(rows.nbytes for rows in batch.values()) * jax.process_count() // devices
    return devices * hardware.largest_fitting(
        program,
        counts or [1],
        lambda count: rows,  # All of the batch is there, however it is cut.
        multiprocess.smallest(hardware.free_bytes(mine)),
    )


def _cut(batch, groups):
    """The batch in groups of the same size."""
    parts = {name: np.split(rows, groups) for name, rows in batch.items()}
    return [{name: rows[i] for name, rows in parts.items()} for i in range(groups)]


def kept(state: TrainState) -> tuple[dict, int]:
    """The best prompts and their step; the last ones where nothing was scored."""
    best = state.best if int(state.best.step) else state
    return jax.device_get(best.prompts), int(best.step)

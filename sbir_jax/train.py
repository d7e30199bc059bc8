"""Triplet training of the prompts; the backbone is an argument and stays as it is."""

import contextlib
import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from sbir_jax import checkpoint, features, latents, machine, processes, sharding
from sbir_jax.data import Dataset, triplets
from sbir_jax.features import Recipe, Task
from sbir_jax.losses import triplet_loss
from sbir_jax.overlap import Waiting
from sbir_jax.prompts import Modality, add_frame
from sbir_jax.train_config import TrainConfig
from sbir_jax.weights import Backbone
from sbir_jax.writer import MetricWriter


@flax.struct.dataclass
class Best:
    """The prompts to keep: those of the best score on held-out seen classes."""

    step: Any  # int32 scalar; 0 until something was scored
    score: Any  # float32 scalar
    prompts: Any


@flax.struct.dataclass
class TrainState:
    """Everything here is saved and donated; nothing else is."""

    step: Any  # int32 scalar
    prompts: Any
    opt_state: optax.OptState
    best: Best


@flax.struct.dataclass
class StepMetrics(clu_metrics.Collection):
    """Averages over the steps since the last line of the log."""

    loss: clu_metrics.Average.from_output("loss")  # pyright: ignore
    active: clu_metrics.Average.from_output("active")  # pyright: ignore
    grad_norm: clu_metrics.Average.from_output("grad_norm")  # pyright: ignore


def train_step(
    state: TrainState,
    params: dict,
    batch: dict[str, Float[Array, "b _ _ _"]],
    *,
    backbone: Backbone,
    recipe: Recipe,
    config: TrainConfig,
    visual_scale: float,
    at_once: int,
) -> tuple[TrainState, StepMetrics]:
    """One update of the prompts on a batch of triplets.

    The loss is a mean over triplets, so its gradient is that of their groups: memory
    is what one group takes, however long the batch.

    Args:
      state: donated by the caller.
      params: frozen weights, neither differentiated nor donated.
      batch: "sketch", "positive" and "negative" images in [-1, 1]; their latents where
        the config `reads_latents`.
      at_once: triplets in a group; b is a multiple of it.
    """
    encoded = config.reads_latents(state.prompts)
    shape = batch["sketch"].shape[1:]
    shape = shape if encoded else backbone.latent_shape(shape[0])
    # One fresh noise a step, shared by the batch as the bank is at inference (ours).
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    noise = jax.random.normal(key, (1, *shape))

    def loss_fn(prompts, group):
        def framed(name: str, modality: Modality) -> Array:
            if encoded:
                return features.prompt_latents(
                    prompts, group[name], modality, visual_scale
                )
            return add_frame(group[name], prompts["visual"][modality], visual_scale)

        rows = jnp.concatenate([framed(*pair) for pair in triplets.MODALITY.items()])
        if not encoded:
            rows = features.encode_image(backbone, params, rows)
        found = features.describe_latents(
            backbone, params, rows, prompts["text"], noise, recipe
        )
        sketch, positive, negative = jnp.split(found, 3)
        loss = triplet_loss(sketch, positive, negative, config.margin)
        gap = jnp.sum(sketch * (positive - negative), axis=-1)
        return loss, jnp.mean(gap < config.margin)

    def cut(images):
        # A group has rows from all over the batch, so that all devices work on each.
        return images.reshape(at_once, -1, *images.shape[1:]).swapaxes(0, 1)

    gradient = functools.partial(
        jax.value_and_grad(loss_fn, has_aux=True), state.prompts
    )
    if at_once == len(batch["sketch"]):
        # XLA's programs for CPU take a tenth longer inside of a loop.
        (loss, active), grads = gradient(batch)
    else:
        found = jax.lax.map(gradient, jax.tree.map(cut, batch))
        (loss, active), grads = jax.tree.map(lambda x: x.mean(axis=0), found)
    updates, opt_state = config.optimiser().update(
        grads, state.opt_state, state.prompts
    )
    moved: Any = optax.apply_updates(state.prompts, updates)
    prompts = {
        name: moved[name] if config.trains(name) else part
        for name, part in state.prompts.items()
    }
    measured = StepMetrics.single_from_model_output(
        loss=loss, active=active, grad_norm=optax.global_norm(grads)
    )
    state = dataclasses.replace(
        state, step=state.step + 1, prompts=prompts, opt_state=opt_state
    )
    return state, measured


def new_state(prompts: dict, config: TrainConfig) -> TrainState:
    """Before the first step."""
    zero = jnp.zeros((), jnp.int32)
    best = Best(zero, jnp.float32(-jnp.inf), prompts)
    return TrainState(zero, prompts, config.optimiser().init(prompts), best)


def step_program(
    backbone: Backbone,
    recipe: Recipe,
    config: TrainConfig,
    visual_scale: float,
    at_once: int,
    out: NamedSharding | None = None,
) -> Any:
    """`train_step` of a state, the weights and a batch, jitted; the state is donated.

    Args:
      out: where the new state goes.
    """
    step = functools.partial(
        train_step,
        backbone=backbone,
        recipe=recipe,
        config=config,
        visual_scale=visual_scale,
        at_once=at_once,
    )
    return machine.jit(step, gradient=True, donate_argnums=0, out_shardings=out)


def train(
    backbone: Backbone,
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
            f"({config.batch_size}), or 0 for all of it, and multiples of {devices} "
            "for both, since so many devices share them"
        )
    # Copies: the state is donated at every step, and the caller keeps its prompts.
    state = sharding.place_whole(new_state(prompts, config), mesh)
    params = sharding.place_frozen(backbone.params, mesh)

    @functools.cache
    def step_fn(group: int) -> Any:
        whole = sharding.replicated(mesh)
        return step_program(backbone, recipe, config, visual_scale, group, whole)

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
            read = latents.reader(
                backbone,
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
            disable=not processes.is_first(),
        )
        for step, batch in enumerate(bar, start=start):
            batch = {
                name: jax.make_array_from_process_local_data(split, rows)
                for name, rows in batch.items()
            }
            arguments = (state, params, batch)
            at_once = at_once or _group(step_fn, arguments, mesh)
            state, new = step_fn(at_once)(*arguments)
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
    if processes.is_first():
        shutil.rmtree(workdir / "latents", ignore_errors=True)  # of no more use
    return kept(state)


def _group(program, arguments, mesh):
    """Triplets that go through the networks together: as many as the memory holds."""
    batch, devices = arguments[-1]["sketch"], mesh.shape["data"]
    each = sum(rows.nbytes for rows in arguments[-1].values()) // devices
    own = len(batch) // devices
    return devices * machine.largest_fitting(
        lambda count: program(devices * count).lower(*arguments).compile(),
        [n for n in range(own, 0, -1) if own % n == 0],
        lambda count: each,  # All of a batch is there, however it is cut.
        processes.smallest(machine.free_bytes(mesh.local_devices)),
    )


def kept(state: TrainState) -> tuple[dict, int]:
    """The best prompts and their step; the last ones where nothing was scored."""
    best = state.best if int(state.best.step) else state
    return jax.device_get(best.prompts), int(best.step)

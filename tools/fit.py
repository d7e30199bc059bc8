"""A training loop for whole networks: AdamW, a moving average, saves to go on from."""

import functools
import json
import pathlib
import time

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from tqdm.auto import tqdm

from sbir_jax.runtime import sharding


class Log:
    """Appends one JSON line a call; `curves.png` and the summary are made of it."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __call__(self, **values) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def read(self, stage: str) -> list[dict]:
        if not self.path.exists():
            return []
        rows = map(json.loads, self.path.read_text().splitlines())
        return [row for row in rows if row["stage"] == stage]


@flax.struct.dataclass
class State:
    """All that a stage trains; `ema` is what it leaves behind."""

    step: jax.Array
    params: dict
    ema: dict
    opt_state: optax.OptState


def fit(
    name: str,
    loss_fn,
    params: dict,
    batches,
    *,
    steps: int,
    learning_rate: float,
    ema: float,
    workdir: pathlib.Path,
    log: Log,
    save_every: int = 500,
) -> dict:
    """AdamW with warm-up and cosine on `loss_fn(params, key, batch)`; returns the EMA.

    `batches(step)` is a pure function, so a stopped stage goes on from its last save.
    The batch is split over all devices.
    """
    mesh = sharding.make_mesh()
    everywhere, split = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(200, steps // 10), steps, learning_rate / 50
    )
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=0.01),
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, batch):
        key = jax.random.fold_in(jax.random.key(17), state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, key, batch)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # A short memory at first, so that the start does not linger in the average.
        rate = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(
            lambda a, b: rate * a + (1 - rate) * b, state.ema, params
        )
        return State(state.step + 1, params, average, opt_state), loss

    state = State(
        jnp.zeros((), jnp.int32),
        params,
        jax.tree.map(jnp.copy, params),
        tx.init(params),
    )
    state = jax.device_put(state, everywhere)
    with ocp.CheckpointManager(
        (workdir / name).resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=1)
    ) as manager:
        if manager.latest_step() is not None:
            state = manager.restore(
                manager.latest_step(), args=ocp.args.StandardRestore(state)
            )
        begin, losses = int(state.step), []
        bar = tqdm(range(begin, steps), desc=name, initial=begin, total=steps)
        for step in bar:
            state, loss = update(state, jax.device_put(batches(step), split))
            losses.append(loss)
            if (step + 1) % 50 == 0 or step + 1 == steps:
                mean = float(np.mean(jax.device_get(losses)))
                losses = []
                bar.set_postfix(loss=f"{mean:.4f}")
                log(stage=name, step=step + 1, loss=mean, time=time.time())
                if not np.isfinite(mean):
                    raise FloatingPointError(f"{name}: loss is {mean} at step {step}")
            if (step + 1) % save_every == 0 or step + 1 == steps:
                manager.save(step + 1, args=ocp.args.StandardSave(state))
    return state.ema

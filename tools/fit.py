"""A training loop for whole networks: AdamW, a moving average, saves to go on from."""

import contextlib
import json
import pathlib
import signal
import sys
import time

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from tqdm.auto import tqdm

from sbir_jax.runtime import hardware, sharding


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
    seconds: jax.Array  # of training so far
    params: dict
    ema: dict
    opt_state: optax.OptState


# Clipped Adam with decay, still to be scaled by the learning rate.
OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(b2=0.99),
    optax.add_decayed_weights(0.01),
)
WARM_UP = 0.05  # of a stage


def new_state(params: dict) -> State:
    """The state before the first step, which owns its arrays: steps donate it."""
    zero = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    params = jax.tree.map(jnp.array, params)
    return State(*zero, params, jax.tree.map(jnp.copy, params), OPTIMIZER.init(params))


def rate(share: jax.Array, peak: float) -> jax.Array:
    """The learning rate after this share of a stage: warm-up, and cosine to peak / 50.

    A share and not a step, so that a stage may be bounded by time as well.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, WARM_UP, 1.0, peak / 50)
    return jnp.asarray(schedule(jnp.clip(share, 0.0, 1.0)), jnp.float32)


def make_update(loss_fn, learning_rate: float, ema: float):
    """The compiled step `(state, batch, share) -> (state, loss)`."""

    def update(state: State, batch, share):
        key = jax.random.fold_in(jax.random.key(17), state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, key, batch)
        updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
        scale = rate(share, learning_rate)
        params = jax.tree.map(lambda p, u: p - scale * u, state.params, updates)
        # A short memory at first, so that the start does not linger in the average.
        kept = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(
            lambda a, b: kept * a + (1 - kept) * b, state.ema, params
        )
        return State(state.step + 1, state.seconds, params, average, opt_state), loss

    return hardware.jit(update, donate_argnums=0)


def product_rate(side: int = 2048) -> float:
    """Operations a second of a float32 matrix product here, the best of three."""
    x, multiply = jnp.ones((side, side)), jax.jit(jnp.matmul)
    multiply(x, x).block_until_ready()
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        multiply(x, x).block_until_ready()
        found.append(time.perf_counter() - begin)
    return 2 * side**3 / min(found)


def step_operations(update, *arguments) -> float:
    """Operations of a step, by XLA's own analysis of the program as it is written."""
    analysis = update.lower(*arguments).cost_analysis()
    return float((analysis or {}).get("flops", 0.0))


@contextlib.contextmanager
def stop_signals():
    """Yields a list that SIGINT and SIGTERM add to, in place of ending the process."""
    caught, kinds = [], (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda n, _: caught.append(n)) for kind in kinds]
    try:
        yield caught
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


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
    minutes: float = 0,
    save_every: int = 500,
) -> dict:
    """AdamW with warm-up and cosine on `loss_fn(params, key, batch)`; returns the EMA.

    `batches(step)` is a pure function, so a stopped stage goes on from its last save.
    The batch is split over all devices. With `minutes` that time ends the stage, all
    runs of it together, and not `steps`.

    Raises: SystemExit, after a save, on SIGINT and SIGTERM.
    """
    mesh = sharding.make_mesh()
    everywhere, split = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    update = make_update(loss_fn, learning_rate, ema)
    state = jax.device_put(new_state(params), everywhere)
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    folder = (workdir / name).resolve()
    with (
        ocp.CheckpointManager(folder, options=options) as manager,
        stop_signals() as (stopped),
    ):
        if manager.latest_step() is not None:
            state = manager.restore(
                manager.latest_step(), args=ocp.args.StandardRestore(state)
            )
        first, losses = int(state.step), []
        begin = time.monotonic() - float(state.seconds)

        def done(step):
            elapsed = time.monotonic() - begin
            return elapsed / (60 * minutes) if minutes else step / steps

        def save(step):
            seconds = jnp.asarray(time.monotonic() - begin, jnp.float32)
            whole = state.replace(seconds=jax.device_put(seconds, everywhere))
            manager.save(step, args=ocp.args.StandardSave(whole), force=True)

        step, share = first, done(first)
        bar = tqdm(desc=name, initial=first, total=None if minutes else steps)
        while share < 1 and not stopped:
            batch = batches(step)
            arguments = state, jax.device_put(batch, split), jnp.float32(share)
            if step == first:
                _tell(name, step_operations(update, *arguments))
                mark = step, time.monotonic()
            state, loss = update(*arguments)
            if losses:
                losses[-1].block_until_ready()  # or the clock would run behind
            losses.append(loss)
            step, share = step + 1, done(step + 1)
            bar.update()
            last = share >= 1 or bool(stopped)
            if step % 50 == 0 or last:
                mean = float(np.mean(jax.device_get(losses)))
                now, images = time.monotonic(), len(jax.tree.leaves(batch)[0])
                speed = images * (step - mark[0]) / (now - mark[1])
                mark, losses = (step, now), []
                bar.set_postfix(loss=f"{mean:.4f}", images_per_s=f"{speed:.1f}")
                log(stage=name, step=step, loss=mean, time=time.time())
                if not np.isfinite(mean):
                    raise FloatingPointError(f"{name}: loss is {mean} at step {step}")
            if step % save_every == 0 or last:
                save(step)
        bar.close()
        if stopped and share < 1:
            manager.wait_until_finished()
            raise SystemExit(f"{name}: saved at step {step}; the same command goes on")
    return state.ema


def _tell(name: str, operations: float) -> None:
    rate = product_rate()
    tqdm.write(
        f"{name}: {operations / 1e9:.1f} GFLOP a step; matrix products here run at "
        f"{rate / 1e9:.0f} GFLOP/s, so a step takes {operations / rate:.2f} s at best",
        file=sys.stderr,  # as the bars
    )

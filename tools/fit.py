"""Whole networks by the package's training loop: optimiser, average, what a step costs.

`train` of the package is the loop: it resumes, saves on signals and refuses what is not
finite. Here is what suits training a network from nothing.
"""

import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tqdm.auto import tqdm

from sbir_jax.config import TrainConfig
from sbir_jax.tasks.base import Evaluation, Task
from sbir_jax.train import train
from sbir_jax.types import Metric

WARM_UP = 0.05  # of a stage
SEED = 17


def rate(progress: Any, peak: float) -> jax.Array:
    """The learning rate at this fraction of a stage: warm-up, cosine to peak / 50.

    A fraction and not a step, so that a stage may be bounded by time as well.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, WARM_UP, 1.0, peak / 50)
    return jnp.asarray(schedule(jnp.clip(progress, 0.0, 1.0)), jnp.float32)


def optimiser(peak: float) -> optax.GradientTransformationExtraArgs:
    """Clipped AdamW whose learning rate follows the progress of the stage."""

    def scale(updates, state, params=None, *, progress, **_):
        found = rate(progress, peak)
        return jax.tree.map(lambda update: -found * update, updates), state

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(b2=0.99),
        optax.add_decayed_weights(0.01),
        optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scale),
    )


class Stage(Task):
    """A network and its loss, as a task of the training loop."""

    def __init__(self, name: str, loss_fn: Callable, params: dict, batches: Callable):
        self.name, self.loss_fn, self.params = name, loss_fn, params
        self.draw = batches
        self.metric = Metric("loss", better="lower")  # nothing is held out

    def identity(self) -> dict[str, Any]:
        return {"stage": self.name}

    def init(self, key: jax.Array) -> dict:
        return self.params

    def batches(self, step: int) -> Iterator[Any]:
        for now in range(step, sys.maxsize):
            yield self.draw(now)

    def rows_at_once(self, batch: Any, mesh: Any, program: Callable) -> int:
        tell(self.name, operations(self.loss_fn, self.params, batch))
        return super().rows_at_once(batch, mesh, program)

    def loss(self, trained, frozen, batch, key):
        return self.loss_fn(trained, key, batch), {}

    def evaluate(self, trained: dict) -> Evaluation:
        """Nothing: its tool looks at what it has learned."""
        return Evaluation((), (), "loss")


def fit(
    name: str,
    loss_fn: Callable,
    params: dict,
    batches: Callable[[int], Any],
    *,
    steps: int,
    learning_rate: float,
    ema: float,
    workdir: pathlib.Path,
    minutes: float = 0.0,
    save_every: int = 500,
) -> dict:
    """The moving average of what `loss_fn(params, key, batch)` trains, in a folder of
    this name in `workdir`.

    Args:
      batches: a pure function of the step, so that a stopped stage goes on.
      minutes: as of `train`.
    Raises: as `train`.
    """
    stage = Stage(name, loss_fn, params, batches)
    stage.config = TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        log_every=50,
        save_every=save_every,
        seed=SEED,
    )
    folder, how = workdir / name, optimiser(learning_rate)
    learned, _ = train(stage, folder, optimiser=how, ema=ema, minutes=minutes)
    return learned


def operations(loss_fn: Callable, params: dict, batch: Any) -> float:
    """Of a gradient, by XLA's own analysis of the program as it is written."""
    step = jax.jit(jax.value_and_grad(loss_fn))
    lowered = step.lower(params, jax.random.key(0), batch)
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))


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


def tell(name: str, operations: float) -> None:
    found = product_rate()
    best = operations / found
    tqdm.write(
        f"{name}: {operations / 1e9:.1f} GFLOP a step; matrix products here run at "
        f"{found / 1e9:.0f} GFLOP/s, so a step takes {best:.2f} s at best",
        file=sys.stderr,  # as the bars
    )

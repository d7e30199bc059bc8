"""One training step of any task: gradients of groups of rows, then the update."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array

from sbir_jax.adapters import parts
from sbir_jax.runtime import hardware

# From what is trained, the frozen weights, a batch and a key to the loss, a scalar, and
# figures by name to log beside it.
Loss = Callable[[Any, Any, Any, Array], tuple[Array, dict[str, Array]]]


@flax.struct.dataclass
class Best:
    """What to keep: of the best score on what the task holds out."""

    step: Any  # int32 scalar; 0 is before training
    score: Any  # float32 scalar; the metric's worst until something was scored
    trained: Any


@flax.struct.dataclass
class TrainState:
    """Donated at every step, and saved; nothing else is."""

    step: Any  # int32 scalar
    trained: Any
    opt_state: optax.OptState
    best: Best
    average: Any = None  # of `trained` over the steps, where one is wanted
    seconds: Any = None  # float32 scalar: of all runs, where time is what ends them


@flax.struct.dataclass
class Sums:
    """Over groups of rows."""

    grads: Any  # like what is trained
    values: dict[str, Any]  # float32 scalars


@flax.struct.dataclass
class Measured:
    """Of one step: figures by name, and what of it was finite."""

    values: dict[str, Any]
    finite: dict[str, Any]  # bool scalars: "loss", "gradient", "parameters"


def new_state(
    trained: Any,
    optimiser: optax.GradientTransformation,
    worst: float,
    average: bool,
    timed: bool = False,
) -> TrainState:
    """Before the first step.

    Args:
      worst: what every score is better than.
      average: whether a moving average of `trained` is kept.
      timed: whether the seconds of all runs are.
    """
    zero = jnp.zeros((), jnp.int32)
    best = Best(zero, jnp.float32(worst), trained)
    kept = trained if average else None
    seconds = jnp.float32(0) if timed else None
    return TrainState(zero, trained, optimiser.init(trained), best, kept, seconds)


def add_group(
    sums: Sums,
    trained: Any,
    fixed: Any,
    frozen: Any,
    group: Any,
    step: Array,
    *,
    loss: Loss,
    seed: int,
) -> Sums:
    """The sums with one more group's mean loss and the gradient of that.

    Args:
      fixed: the parts beside `trained` that stay; not differentiated.
      frozen: weights, not differentiated.
      step: int32 scalar; with `seed` it is the key of all groups of a step.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)

    def objective(trained: Any) -> tuple[Array, dict[str, Array]]:
        return loss(parts.merge(trained, fixed), frozen, group, key)

    (value, values), grads = jax.value_and_grad(objective, has_aux=True)(trained)
    return jax.tree.map(jnp.add, sums, Sums(grads, {"loss": value, **values}))


def update(
    state: TrainState,
    sums: Sums,
    groups: Any,
    progress: Any,
    *,
    optimiser: optax.GradientTransformationExtraArgs,
    ema: float,
) -> tuple[TrainState, Measured]:
    """What is trained, moved along the mean gradient of `groups` groups of one size.

    Args:
      progress: the fraction of the training that is done, float32; for the optimiser.
    """
    mean = jax.tree.map(lambda x: x / groups, sums)
    updates, opt_state = optimiser.update(
        mean.grads, state.opt_state, state.trained, progress=progress
    )
    trained: Any = optax.apply_updates(state.trained, updates)
    values = mean.values | {"grad_norm": optax.global_norm(mean.grads)}
    finite = {
        "loss": jnp.isfinite(mean.values["loss"]),
        "gradient": _all_finite(mean.grads),
        "parameters": _all_finite(trained),
    }
    average = state.average
    if average is not None:
        # A short memory at first, so that the start does not linger in the average.
        rate = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, b: rate * a + (1 - rate) * b, average, trained)
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        trained=trained,
        opt_state=opt_state,
        average=average,
    )
    return state, Measured(values, finite)


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


class Step:
    """One update on a batch, compiled.

    A loss is a mean over rows, so its gradient is that of groups of them: memory is
    what one group takes, however long the batch. Groups follow each other by running
    the same program again: in a loop inside of it XLA's code for CPU takes twice the
    time.
    """

    def __init__(
        self,
        loss: Loss,
        optimiser: optax.GradientTransformation,
        seed: int,
        ema: float = 0.0,
        out: NamedSharding | None = None,
    ):
        """`out` is where the new state goes; its mesh runs the step, JAX's default
        device without it."""
        self._loss, self._zeros = loss, None
        optimiser = optax.with_extra_args_support(optimiser)
        add = functools.partial(add_group, loss=loss, seed=seed)
        mesh = out.mesh if out else None
        self._add = hardware.jit(add, on=mesh, gradient=True, out_shardings=out)
        self._nothing = jax.jit(
            lambda trained, values: jax.tree.map(jnp.zeros_like, Sums(trained, values)),
            out_shardings=out,
        )
        self._update = jax.jit(
            functools.partial(update, optimiser=optimiser, ema=ema),
            donate_argnums=0,
            out_shardings=out,
        )

    def __call__(
        self,
        state: TrainState,
        fixed: Any,
        frozen: Any,
        groups: list[Any],
        progress: float = 0.0,
    ) -> tuple[TrainState, Measured]:
        """The next state, for which this one is given up; `progress` as of `update`."""
        sums = self._start(state, fixed, frozen, groups[0])
        for group in groups:
            # Each waits for the sums before it, so that no two are in memory.
            sums = self._add(sums, state.trained, fixed, frozen, group, state.step)
        return self._update(state, sums, len(groups), np.float32(progress))

    def compiled(self, state: TrainState, fixed: Any, frozen: Any, group: Any) -> Any:
        """What runs for such a group, arrays or their shapes: it says what it takes."""
        sums = self._start(state, fixed, frozen, group)
        lowered = self._add.lower(sums, state.trained, fixed, frozen, group, state.step)
        return lowered.compile()

    def _start(self, state: TrainState, fixed: Any, frozen: Any, group: Any) -> Sums:
        """Sums of nothing yet."""
        if self._zeros is None:
            key = jax.eval_shape(lambda: jax.random.key(0))
            whole = parts.merge(state.trained, fixed)
            _, values = jax.eval_shape(self._loss, whole, frozen, group, key)
            self._zeros = dict.fromkeys(["loss", *values], np.float32(0))
        return self._nothing(state.trained, self._zeros)

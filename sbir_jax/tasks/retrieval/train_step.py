"""One training step: gradients of groups of triplets, then the prompts move."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from sbir_jax import features
from sbir_jax.adapters.prompts import Modality, add_frame
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.data import triplets
from sbir_jax.features import Recipe
from sbir_jax.runtime import hardware
from sbir_jax.tasks.retrieval.losses import triplet_loss
from sbir_jax.train_config import TrainConfig


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


@flax.struct.dataclass
class Sums:
    """Over groups of triplets."""

    grads: Any  # like the prompts
    loss: Any  # float32 scalar
    active: Any  # float32 scalar, the share of triplets with a loss


def add_group(
    sums: Sums,
    prompts: dict,
    step: Any,
    frozen: Frozen,
    group: dict[str, Float[Array, "b _ _ _"]],
    *,
    backbone: Backbone,
    recipe: Recipe,
    config: TrainConfig,
    visual_scale: float,
) -> Sums:
    """The sums with one more group's mean loss and the gradient of that.

    Args:
      step: which one it is, int32 scalar.
      frozen: weights, not differentiated.
      group: "sketch", "positive" and "negative" images in [-1, 1]; their latents where
        the config `reads_latents`.
    """
    encoded = config.reads_latents(prompts)
    shape = group["sketch"].shape[1:]
    shape = shape if encoded else backbone.latent_shape(shape[0])
    # One fresh noise a step, shared by the batch as the bank is at inference (ours).
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    noise = jax.random.normal(key, (1, *shape))

    def loss_fn(prompts):
        def framed(name: str, modality: Modality) -> Array:
            if encoded:
                return features.prompt_latents(
                    prompts, group[name], modality, visual_scale
                )
            return add_frame(group[name], prompts["visual"][modality], visual_scale)

        rows = jnp.concatenate([framed(*pair) for pair in triplets.MODALITY.items()])
        if not encoded:
            rows = backbone.encode_image(frozen, rows)
        found = features.describe_latents(
            backbone, frozen, rows, prompts["text"], noise, recipe
        )
        sketch, positive, negative = jnp.split(found, 3)
        loss = triplet_loss(sketch, positive, negative, config.margin)
        gap = jnp.sum(sketch * (positive - negative), axis=-1)
        return loss, jnp.mean(gap < config.margin)

    (loss, active), grads = jax.value_and_grad(loss_fn, has_aux=True)(prompts)
    return jax.tree.map(jnp.add, sums, Sums(grads, loss, active))


def update(
    state: TrainState, sums: Sums, groups: Any, *, config: TrainConfig
) -> tuple[TrainState, StepMetrics]:
    """The prompts moved along the mean gradient of `groups` groups of one size."""
    mean = jax.tree.map(lambda x: x / groups, sums)
    updates, opt_state = config.optimiser().update(
        mean.grads, state.opt_state, state.prompts
    )
    moved: Any = optax.apply_updates(state.prompts, updates)
    prompts = {
        name: moved[name] if config.trains(name) else part
        for name, part in state.prompts.items()
    }
    measured = StepMetrics.single_from_model_output(
        loss=mean.loss, active=mean.active, grad_norm=optax.global_norm(mean.grads)
    )
    state = dataclasses.replace(
        state, step=state.step + 1, prompts=prompts, opt_state=opt_state
    )
    return state, measured


class Step:
    """One update of the prompts on a batch of triplets, compiled.

    The loss is a mean over triplets, so its gradient is that of their groups: memory is
    what one group takes, however long the batch. Groups follow each other by running
    the same program again: in a loop inside of it XLA's code for CPU takes twice the
    time.
    """

    def __init__(
        self,
        backbone: Backbone,
        recipe: Recipe,
        config: TrainConfig,
        visual_scale: float,
        out: NamedSharding | None = None,
    ):
        """`out` is where the new state goes."""
        add = functools.partial(
            add_group,
            backbone=backbone,
            recipe=recipe,
            config=config,
            visual_scale=visual_scale,
        )
        mesh = out.mesh if out else None
        self._add = hardware.jit(add, mesh, gradient=True, out_shardings=out)
        self._nothing = jax.jit(_nothing, out_shardings=out)
        self._update = jax.jit(
            functools.partial(update, config=config),
            donate_argnums=0,
            out_shardings=out,
        )

    def __call__(
        self, state: TrainState, frozen: Frozen, groups: list[dict[str, Any]]
    ) -> tuple[TrainState, StepMetrics]:
        """The next state, for which this one is given up."""
        sums = self._nothing(state.prompts)
        for group in groups:
            # Each waits for the sums before it, so that no two are in memory.
            sums = self._add(sums, state.prompts, state.step, frozen, group)
        return self._update(state, sums, len(groups))

    def compiled(self, state: TrainState, frozen: Frozen, group: Any) -> Any:
        """What runs for such a group, arrays or their shapes: it says what it takes."""
        sums = self._nothing(state.prompts)
        lowered = self._add.lower(sums, state.prompts, state.step, frozen, group)
        return lowered.compile()


def new_state(prompts: dict, config: TrainConfig) -> TrainState:
    """Before the first step."""
    zero = jnp.zeros((), jnp.int32)
    best = Best(zero, jnp.float32(-jnp.inf), prompts)
    return TrainState(zero, prompts, config.optimiser().init(prompts), best)


def _nothing(prompts):
    return Sums(jax.tree.map(jnp.zeros_like, prompts), jnp.zeros(()), jnp.zeros(()))

"""The loss of a batch of triplets, from images or from latents to one number."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax import features
from sbir_jax.adapters.prompts import Prompts, add_frame
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.data import triplets
from sbir_jax.features import Recipe
from sbir_jax.tasks.retrieval.losses import triplet_loss
from sbir_jax.types import Modality


def objective(
    prompts: Prompts,
    frozen: Frozen,
    batch: dict[str, Float[Array, "b _ _ _"]],
    key: Array,
    *,
    backbone: Backbone,
    recipe: Recipe,
    margin: float,
    visual_scale: float,
    encoded: bool,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The triplet loss, and the share of triplets that have one, "active".

    Args:
      frozen: the backbone's weights, not differentiated.
      batch: "sketch", "positive" and "negative" images in [-1, 1]; their latents where
        `encoded`.
    """
    shape = batch["sketch"].shape[1:]
    shape = shape if encoded else backbone.latent_shape(shape[0])
    # One fresh noise a step, shared by the batch as the bank is at inference (ours).
    noise = jax.random.normal(key, (1, *shape))

    def framed(name: str, modality: Modality) -> Array:
        if encoded:
            return features.prompt_latents(prompts, batch[name], modality, visual_scale)
        assert prompts.visual is not None
        return add_frame(batch[name], prompts.visual[modality], visual_scale)

    rows = jnp.concatenate([framed(*pair) for pair in triplets.MODALITY.items()])
    if not encoded:
        rows = backbone.encode_image(frozen, rows)
    found = features.describe_latents(
        backbone, frozen, rows, prompts.text, noise, recipe
    )
    sketch, positive, negative = jnp.split(found, 3)
    loss = triplet_loss(sketch, positive, negative, margin)
    gap = jnp.sum(sketch * (positive - negative), axis=-1)
    return loss, {"active": jnp.mean(gap < margin)}

"""What a dense run trains, and from latents and text to logits or depth."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
from jaxtyping import Array, Float

from sbir_jax.adapters.text_adapter import adapt, init_adapter
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.dense.reading import Reading, read_levels
from sbir_jax.models.heads.depth import DepthHead
from sbir_jax.models.heads.lavt import LAVTDecoder
from sbir_jax.models.heads.layers import Levels
from sbir_jax.models.heads.semantic_fpn import SemanticFPN

KINDS = ("segmentation", "referring", "depth")


@flax.struct.dataclass
class DenseModel:
    """A pytree; its fields are names in checkpoints.

    Attributes:
      adapter: of the text; None where there is none.
      head: parameters.
      unet: the denoiser's weights, where it is trained too; None where it is frozen.
    """

    adapter: Any = None  # TextAdapter
    head: Any = None
    unet: Any = None


def make_head(
    kind: str, width: int, classes: int, most: float, fixed: bool = False
) -> nn.Module:
    """The head of a task.

    Args:
      kind: of KINDS.
      width: its channels: 256 (segmentation), 640 (referring), 1536 (depth, whose other
        widths keep their share) as published.
      classes: of segmentation. most: the largest depth.
      fixed: whether norms have a published checkpoint's statistics; see `norm`.
    """
    if kind == "segmentation":
        return SemanticFPN(classes, width, fixed=fixed)
    if kind == "referring":
        return LAVTDecoder(width, fixed)
    return DepthHead(most, width, max(width // 8, 1), max(width // 48, 8), fixed)


PUBLISHED_WIDTH = {"segmentation": 256, "referring": 640, "depth": 1536}


def init_model(
    key: Array,
    head: nn.Module,
    levels: tuple[Any, ...],
    context_dim: int | None,
    unet: Any,
) -> DenseModel:
    """Before the first step.

    Args:
      levels: or their shapes.
      context_dim: width of the text states; None for no adapter.
      unet: weights to start from; None for a frozen denoiser.
    """
    first, second = jax.random.split(key)
    made = jax.jit(head.init)(first, jax.tree.map(_zeros, levels))
    adapter = None if context_dim is None else init_adapter(second, context_dim)
    return DenseModel(adapter, made["params"], unet)


def _zeros(leaf: Any) -> Array:
    return jax.numpy.zeros(leaf.shape)


def levels_of(
    backbone: Backbone,
    frozen: Frozen,
    model: DenseModel,
    latents: Float[Array, "b y x c"],
    text: Float[Array, "s n d"],
    how: Reading,
) -> Levels:
    """What the head takes, by the adapted text and the trained denoiser, if any."""
    if model.unet is None:
        return read_levels(backbone, frozen, latents, adapt(model.adapter, text), how)

    # A gradient keeps what goes in, and computes the denoiser's activations again.
    @jax.checkpoint
    def read(unet, adapter, latents, text):
        weights = {**frozen, "unet": unet}
        return read_levels(backbone, weights, latents, adapt(adapter, text), how)

    return read(model.unet, model.adapter, latents, text)


def apply_head(
    head: nn.Module, params: Any, levels: Levels, key: Array | None = None
) -> Array:
    """Logits [b h w n], or depth [b h w]. With a key it is training: dropout acts."""
    rngs = {} if key is None else {"dropout": key}
    found: Any = head.apply(
        {"params": params}, levels, train=key is not None, rngs=rngs
    )
    return found

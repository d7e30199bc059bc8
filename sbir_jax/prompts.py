"""The trainable pytree: a pixel frame per modality and a matrix in place of the text.

    {"visual": {"sketch": frame, "photo": frame}, "text": [n, d]}

A frame is its four strips and nothing else, so that every number under the optimiser
is a pixel of the border: 2 * 3 * width * (h + w - 2 * width) of them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Modality = Literal["sketch", "photo"]
MODALITIES: tuple[Modality, ...] = ("sketch", "photo")

# Koley et al. (CVPR 2024) find 16 px best. Their input size is not published; the
# border is scaled from 512 px, the native size of the nets we take it for (ours).
BORDER_AT_512 = 16


@dataclasses.dataclass(frozen=True)
class PromptConfig:
    """What is trained. Defaults are the paper's, except where marked as ours.

    Attributes:
      border: width of the frame in pixels; 0 takes 16 px at 512 px, scaled.
      text: the words whose embedding the text prompt starts from (ours: the paper
        does not say). The empty string is what the backbone knows as "no caption".
      visual_scale: how far the frame moves for one unit of its parameters (ours). The
        frame lives in pixels of [-1, 1] and the text in states of order one; a scale
        lets one learning rate serve both.
    """

    border: int = 0
    text: str = ""
    visual_scale: float = 1.0

    def width(self, size: int) -> int:
        """Pixels of border for images of `size` pixels. ValueError if it fills them."""
        width = self.border or max(1, round(BORDER_AT_512 * size / 512))
        if not 0 < 2 * width < size:
            raise ValueError(
                f"prompt.border is {width} px, which leaves nothing of a {size} px "
                f"image; give 1 to {(size - 1) // 2}, or 0 for {BORDER_AT_512} px at "
                "512 px, scaled"
            )
        return width


def init_prompts(
    config: PromptConfig, size: int, text_states: Float[Array, "n d"]
) -> dict:
    """Prompts that change nothing yet: a zero frame and the start text's own states.

    Args:
      size: side of the images, in pixels.
      text_states: the text encoder's output for `config.text`.
    Returns: the pytree above, float32.
    """
    width = config.width(size)

    def frame() -> dict[str, Array]:
        return {
            "top": jnp.zeros((width, size, 3)),
            "bottom": jnp.zeros((width, size, 3)),
            "left": jnp.zeros((size - 2 * width, width, 3)),
            "right": jnp.zeros((size - 2 * width, width, 3)),
        }

    return {
        "visual": {modality: frame() for modality in MODALITIES},
        "text": jnp.asarray(text_states, jnp.float32),
    }


def frame_image(frame: Mapping[str, Array]) -> Float[Array, "h w 3"]:
    """The four strips as one picture with zeros inside."""
    height = frame["left"].shape[0]
    inside = jnp.zeros(
        (height, frame["top"].shape[1] - 2 * frame["left"].shape[1], 3),
        frame["left"].dtype,
    )
    middle = jnp.concatenate([frame["left"], inside, frame["right"]], axis=1)
    return jnp.concatenate([frame["top"], middle, frame["bottom"]], axis=0)


def add_frame(
    images: Float[Array, "b h w 3"],
    frame: Mapping[str, Array],
    scale: float = 1.0,
) -> Float[Array, "b h w 3"]:
    """Adds the frame to every image, before the autoencoder; pixels in [-1, 1].

    Koley et al. combine frame and image by "+" in pixel space; the sum is not clipped
    (ours), since a clipped pixel would pass no gradient.

    Raises: ValueError where the frame was made for another image size.
    """
    picture = frame_image(frame)
    if picture.shape != images.shape[1:]:
        raise ValueError(
            f"the prompt's frame is for images of {picture.shape[:2]} px and these are "
            f"{images.shape[1:3]} px: prompts belong to the size they were trained at"
        )
    return images + (scale * picture)[None].astype(images.dtype)


def count(prompts: Mapping) -> int:
    """The number of trained scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(prompts))

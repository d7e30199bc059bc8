"""The prompts: a frame for each modality, and a matrix in place of the text.

    Prompts(visual={"sketch": frame, "photo": frame}, text=[n, d])    in pixels
    Prompts(latent={"sketch": frame, "photo": frame}, text=[n, d])    in latent space

A frame is its four strips and nothing else, so that every number under the optimiser
is one of the border: 2 * channels * width * (h + w - 2 * width) of them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.types import MODALITIES

# Koley et al. (CVPR 2024) find 16 px best. Their input size is not published; the
# border is scaled from 512 px, the native size of the nets we take it for (ours).
BORDER_AT_512 = 16


@flax.struct.dataclass
class Prompts:
    """What can be trained. The names of the fields are those in checkpoints and files,
    and their order is that in fingerprints.

    Attributes:
      latent: a frame for each modality, added to latents; or None.
      text: [n, d], in the place of the text encoder's states.
      visual: a frame for each modality, added to images; or None.
    """

    latent: Any = None
    text: Any = None
    visual: Any = None


@dataclasses.dataclass(frozen=True)
class PromptConfig:
    """What is trained. Defaults are the paper's, except where marked as ours.

    Attributes:
      border: width of the frame in pixels; 0 takes 16 px at 512 px, scaled.
      space: "pixel", where the frame is added to the image, or "latent" (ours), where
        it is added to what the autoencoder makes of the image, as wide as the border
        is there and at least one cell. No gradient then goes through the autoencoder,
        and training reads latents that were encoded once.
      text: the words whose embedding the text prompt starts from (ours: the paper
        does not say). The empty string is what the backbone knows as "no caption".
      visual_scale: how far the frame moves for one unit of its parameters (ours). The
        frame lives in pixels of [-1, 1] and the text in states of order one; a scale
        lets one learning rate serve both.
    """

    # A file may say no more: what a newer version adds would change descriptors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    border: int = 0
    space: str = "pixel"
    text: str = ""
    visual_scale: float = 1.0

    def __post_init__(self):
        if self.space not in ("pixel", "latent"):
            raise ValueError(f"prompt.space is {self.space!r}; give pixel or latent")

    def width(self, size: int, factor: int = 1) -> int:
        """Cells of border, of `factor` pixels each, for images of `size` pixels.

        Raises: ValueError where the border leaves nothing of the image.
        """
        border = self.border or max(1, round(BORDER_AT_512 * size / 512))
        width = max(1, round(border / factor))
        most = (size // factor - 1) // 2
        if border < 1 or width > most:
            raise ValueError(
                f"prompt.border is {border} px, which leaves nothing of a {size} px "
                f"image; give 1 to {factor * most}, or 0 for {BORDER_AT_512} px at "
                "512 px, scaled"
            )
        return width


def init_prompts(
    config: PromptConfig,
    size: int,
    text_states: Float[Array, "n d"],
    latent: tuple[int, int, int] | None = None,
) -> Prompts:
    """Prompts that change nothing yet: a zero frame and the start text's own states.

    Args:
      size: side of the images, in pixels.
      text_states: the text encoder's output for `config.text`.
      latent: [y, x, c] of such an image's latent (`Backbone.latent_shape`), for frames
        that are added there.
    Returns: float32.
    Raises: ValueError as `PromptConfig.width`.
    """
    if config.space == "pixel":
        name, side, channels, width = "visual", size, 3, config.width(size)
    else:
        if latent is None:
            raise ValueError("a frame in latent space needs the shape of the latents")
        side, _, channels = latent
        name, width = "latent", config.width(size, size // side)

    def frame() -> dict[str, Array]:
        return {
            "top": jnp.zeros((width, side, channels)),
            "bottom": jnp.zeros((width, side, channels)),
            "left": jnp.zeros((side - 2 * width, width, channels)),
            "right": jnp.zeros((side - 2 * width, width, channels)),
        }

    frames = {name: {modality: frame() for modality in MODALITIES}}
    return Prompts(text=jnp.asarray(text_states, jnp.float32), **frames)


def check_shapes(
    prompts: Prompts, what: str, size: int, latent: tuple[int, int, int], states: int
) -> None:
    """Finds prompts that do not fit together, or not to their backbone.

    Args:
      what: where they come from, for errors.
      latent: [y, x, c] of the latent of an image of `size` pixels.
      states: width of the backbone's text states.
    Raises: ValueError saying which leaf has which shape.
    """
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {}
    wanted["text"] = (prompts.text, (len(prompts.text), states))
    for place, (rows, columns, channels) in {
        "visual": (size, size, 3),
        "latent": latent,
    }.items():
        for modality, frame in (getattr(prompts, place) or {}).items():
            width = min(len(frame["top"]), (rows - 1) // 2)
            strip = {"top": (width, columns, channels)}
            strip["left"] = rows - 2 * width, width, channels
            shapes = strip | {"bottom": strip["top"], "right": strip["left"]}
            for side, shape in shapes.items():
                wanted[f"{place}.{modality}.{side}"] = frame[side], shape
    for name, (leaf, shape) in wanted.items():
        if leaf.shape != shape:
            raise ValueError(
                f"{what}: the prompts' {name} has shape {leaf.shape}, and {shape} is "
                f"needed for images of {size} px on this backbone: they were made for "
                "another one, or are damaged"
            )


def frame_image(frame: Mapping[str, Array]) -> Float[Array, "h w c"]:
    """The four strips as one picture with zeros inside."""
    height, width, channels = frame["left"].shape
    inside = jnp.zeros(
        (height, frame["top"].shape[1] - 2 * width, channels), frame["left"].dtype
    )
    middle = jnp.concatenate([frame["left"], inside, frame["right"]], axis=1)
    return jnp.concatenate([frame["top"], middle, frame["bottom"]], axis=0)


def add_frame(
    images: Float[Array, "b h w c"],
    frame: Mapping[str, Array],
    scale: float = 1.0,
) -> Float[Array, "b h w c"]:
    """Adds the frame to every image, in pixels of [-1, 1], or to every latent.

    Koley et al. combine frame and image by "+" in pixel space; the sum is not clipped
    (ours), since a clipped pixel would pass no gradient.

    Raises: ValueError where the frame was made for another size, or other latents.
    """
    picture = frame_image(frame)
    if picture.shape != images.shape[1:]:
        raise ValueError(
            f"the prompt's frame is for {picture.shape} (rows, columns, channels) and "
            f"these are {images.shape[1:]}: prompts belong to the image size and the "
            "autoencoder they were trained with"
        )
    return images + (scale * picture)[None].astype(images.dtype)


def count(prompts: Prompts) -> int:
    """The number of scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(prompts))

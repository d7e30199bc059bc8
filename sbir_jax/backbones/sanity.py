"""Whether a loaded backbone computes anything: one pass over two test pictures.

A checkpoint can be whole, of the right shapes, and still useless: an infinite epsilon,
weights that are all zero, or not finite. Everything made with it would look like any
other descriptor. What passed is remembered by its fingerprint.
"""

import hashlib
import pathlib

import jax
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.backbones.base import Backbone, Frozen, LoadedBackbone
from sbir_jax.runtime import hardware

PIXELS = 64  # at least, of the test pictures; their content is all that counts


def check(loaded: LoadedBackbone, taps: tuple[str, ...]) -> None:
    """Asks the image encoder, the text encoder and the denoising network once.

    Args:
      taps: what will be read.
    Raises: ValueError where an activation is not finite, or the same for two pictures,
      or for two texts.
    """
    backbone, frozen = loaded.backbone, loaded.frozen
    asked = repr((backbone.fingerprint, str(backbone.dtype), taps))
    passed = _cache() / hashlib.sha256(asked.encode()).hexdigest()
    if passed.exists():
        return
    run = hardware.jit(
        _read, hardware.device_of(frozen), static_argnames=("backbone", "taps")
    )
    tokens = jax.tree.map(np.asarray, backbone.tokenize(["a red mug", "two chairs"]))
    for name, found in run(backbone, taps, frozen, _pictures(backbone), tokens).items():
        one, other = np.asarray(found, np.float32)
        problem = None
        if not np.isfinite([one, other]).all():
            problem = "not finite"
        elif np.array_equal(one, other):
            problem = "the same for two inputs that differ"
        if problem:
            raise ValueError(
                f"{backbone.source} cannot be used: {name} is {problem}. Its weights "
                f"or configs in {backbone.folder} are damaged; copy or fetch them again"
            )
    try:
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
    except OSError:  # without a home that can be written to it is asked every time
        pass


def _cache() -> pathlib.Path:
    return pathlib.Path.home() / ".cache" / "sbir_jax" / "checked"


def _pictures(backbone: Backbone) -> Float[np.ndarray, "2 h w 3"]:
    """Coloured noise and its mirror image, as small as the backbone takes them."""
    side = -(-PIXELS // backbone.stride) * backbone.stride
    rng = np.random.default_rng(0)
    one = rng.uniform(-1, 1, (side, side, 3)).astype(np.float32)
    return np.stack([one, one[:, ::-1]])


def _read(
    backbone: Backbone, taps: tuple[str, ...], frozen: Frozen, images: Array, tokens
) -> dict[str, Array]:
    text = backbone.encode_text(frozen, tokens)
    latents = backbone.encode_image(frozen, images)
    timestep = backbone.schedule.timesteps // 4
    found = backbone.read(frozen, latents, timestep, text, taps=taps)
    return {
        "a text's states": text.states,
        "an image's latent": latents,
        **{f"the activation {name}": value for name, value in found.taps.items()},
    }

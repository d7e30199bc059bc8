"""A small classifier of Toybox photos: which thing, and which colour.

It judges pictures that a generative model made, so it is trained on renders alone.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from safetensors.flax import load_file

from sbir_jax.runtime import checkpoint, replacing, schema, sharding
from sbir_jax.runtime.tensor_files import save_tensors

CHANNELS = (32, 64, 128, 192)
AT_ONCE = 64  # images


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """What the outputs stand for, in their order."""

    categories: tuple[str, ...]
    colours: tuple[str, ...]


class Judge(nn.Module):
    """Four stages of convolutions, each at half the side of the one before."""

    config: JudgeConfig

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b things"], Float[Array, "b colours"]]:
        """Logits of categories and of colours, of images in [-1, 1]."""
        x = images
        for channels in CHANNELS:
            x = nn.Conv(channels, (3, 3), (2, 2), use_bias=False)(x)
            x = nn.relu(nn.GroupNorm(8)(x))
            x = nn.Conv(channels, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.GroupNorm(8)(x))
        # The thing fills some places: the maximum finds them, the mean weighs them.
        pooled = jnp.concatenate([x.max((1, 2)), x.mean((1, 2))], axis=-1)
        self.sow("intermediates", "pooled", pooled)
        return (
            nn.Dense(len(self.config.categories), name="category")(pooled),
            nn.Dense(len(self.config.colours), name="colour")(pooled),
        )


def init_judge(config: JudgeConfig, key: Array) -> dict:
    """Parameters before training."""
    found: Any = Judge(config).init(key, jnp.zeros((1, 64, 64, 3)))
    return found["params"]


def save_judge(folder: pathlib.Path, config: JudgeConfig, params: dict) -> None:
    """Writes `config.json` and `judge.safetensors`, in float16."""
    named = checkpoint.named(params)
    tensors = {name: np.asarray(leaf, np.float16) for name, leaf in named.items()}
    with replacing.written_aside(folder) as aside:
        save_tensors(aside / "judge.safetensors", tensors)
        (aside / "config.json").write_text(json.dumps(dataclasses.asdict(config)))


def load_judge(folder: pathlib.Path) -> tuple[JudgeConfig, dict]:
    """What `save_judge` wrote, in float32.

    Raises: FileNotFoundError without a judge there; ValueError if the files do not hold
      one, or not the parameters of this network.
    """
    replacing.recover(folder)
    path, remedy = folder / "config.json", "Make it again: python -m tools.judge_toybox"
    read = schema.read_json(path, remedy)
    config = schema.validated(JudgeConfig, read, str(path), remedy)
    shapes = jax.eval_shape(lambda: init_judge(config, jax.random.key(0)))
    tensors = load_file(folder / "judge.safetensors")

    def leaf(name, shape):
        if name not in tensors or tensors[name].shape != shape.shape:
            raise ValueError(
                f"{folder / 'judge.safetensors'}: {name} is not of shape "
                f"{shape.shape}; make it again with python -m tools.judge_toybox"
            )
        return jnp.asarray(tensors[name], jnp.float32)

    leaves = [leaf(*pair) for pair in checkpoint.named(shapes).items()]
    return config, jax.tree.unflatten(jax.tree.structure(shapes), leaves)


class Judged(NamedTuple):
    """What the judge says of n photos, and what it decides by: distances of
    distributions are taken there."""

    things: list[str]
    colours: list[str]
    features: Float[np.ndarray, "n d"]


def judge(
    config: JudgeConfig, params: dict, images: UInt8[np.ndarray, "n h w 3"]
) -> Judged:
    """The category and the colour of each photo."""
    found = []
    for start in range(0, len(images), AT_ONCE):
        some = images[start : start + AT_ONCE]
        padded = sharding.pad_batch(some, AT_ONCE)
        outputs = jax.device_get(_outputs(config, params, padded))
        found.append([output[: len(some)] for output in outputs])
    things, colours, features = map(np.concatenate, zip(*found, strict=True))
    return Judged(
        [config.categories[i] for i in things.argmax(1)],
        [config.colours[i] for i in colours.argmax(1)],
        features,
    )


@functools.partial(jax.jit, static_argnums=0)
def _outputs(config: JudgeConfig, params: dict, images: Array):
    given = {"params": params}, images / 127.5 - 1.0
    (things, colours), more = Judge(config).apply(*given, mutable=["intermediates"])
    return things, colours, more["intermediates"]["pooled"][0]

"""A small classifier of Toybox photos: which thing, and which colour.

It judges pictures that a generative model made, so it is trained on renders alone.
"""

import dataclasses
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors.flax import load_file, save_file

CHANNELS = (32, 64, 128, 192)


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
        return (
            nn.Dense(len(self.config.categories), name="category")(pooled),
            nn.Dense(len(self.config.colours), name="colour")(pooled),
        )


def init_judge(config: JudgeConfig, key: Array) -> dict:
    """Parameters before training."""
    return Judge(config).init(key, jnp.zeros((1, 64, 64, 3)))["params"]


def save_judge(folder: pathlib.Path, config: JudgeConfig, params: dict) -> None:
    """Writes `config.json` and `judge.safetensors`, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = jax.tree.leaves_with_path(params)
    tensors = {_name(path): jnp.asarray(leaf, jnp.float16) for path, leaf in flat}
    save_file(tensors, folder / "judge.safetensors")
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config)))


def load_judge(folder: pathlib.Path) -> tuple[JudgeConfig, dict]:
    """What `save_judge` wrote, in float32.

    Raises: ValueError if the file does not hold the parameters of this network.
    """
    read = json.loads((folder / "config.json").read_text())
    config = JudgeConfig(tuple(read["categories"]), tuple(read["colours"]))
    shapes = jax.eval_shape(lambda: init_judge(config, jax.random.key(0)))
    tensors = load_file(folder / "judge.safetensors")

    def leaf(path, shape):
        name = _name(path)
        if name not in tensors or tensors[name].shape != shape.shape:
            raise ValueError(
                f"{folder / 'judge.safetensors'}: {name} is not of shape "
                f"{shape.shape}; make it again with python -m tools.judge_toybox"
            )
        return jnp.asarray(tensors[name], jnp.float32)

    return config, jax.tree.map_with_path(leaf, shapes)


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def judge(
    config: JudgeConfig, params: dict, images: np.ndarray, batch: int = 64
) -> tuple[list[str], list[str]]:
    """The category and the colour of each photo, uint8 [n, h, w, 3]."""
    things, colours = [], []
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        padded = np.concatenate([some, some[:1].repeat(batch - len(some), 0)])
        thing, colour = _logits(config, params, padded)
        things += [
            config.categories[i] for i in np.asarray(thing).argmax(1)[: len(some)]
        ]
        colours += [
            config.colours[i] for i in np.asarray(colour).argmax(1)[: len(some)]
        ]
    return things, colours


@jax.jit(static_argnums=0)
def _logits(config: JudgeConfig, params: dict, images: Array):
    return Judge(config).apply({"params": params}, images / 127.5 - 1.0)

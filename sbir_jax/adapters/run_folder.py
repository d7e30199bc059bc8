"""What a retrieval run has learned, read from its folder with nothing trusted."""

import dataclasses
import pathlib
from typing import Annotated, Literal

from jax.sharding import Mesh
from pydantic import Field

from sbir_jax.adapters.prompts import PromptConfig, Prompts, check_shapes
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen
from sbir_jax.backbones.loading import random_backbone
from sbir_jax.features import Recipe
from sbir_jax.runtime import checkpoint, schema

FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class Training:
    seed: Annotated[int, Field(ge=0, lt=2**31)]


@dataclasses.dataclass(frozen=True)
class Config:
    """Of a run's config.json, what makes a descriptor."""

    task: str
    backbone: str
    random_weights: bool
    image_size: Annotated[int, Field(ge=1, le=2**13)]
    recipe: Recipe
    prompt: PromptConfig
    train: Training
    encoder: str = ""
    # Runs from before there was a choice are float32.
    dtype: Literal["float32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True)
class Learned:
    """Prompts of a run, and the backbone that they were trained on."""

    config: Config
    loaded: LoadedBackbone
    prompts: Prompts


def read(workdir: pathlib.Path, mesh: Mesh) -> Learned:
    """The best prompts of a run, on the host, and its backbone on these devices.

    Raises: FileNotFoundError without a run there; ValueError for a damaged one, and
      where the backbone that its config names is no longer the one it was trained with.
    """
    path = workdir / FILE
    train = (
        f"{workdir} is not a run folder; train one with: python -m sbir_jax.main "
        f"--config configs/toybox.py --workdir {workdir}"
    )
    values = schema.read_json(path, train)
    config = schema.validated(Config, values, str(path), checkpoint.REMEDY)
    where, taps, dtype = config.backbone, config.recipe.taps, config.dtype
    loaded = load_frozen(where, taps, mesh, dtype, config.encoder)
    if config.random_weights:
        loaded = random_backbone(loaded, seed=config.train.seed)
    backbone = loaded.backbone
    leaves = checkpoint.load_trained(workdir, backbone.fingerprint)
    prompts = Prompts(**leaves)
    size = backbone.checked_size(config.image_size)
    latent = backbone.latent_shape(size)
    check_shapes(prompts, str(workdir), size, latent, backbone.context_dim)
    return Learned(config, loaded, prompts)

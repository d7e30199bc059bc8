"""What a retrieval run has learned, read from its folder with nothing trusted."""

import dataclasses
import pathlib

from jax.sharding import Mesh

from sbir_jax.adapters.prompts import PromptConfig, Prompts, check_shapes
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen
from sbir_jax.backbones.loading import random_backbone
from sbir_jax.features import Recipe
from sbir_jax.runtime import checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(checkpoint.OnBackbone):
    """Of a run's config.json, what makes a descriptor."""

    task: str
    recipe: Recipe
    prompt: PromptConfig


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
    command = "python -m sbir_jax.main --config configs/toybox.py"
    values = checkpoint.run_config(workdir, f"{command} --workdir {workdir}")
    config = checkpoint.checked_config(Config, values, workdir)
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

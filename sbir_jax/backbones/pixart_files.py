"""PixArt from a folder in the layout of diffusers."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import TRANSFORMER, naming, read_json
from sbir_jax.backbones.pixart import PixArtBackbone
from sbir_jax.backbones.reading import read_networks
from sbir_jax.backbones.request import Request
from sbir_jax.backbones.transformer_files import (
    autoencoder_part,
    check_widths,
    text_part,
    transformer_part,
)
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.pixart import PixArt
from sbir_jax.models.t5_text import T5Text
from sbir_jax.models.transformer_configs import PixArtConfig, T5TextConfig

CONFIGS = {part: f"{part}/config.json" for part in (TRANSFORMER, "vae", "text_encoder")}
CONFIGS["scheduler"] = "scheduler/scheduler_config.json"
# Tokens of a text, by the class of the pipeline: as each was trained.
TEXT_LENGTHS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


def load(folder: pathlib.Path, request: Request) -> LoadedBackbone:
    """What `load_backbone` gives, of a folder with PixArt's networks."""
    dtype = request.placing.dtype
    kind = read_json(folder / "model_index.json")["_class_name"]
    configs = {part: read_json(folder / name) for part, name in CONFIGS.items()}
    with naming(folder):
        transformer, vae, text_encoder = build_networks(configs, dtype)
        schedule = NoiseSchedule.from_json(configs["scheduler"])
    autoencoder, vae_part = autoencoder_part(folder, vae, configs, request)
    given = folder, transformer, transformer_shapes, transformer_name, request
    parts = {
        "unet": transformer_part(*given),
        "vae": vae_part,
        "text_encoder": text_part(folder, "text_encoder", text_encoder, request),
    }
    frozen, fingerprint = read_networks(parts, configs, request.placing)
    backbone = PixArtBackbone(
        source=request.source,
        folder=folder,
        fingerprint=fingerprint,
        transformer=transformer,
        vae=autoencoder,
        text_encoder=text_encoder,
        text_length=TEXT_LENGTHS[kind],
        schedule=schedule,
        encoder=request.encoder,
    )
    return LoadedBackbone(backbone, frozen)


def build_networks(
    configs: dict[str, dict[str, Any]], dtype: Any = jnp.float32
) -> tuple[PixArt, Autoencoder, T5Text]:
    """The three networks, from the contents of their configs under their names.

    Raises ValueError on a config we cannot follow, and on configs that do not fit.
    """
    transformer = PixArtConfig.from_json(configs[TRANSFORMER])
    vae = AutoencoderConfig.from_json(configs["vae"])
    text = T5TextConfig.from_json(configs["text_encoder"])
    check_widths(
        ("text states", text.d_model, transformer.caption_channels),
        ("latents", vae.latent_channels, transformer.in_channels),
    )
    return PixArt(transformer, dtype), Autoencoder(vae, dtype), T5Text(text, dtype)


def transformer_name(name: str) -> str | None:
    """A tensor's name as `tensor_name` has it; None for what is not read: what training
    put in the place of captions that it dropped."""
    return None if name == "caption_projection.y_embedding" else name


@functools.cache
def transformer_shapes(
    config: PixArtConfig,
    taps: tuple[str, ...] = ("out",),
    maps: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Shapes of the parameters of as much of a transformer as runs for these names."""
    side = config.patch_size
    latents = jnp.zeros((1, side, side, config.in_channels))
    context = jnp.zeros((1, 1, config.caption_channels))
    given = latents, 0, context, None, (1, 1), taps, maps
    return jax.eval_shape(lambda: PixArt(config).init(jax.random.key(0), *given))[
        "params"
    ]

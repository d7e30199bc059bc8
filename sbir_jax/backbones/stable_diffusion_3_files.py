"""Stable Diffusion 3 and 3.5 from a folder in the layout of diffusers."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import TRANSFORMER, naming, read_json
from sbir_jax.backbones.reading import read_networks
from sbir_jax.backbones.request import Request
from sbir_jax.backbones.stable_diffusion_3 import StableDiffusion3
from sbir_jax.backbones.transformer_files import (
    autoencoder_part,
    check_widths,
    text_part,
    transformer_part,
)
from sbir_jax.diffusion import flow_schedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import ProjectedCLIPText
from sbir_jax.models.configs import AutoencoderConfig, ProjectedCLIPTextConfig
from sbir_jax.models.mmdit import MMDiT
from sbir_jax.models.mmdit_config import MMDiTConfig
from sbir_jax.models.t5_text import T5Text
from sbir_jax.models.transformer_configs import T5TextConfig

CLIPS, T5 = ("text_encoder", "text_encoder_2"), "text_encoder_3"
CONFIGS = {p: f"{p}/config.json" for p in (TRANSFORMER, "vae", *CLIPS)}
CONFIGS["scheduler"] = "scheduler/scheduler_config.json"


def load(folder: pathlib.Path, request: Request) -> LoadedBackbone:
    """What `load_backbone` gives, of a folder with Stable Diffusion 3's networks.

    A folder without a subfolder text_encoder_3 has no T5.
    """
    configs = {part: read_json(folder / name) for part, name in CONFIGS.items()}
    if (folder / T5).is_dir():
        configs[T5] = read_json(folder / T5 / "config.json")
    with naming(folder):
        networks = build_networks(configs, request.placing.dtype)
        schedule = flow_schedule.from_json(configs["scheduler"])
    given = folder, networks["vae"], configs, request
    networks["vae"], vae_part = autoencoder_part(*given)
    transformer = networks[TRANSFORMER]
    given = folder, transformer, transformer_shapes, lambda name: name, request
    parts = {"unet": transformer_part(*given), "vae": vae_part}
    for name in (*CLIPS, T5):
        if networks[name] is not None:
            parts[name] = text_part(folder, name, networks[name], request)
    frozen, fingerprint = read_networks(parts, configs, request.placing)
    backbone = StableDiffusion3(
        source=request.source,
        folder=folder,
        fingerprint=fingerprint,
        schedule=schedule,
        encoder=request.encoder,
        **networks,
    )
    return LoadedBackbone(backbone, frozen)


def build_networks(
    configs: dict[str, dict[str, Any]], dtype: Any = jnp.float32
) -> dict[str, Any]:
    """The networks by name, of the contents of their configs; None for a missing T5.

    Raises ValueError on a config we cannot follow, and on configs that do not fit.
    """
    transformer = MMDiTConfig.from_json(configs[TRANSFORMER])
    vae = AutoencoderConfig.from_json(configs["vae"])
    clips = [ProjectedCLIPTextConfig.from_json(configs[name]) for name in CLIPS]
    t5 = T5TextConfig.from_json(configs[T5]) if T5 in configs else None
    pooled = sum(clip.projection_dim for clip in clips)
    check_widths(
        ("latents", vae.latent_channels, transformer.in_channels),
        ("pooled texts", pooled, transformer.pooled_projection_dim),
        *([("T5's states", t5.d_model, transformer.joint_attention_dim)] if t5 else []),
    )
    joined = sum(clip.hidden_size for clip in clips)
    if joined > transformer.joint_attention_dim:
        raise ValueError(
            f"CLIP's states have {joined} channels together, but the transformer takes "
            f"{transformer.joint_attention_dim}: these configs are of different models"
        )
    first, second = (clip.max_position_embeddings for clip in clips)
    if first != second:
        raise ValueError(
            f"the text encoders take texts of {first} and of {second} tokens "
            "(max_position_embeddings), which cannot stand side by side: these configs "
            "are of different models"
        )
    return {
        TRANSFORMER: MMDiT(transformer, dtype),
        "vae": Autoencoder(vae, dtype),
        CLIPS[0]: ProjectedCLIPText(clips[0], dtype),
        CLIPS[1]: ProjectedCLIPText(clips[1], dtype),
        T5: T5Text(t5, dtype) if t5 else None,
    }


@functools.cache
def transformer_shapes(
    config: MMDiTConfig,
    taps: tuple[str, ...] = ("out",),
    maps: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Shapes of the parameters of as much of a transformer as runs for these names."""
    side = config.patch_size
    latents = jnp.zeros((1, side, side, config.in_channels))
    context = jnp.zeros((1, 1, config.joint_attention_dim))
    pooled = jnp.zeros((1, config.pooled_projection_dim))
    given = latents, 0, context, pooled, taps, maps
    return jax.eval_shape(lambda: MMDiT(config).init(jax.random.key(0), *given))[
        "params"
    ]

"""PixArt from a folder in the layout of diffusers."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import (
    STEMS,
    TRANSFORMER,
    TensorFolder,
    naming,
    read_json,
)
from sbir_jax.backbones.distilled_encoder import find_encoder, read_encoder
from sbir_jax.backbones.pixart import PixArtBackbone
from sbir_jax.backbones.reading import Part, read_networks
from sbir_jax.backbones.request import Request, chosen
from sbir_jax.backbones.stable_diffusion_files import METHODS
from sbir_jax.backbones.stable_diffusion_files import shapes as vae_shapes
from sbir_jax.backbones.tensor_names import renamer
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.pixart import PixArt
from sbir_jax.models.pixart_names import tap_names
from sbir_jax.models.t5_text import T5Text
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
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
    vae_folder, autoencoder = folder / "vae", vae
    if request.encoder:
        vae_folder = find_encoder(request.encoder, folder)
        with naming(vae_folder):
            autoencoder, configs["vae"] = read_encoder(vae_folder, vae.config, dtype)
    parts = {
        "unet": _transformer(folder, transformer, request),
        "vae": _autoencoder(vae_folder, autoencoder, request),
        "text_encoder": _text_encoder(folder, text_encoder, request),
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
    for what, ours, theirs in (
        ("text states", text.d_model, transformer.caption_channels),
        ("latents", vae.latent_channels, transformer.in_channels),
    ):
        if ours != theirs:
            raise ValueError(
                f"{what} have {ours} channels, but the transformer takes {theirs}: "
                "these configs are of different models"
            )
    return PixArt(transformer, dtype), Autoencoder(vae, dtype), T5Text(text, dtype)


def _transformer(folder: pathlib.Path, network: PixArt, request: Request) -> Part:
    tensors = TensorFolder(folder / TRANSFORMER, STEMS["unet"], transformer_name)
    taps = chosen(request.taps, tap_names(network.config))
    wanted = functools.partial(transformer_shapes, network.config, taps, request.maps)
    return Part(
        TRANSFORMER,
        tensors,
        network.config.counts,
        functools.partial(transformer_shapes, network.config),
        wanted if "unet" in request.parts else dict,
        network.dtype,
    )


def _autoencoder(
    folder: pathlib.Path, network: Autoencoder | TinyAutoencoder, request: Request
) -> Part:
    rename = renamer("tiny" if isinstance(network, TinyAutoencoder) else "vae")
    methods = tuple(m for m in METHODS if f"vae_{m}r" in request.parts)
    found = functools.partial(vae_shapes, type(network), network.config)
    tensors = TensorFolder(folder, STEMS["vae"], rename)
    wanted = functools.partial(found, methods=methods)
    return Part("vae", tensors, network.config.counts, found, wanted, network.dtype)


def _text_encoder(folder: pathlib.Path, network: T5Text, request: Request) -> Part:
    name = "text_encoder"
    tensors = TensorFolder(folder / name, STEMS[name], t5_name)
    found = functools.partial(t5_shapes, network.config)
    wanted = found if name in request.parts else dict
    return Part(name, tensors, network.config.counts, found, wanted, network.dtype)


def transformer_name(name: str) -> str | None:
    """A tensor's name as `tensor_name` has it; None for what is not read: what training
    put in the place of captions that it dropped."""
    return None if name == "caption_projection.y_embedding" else name


def t5_name(name: str) -> str | None:
    """As `transformer_name`; not read is a copy of the tokens' embedding."""
    if name == "encoder.embed_tokens.weight":
        return None
    return name.replace(".wi_", ".wi.")


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


@functools.cache
def t5_shapes(config: T5TextConfig) -> dict[str, Any]:
    """Shapes of the parameters of a text encoder."""
    given = jnp.zeros((1, 1), int), jnp.ones((1, 1), bool)
    return jax.eval_shape(lambda: T5Text(config).init(jax.random.key(0), *given))[
        "params"
    ]

"""Stable Diffusion from and to a folder in the layout of diffusers.

Loading takes three steps: work out from the configs which tensors there must be,
compare that with the headers of the files, then place one tensor after the other.
"""

import functools
import os
import pathlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import (
    STEMS,
    TensorFolder,
    naming,
    read_json,
)
from sbir_jax.backbones.diffusers_writing import write_folder
from sbir_jax.backbones.distilled_encoder import find_encoder, read_encoder
from sbir_jax.backbones.parameters import drawn
from sbir_jax.backbones.reading import Part, read_networks
from sbir_jax.backbones.stable_diffusion import StableDiffusion
from sbir_jax.backbones.tensor_names import (
    published,
    renamer,
)
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import CLIPText
from sbir_jax.models.configs import (
    AutoencoderConfig,
    CLIPTextConfig,
    TinyAutoencoderConfig,
    UNetConfig,
)
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.models.unet import UNet

if TYPE_CHECKING:
    from sbir_jax.backbones.loading import Request

Network = UNet | Autoencoder | TinyAutoencoder | CLIPText
METHODS = ("encode", "decode")
CONFIGS = {
    **{part: f"{part}/config.json" for part in STEMS},
    "scheduler": "scheduler/scheduler_config.json",
}


def load(folder: pathlib.Path, request: "Request") -> LoadedBackbone:
    """What `load_backbone` gives, of a folder with Stable Diffusion's networks."""
    dtype = request.placing.dtype
    configs = {part: read_json(folder / name) for part, name in CONFIGS.items()}
    with naming(folder):
        unet, vae, text_encoder = build_networks(configs, dtype)
        schedule = NoiseSchedule.from_json(configs["scheduler"])
    folders = {part: folder / part for part in STEMS}
    if request.encoder:
        folders["vae"] = find_encoder(request.encoder, folder)
        with naming(folders["vae"]):
            vae, configs["vae"] = read_encoder(folders["vae"], vae.config, dtype)

    parts, networks = {}, {"unet": unet, "vae": vae, "text_encoder": text_encoder}
    for name, network in networks.items():
        rename = renamer("tiny" if isinstance(network, TinyAutoencoder) else name)
        tensors = TensorFolder(folders[name], STEMS[name], rename)
        all_shapes = functools.partial(shapes, type(network), network.config)
        wanted = functools.partial(_wanted, name, network, request)
        counts = network.config.counts
        parts[name] = Part(name, tensors, counts, all_shapes, wanted)
    frozen, fingerprint = read_networks(parts, configs, request.placing)
    backbone = StableDiffusion(
        source=request.source,
        folder=folder,
        fingerprint=fingerprint,
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        schedule=schedule,
        encoder=request.encoder,
    )
    return LoadedBackbone(backbone, frozen)


def _wanted(name: str, network: Network, request: "Request") -> dict[str, Any]:
    """Shapes of a network's parameters that a request needs; empty for none."""
    kind, config = type(network), network.config
    if name in request.parts:
        return shapes(kind, config, request.taps, request.maps)
    if name == "vae":
        methods = tuple(m for m in METHODS if f"vae_{m}r" in request.parts)
        return shapes(kind, config, methods=methods)
    return {}


def build_networks(
    configs: dict[str, dict[str, Any]], dtype: Any = jnp.float32
) -> tuple[UNet, Autoencoder, CLIPText]:
    """The three networks, from the contents of their configs under their names.

    Raises ValueError on a config we cannot follow, and on configs that do not fit.
    """
    unet = UNetConfig.from_json(configs["unet"])
    vae = AutoencoderConfig.from_json(configs["vae"])
    text = CLIPTextConfig.from_json(configs["text_encoder"])
    if text.hidden_size != unet.cross_attention_dim:
        raise ValueError(
            f"text states have {text.hidden_size} channels, but the UNet takes "
            f"{unet.cross_attention_dim}: these configs are of different models"
        )
    if vae.latent_channels != unet.in_channels:
        raise ValueError(
            f"latents have {vae.latent_channels} channels, but the UNet takes "
            f"{unet.in_channels}; inpainting and similar UNets are not supported"
        )
    return UNet(unet, dtype), Autoencoder(vae, dtype), CLIPText(text, dtype)


def init_params(network: Network, key: jax.Array) -> dict[str, Any]:
    """Random float32 parameters for all of a network, to train it from nothing; see
    `parameters.drawn`."""
    found = drawn(
        shapes(type(network), network.config), np.asarray(jax.random.key_data(key))
    )
    return jax.tree.map(jnp.asarray, found)


def save_diffusers(
    folder: str | os.PathLike[str],
    configs: dict[str, dict[str, Any]],
    params: dict[str, Any],
    dtype: Any = jnp.float32,
    tokenizer: str | os.PathLike[str] | None = None,
) -> None:
    """Write a folder that `load_backbone` and diffusers load; it appears at once.

    Args:
      folder: replaced if it exists.
      configs: contents of the config files of "unet", "vae", "text_encoder" and
        "scheduler".
      params: complete parameter trees of the three networks.
      dtype: floating type of the tensors in the files.
      tokenizer: a folder with the files of a tokenizer, copied, or None.

    Raises:
      ValueError: the parameters are not those that the configs ask for.
    """
    NoiseSchedule.from_json(configs["scheduler"])
    tensors = {}
    networks: dict[str, Any] = dict(zip(STEMS, build_networks(configs), strict=True))
    for name, network in networks.items():
        expected = jax.tree.map(jnp.shape, shapes(type(network), network.config))
        if jax.tree.map(jnp.shape, params[name]) != expected:
            raise ValueError(f"the {name} parameters do not fit the {name} config")
        prefix = "text_model." if name == "text_encoder" else ""
        values = published(params[name], dtype)
        tensors[name] = {prefix + key: value for key, value in values.items()}
    write_folder(folder, configs, tensors, tokenizer)


@functools.cache
def shapes(
    kind: Any,
    config: UNetConfig | AutoencoderConfig | TinyAutoencoderConfig | CLIPTextConfig,
    taps: tuple[str, ...] = ("out",),
    maps: tuple[str, ...] = (),
    methods: tuple[str, ...] = METHODS,
) -> dict[str, Any]:
    """Shapes of the parameters of as much of a network as runs for these arguments.

    Kept for the next call, since tracing a large UNet takes a second.
    """
    key, network = jax.random.key(0), kind(config)
    if isinstance(config, UNetConfig):
        latents = jnp.zeros((1, config.stride, config.stride, config.in_channels))
        context = jnp.zeros((1, 1, config.cross_attention_dim))
        calls = [((latents, 0, context, taps, maps), {})]
    elif isinstance(config, CLIPTextConfig):
        calls = [((jnp.zeros((1, 1), int),), {})]
    else:
        inputs = {
            "encode": jnp.zeros((1, config.factor, config.factor, config.in_channels)),
            "decode": jnp.zeros((1, 1, 1, config.latent_channels)),
        }
        has = [method for method in methods if hasattr(kind, method)]
        calls = [((inputs[method],), {"method": method}) for method in has]
    params = {}
    for args, kwargs in calls:
        variables = jax.eval_shape(lambda a=args, k=kwargs: network.init(key, *a, **k))
        params |= variables["params"]
    return params

"""Stable Diffusion from and to a folder in the layout of diffusers.

Loading takes three steps: work out from the configs which tensors there must be,
compare that with the headers of the files, then place one tensor after the other.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax.backbones.base import Frozen, LoadedBackbone
from sbir_jax.backbones.diffusers_files import (
    MORE,
    STEMS,
    TensorFolder,
    naming,
    read_json,
)
from sbir_jax.backbones.diffusers_writing import write_folder
from sbir_jax.backbones.distilled_encoder import find_encoder, read_encoder
from sbir_jax.backbones.parameters import drawn
from sbir_jax.backbones.reading import Part, read_networks
from sbir_jax.backbones.request import Request, chosen
from sbir_jax.backbones.stable_diffusion import StableDiffusion
from sbir_jax.backbones.tensor_names import (
    published,
    renamer,
)
from sbir_jax.backbones.tensors import Tensors
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import CLIPText, ProjectedCLIPText
from sbir_jax.models.configs import (
    AutoencoderConfig,
    CLIPTextConfig,
    TinyAutoencoderConfig,
)
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.models.unet import UNet
from sbir_jax.models.unet_config import SIZES, UNetConfig
from sbir_jax.models.unet_names import tap_names

Network = UNet | Autoencoder | TinyAutoencoder | CLIPText | ProjectedCLIPText
METHODS = ("encode", "decode")
CONFIGS = {
    **{part: f"{part}/config.json" for part in STEMS},
    "scheduler": "scheduler/scheduler_config.json",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a model is read from.

    Attributes:
      place: the folder or file, named in errors.
      configs: contents of the config files of all networks, and "scheduler".
      tensors: opens the tensors of a network, by its name.
      words: the folder that tokenizers' folders are in; None where there may be none.
    """

    place: pathlib.Path
    configs: dict[str, dict[str, Any]]
    tensors: Callable[[str], Tensors]
    words: pathlib.Path | None = None


def open_folder(folder: pathlib.Path, more: tuple[str, ...] = ()) -> Checkpoint:
    """A folder in the layout of diffusers.

    Args:
      more: networks beside those of `STEMS`.
    """
    configs = {part: read_json(folder / name) for part, name in CONFIGS.items()}
    configs |= {part: read_json(folder / part / "config.json") for part in more}

    def tensors(name: str) -> Tensors:
        return TensorFolder(folder / name, (STEMS | MORE)[name], renamer(name))

    return Checkpoint(folder, configs, tensors, folder)


def load(folder: pathlib.Path, request: Request) -> LoadedBackbone:
    """What `load_backbone` gives, of a folder with Stable Diffusion's networks."""
    return assemble(open_folder(folder), request)


def assemble(checkpoint: Checkpoint, request: Request) -> LoadedBackbone:
    """Stable Diffusion's networks with their weights."""

    def named(*given: Any) -> dict[str, Any]:
        return dict(zip(STEMS, build_networks(*given), strict=True))

    return assemble_as(StableDiffusion, named, checkpoint, request)


def assemble_as(
    family: type[StableDiffusion],
    build: Callable[[dict[str, dict[str, Any]], Any], dict[str, Any]],
    checkpoint: Checkpoint,
    request: Request,
) -> LoadedBackbone:
    """The networks that `build` makes of configs and a type, with their weights, as a
    backbone of this family."""
    with naming(checkpoint.place):
        networks = build(checkpoint.configs, request.placing.dtype)
        schedule = NoiseSchedule.from_json(checkpoint.configs["scheduler"])
    checkpoint = put_encoder(checkpoint, networks, request)
    frozen, fingerprint = read_weights(checkpoint, networks, request)
    backbone = family(
        source=request.source,
        folder=checkpoint.place,
        words=checkpoint.words,
        fingerprint=fingerprint,
        schedule=schedule,
        encoder=request.encoder,
        **networks,
    )
    return LoadedBackbone(backbone, frozen)


def put_encoder(
    checkpoint: Checkpoint, networks: dict[str, Any], request: Request
) -> Checkpoint:
    """The checkpoint with the encoder that was asked for in the place of its own, which
    is replaced in `networks`, too."""
    if not request.encoder:
        return checkpoint
    folder = find_encoder(request.encoder, checkpoint.place)
    with naming(folder):
        networks["vae"], content = read_encoder(
            folder, networks["vae"].config, request.placing.dtype
        )
    own = checkpoint.tensors

    def tensors(name: str) -> Tensors:
        if name == "vae":
            return TensorFolder(folder, STEMS["vae"], renamer("tiny"))
        return own(name)

    configs = checkpoint.configs | {"vae": content}
    return dataclasses.replace(checkpoint, configs=configs, tensors=tensors)


def read_weights(
    checkpoint: Checkpoint, networks: dict[str, Any], request: Request
) -> tuple[Frozen, str]:
    """What `read_networks` gives of these networks.

    Raises: ValueError for tensors that do not fit the configs.
    """
    parts = {
        name: Part(
            name,
            checkpoint.tensors(name),
            network.config.counts,
            functools.partial(shapes, type(network), network.config),
            functools.partial(_wanted, name, network, request),
            network.dtype,
        )
        for name, network in networks.items()
    }
    return read_networks(parts, checkpoint.configs, request.placing)


def _wanted(name: str, network: Network, request: Request) -> dict[str, Any]:
    """Shapes of a network's parameters that a request needs; empty for none."""
    kind, config = type(network), network.config
    if name.removesuffix("_2") in request.parts:
        if not isinstance(config, UNetConfig):
            return shapes(kind, config)
        taps = chosen(request.taps, tap_names(config))
        return shapes(kind, config, taps, request.maps)
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
    if unet.pooled_dim:
        raise ValueError(
            f"unet/config.json has addition_embed_type={unet.addition_embed_type!r}, "
            "as StableDiffusionXLPipeline has; let model_index.json name that as its "
            "_class_name, beside text_encoder_2/ and tokenizer_2/"
        )
    check_fit(unet, vae, text.hidden_size)
    return UNet(unet, dtype), Autoencoder(vae, dtype), CLIPText(text, dtype)


def check_fit(unet: UNetConfig, vae: AutoencoderConfig, text_width: int) -> None:
    """Raise ValueError unless these belong together."""
    if text_width != unet.cross_attention_dim:
        raise ValueError(
            f"text states have {text_width} channels, but the UNet takes "
            f"{unet.cross_attention_dim}: these configs are of different models"
        )
    if vae.latent_channels != unet.in_channels:
        raise ValueError(
            f"latents have {vae.latent_channels} channels, but the UNet takes "
            f"{unet.in_channels}; inpainting and similar UNets are not supported"
        )


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
        more = {}
        if config.pooled_dim:
            pooled, sizes = jnp.zeros((1, config.pooled_dim)), jnp.zeros((1, SIZES))
            more = {"pooled": pooled, "sizes": sizes}
        calls = [((latents, 0, context, taps, maps), more)]
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

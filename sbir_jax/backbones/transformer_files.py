"""What is read of a folder with a diffusion transformer, network by network."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax.backbones.diffusers_files import (
    MORE,
    STEMS,
    TRANSFORMER,
    TensorFolder,
    naming,
)
from sbir_jax.backbones.distilled_encoder import find_encoder, read_encoder
from sbir_jax.backbones.reading import Part
from sbir_jax.backbones.request import Request, chosen
from sbir_jax.backbones.stable_diffusion_files import METHODS, shapes
from sbir_jax.backbones.tensor_names import renamer
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.block_names import tap_names
from sbir_jax.models.clip_text import ProjectedCLIPText
from sbir_jax.models.t5_text import T5Text
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.models.transformer_configs import T5TextConfig

Rename = Callable[[str], str | None]


def check_widths(*pairs: tuple[str, int, int]) -> None:
    """Raise ValueError unless what networks give is what the transformer takes.

    Args:
      pairs: what it is, and the channels of the one and of the other.
    """
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise ValueError(
                f"{what} have {ours} channels, but the transformer takes {theirs}: "
                "these configs are of different models"
            )


def transformer_part(
    folder: pathlib.Path,
    network: Any,
    shapes: Callable[..., dict[str, Any]],
    rename: Rename,
    request: Request,
) -> Part:
    """The transformer of a folder.

    Args:
      shapes: of a config, and of taps and maps where not all of it runs.
    """
    tensors = TensorFolder(folder / TRANSFORMER, STEMS["unet"], rename)
    taps = chosen(request.taps, tap_names(network.config))
    wanted = functools.partial(shapes, network.config, taps, request.maps)
    return Part(
        TRANSFORMER,
        tensors,
        network.config.counts,
        functools.partial(shapes, network.config),
        wanted if "unet" in request.parts else dict,
        network.dtype,
    )


def autoencoder_part(
    folder: pathlib.Path,
    network: Autoencoder,
    configs: dict[str, dict[str, Any]],
    request: Request,
) -> tuple[Autoencoder | TinyAutoencoder, Part]:
    """The autoencoder of a folder, or the distilled encoder that a request names, whose
    config is put in its place."""
    place, own, rename = folder / "vae", network, renamer("vae")
    if request.encoder:
        place, rename = find_encoder(request.encoder, folder), renamer("tiny")
        with naming(place):
            own, configs["vae"] = read_encoder(place, network.config, network.dtype)
    methods = tuple(m for m in METHODS if f"vae_{m}r" in request.parts)
    found = functools.partial(shapes, type(own), own.config)
    tensors = TensorFolder(place, STEMS["vae"], rename)
    wanted = functools.partial(found, methods=methods)
    return own, Part("vae", tensors, own.config.counts, found, wanted, own.dtype)


def text_part(
    folder: pathlib.Path,
    name: str,
    network: T5Text | ProjectedCLIPText,
    request: Request,
) -> Part:
    """A text encoder, in the subfolder of that name."""
    if isinstance(network, T5Text):
        rename, found = t5_name, functools.partial(t5_shapes, network.config)
    else:
        rename = renamer(name)
        found = functools.partial(shapes, type(network), network.config)
    tensors = TensorFolder(folder / name, (STEMS | MORE)[name], rename)
    wanted = found if "text_encoder" in request.parts else dict
    return Part(name, tensors, network.config.counts, found, wanted, network.dtype)


def t5_name(name: str) -> str | None:
    """A tensor's name as `tensor_name` has it; None for what is not read: a copy of the
    tokens' embedding."""
    if name == "encoder.embed_tokens.weight":
        return None
    return name.replace(".wi_", ".wi.")


@functools.cache
def t5_shapes(config: T5TextConfig) -> dict[str, Any]:
    """Shapes of the parameters of a text encoder."""
    given = jnp.zeros((1, 1), int), jnp.ones((1, 1), bool)
    return jax.eval_shape(lambda: T5Text(config).init(jax.random.key(0), *given))[
        "params"
    ]

"""A frozen Stable Diffusion from a folder or hub id, straight to its devices.

Three steps: work out from the configs which tensors there must be, compare that with
the headers of the files, then place one tensor after the other.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax.backbones.base import Backbone
from sbir_jax.backbones.diffusers_files import (
    STEMS,
    TensorFolder,
    find_folder,
    read_json,
    write_folder,
)
from sbir_jax.backbones.distilled_encoder import find_encoder, read_encoder
from sbir_jax.backbones.tensor_names import (
    check_tensors,
    path_keys,
    published,
    renamer,
    tensor_name,
    to_file,
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
from sbir_jax.models.kernels import winograd
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.models.unet import UNet

Network = UNet | Autoencoder | TinyAutoencoder | CLIPText
Sharding = jax.sharding.Sharding
# From the path of a parameter ("unet/conv_in/kernel") and its shape.
ShardingRule = Callable[[str, tuple[int, ...]], Sharding]

METHODS = ("encode", "decode")
OUTPUTS = 64  # of a kernel, copied at a time (measured)
PARTS = ("unet", "vae_encoder", "vae_decoder", "text_encoder")


def load_backbone(
    source: str | os.PathLike[str],
    *,
    taps: tuple[str, ...] = ("out",),
    maps: tuple[str, ...] = (),
    parts: tuple[str, ...] = PARTS,
    dtype: Any = jnp.float32,
    sharding: Sharding | ShardingRule | None = None,
    frozen: bool = False,
    encoder: str = "",
) -> Backbone:
    """Load what the given features need of a diffusion model, and nothing more.

    Args:
      source: "toybox" (comes with the package), a local folder in the diffusers
        layout, or a hub id "owner/name", optionally with "@revision".
      taps, maps: what the UNet will be asked for; it is loaded up to the last of them.
      parts: any of "unet", "vae_encoder", "vae_decoder", "text_encoder".
      dtype: of the parameters and of the computation.
      sharding: where parameters go; one for all, or a rule called with a path such as
        "unet/conv_in/kernel" and a shape. The default device without it.
      frozen: the parameters will only be run, neither trained nor saved, so they may
        take the form that runs fastest here (`models.winograd.prepare`).
      encoder: a distilled encoder in the place of the checkpoint's own, whose weights
        are then not read: "tiny" (comes with "toybox"), a local folder with an
        AutoencoderTiny, or a hub id of one; "" for the checkpoint's own.

    Raises:
      FileNotFoundError: something is not there; says what and where to get it.
      ValueError: a config, the names or shapes of tensors, or a file are not right.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"unknown parts {unknown}; known are {PARTS}")
    if encoder and "vae_decoder" in parts:
        raise ValueError(
            f"encoder {encoder!r} brings no decoder: leave 'vae_decoder' out of parts"
        )
    folder = find_folder(source)
    configs = {part: read_json(folder / part / "config.json") for part in STEMS}
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    unet, vae, text_encoder = build_networks(configs, dtype)
    schedule = NoiseSchedule.from_json(configs["scheduler"])
    folders = {part: folder / part for part in STEMS}
    if encoder:
        folders["vae"] = find_encoder(encoder, folder)
        vae, configs["vae"] = read_encoder(folders["vae"], vae.config, dtype)

    # Keys with an underscore are bookkeeping: paths and versions of other software.
    public = {
        part: {key: value for key, value in config.items() if key[0] != "_"}
        for part, config in configs.items()
    }
    fingerprint = hashlib.sha256(json.dumps(public, sort_keys=True).encode())
    params, digests = {}, []
    networks = {"unet": unet, "vae": vae, "text_encoder": text_encoder}
    # Hashing takes a core of its own, beside tracing shapes and placing parameters.
    with ThreadPoolExecutor(1) as aside:
        for name, network in networks.items():
            rename = renamer("tiny" if isinstance(network, TinyAutoencoder) else name)
            tensors = TensorFolder(folders[name], STEMS[name], rename)
            digests.append(aside.submit(tensors.digest))
            check_tensors(name, tensors, _shapes(type(network), network.config))
            wanted = {}
            if name in parts:
                wanted = _shapes(type(network), network.config, taps, maps)
            elif name == "vae":
                methods = tuple(m for m in METHODS if f"vae_{m}r" in parts)
                wanted = _shapes(type(network), network.config, methods=methods)
            if wanted:
                params[name] = _place(name, tensors, wanted, dtype, sharding, frozen)
        for digest in digests:
            fingerprint.update(digest.result().encode())
    return Backbone(
        source=os.fspath(source),
        folder=folder,
        fingerprint=fingerprint.hexdigest(),
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        params=params,
        schedule=schedule,
        encoder=encoder,
    )


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
    """Random float32 parameters for all of a network, to train it from nothing.

    Kernels and embeddings are normal with variance 1 / inputs, norms start as the
    identity.
    """
    seed = np.asarray(jax.random.key_data(key))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(_random(seed, path_keys(path), leaf.shape)),
        _shapes(type(network), network.config),
    )


def random_backbone(like: Backbone, seed: int) -> Backbone:
    """The same backbone with random weights, of the same parts, type and placement."""

    def replace(path, leaf):
        keys, shape = path_keys(path), winograd.plain_shape(leaf.shape)
        value = _random(np.array([seed]), keys, shape)
        if shape != leaf.shape:
            value = winograd.prepare(value, "/".join(keys))
        return jax.device_put(value.astype(leaf.dtype), leaf.sharding)

    fingerprint = hashlib.sha256(f"random {seed} {like.fingerprint}".encode())
    return dataclasses.replace(
        like,
        source=f"random weights, seed {seed}, like {like.source}",
        fingerprint=fingerprint.hexdigest(),
        params=jax.tree_util.tree_map_with_path(replace, like.params),
    )


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
        expected = jax.tree.map(jnp.shape, _shapes(type(network), network.config))
        if jax.tree.map(jnp.shape, params[name]) != expected:
            raise ValueError(f"the {name} parameters do not fit the {name} config")
        prefix = "text_model." if name == "text_encoder" else ""
        values = published(params[name], dtype)
        tensors[name] = {prefix + key: value for key, value in values.items()}
    write_folder(folder, configs, tensors, tokenizer)


@functools.cache
def _shapes(
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


def _random(seed: np.ndarray, keys: tuple[str, ...], shape: tuple[int, ...]) -> Any:
    """A parameter that depends on the seed and its own path only.

    Drawn by numpy: compiling Flax's initialisers for a UNet takes a minute.
    """
    if keys[-1] in ("bias", "scale"):
        return np.full(shape, float(keys[-1] == "scale"), np.float32)
    inputs = shape[-1] if keys[-1] == "embedding" else math.prod(shape[:-1])
    generator = np.random.default_rng([*seed, zlib.crc32("/".join(keys).encode())])
    return generator.standard_normal(shape, np.float32) / np.float32(inputs**0.5)


def _place(
    network: str,
    tensors: TensorFolder,
    expected: dict[str, Any],
    dtype: Any,
    sharding: Sharding | ShardingRule | None,
    frozen: bool,
) -> dict[str, Any]:
    """Read, turn, cast, prepare and place one tensor at a time."""

    def place(path, leaf):
        keys = path_keys(path)
        value = tensors.read(tensor_name(keys))
        # Files have outputs first; the inverse permutation puts them last.
        value = _copied(value.transpose(np.argsort(to_file(keys, leaf.ndim))), dtype)
        name = "/".join((network, *keys))
        if frozen:
            value = winograd.prepare(value, name)
        where = sharding
        if callable(sharding):
            where = sharding(name, value.shape)
        return jax.device_put(value, where)

    return jax.tree_util.tree_map_with_path(place, expected)


def _copied(turned: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in order, some outputs at a time, so that the cache holds what is read."""
    copy = np.empty(turned.shape, dtype)
    for first in range(0, turned.shape[-1], OUTPUTS):
        some = np.s_[..., first : first + OUTPUTS]
        copy[some] = turned[some]
    return copy

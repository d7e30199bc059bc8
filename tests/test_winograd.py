"""Transformed kernels give what plain ones give, and the same gradient."""

import functools

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax import features
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.loading import load_backbone, random_backbone
from sbir_jax.backbones.tensor_names import tensor_name
from sbir_jax.features import Recipe
from sbir_jax.models.kernels import winograd
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.layers import Resnet
from sbir_jax.runtime import hardware


def normal(*shape):
    """Standard normal numbers, drawn by numpy, which has nothing to compile."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def transformed(kernel, monkeypatch, network="unet"):
    monkeypatch.setattr(winograd, "CHANNELS", 1)
    return winograd.prepare(kernel, f"{network}/conv_in/kernel")


# Tiles in the UNet and lines in the autoencoder; in strips (a cache of nothing) and
# in one piece; odd sides, and a single pixel.
@pytest.mark.parametrize("cache", [0, 2**23])
@pytest.mark.parametrize(("h", "w"), [(8, 6), (7, 4), (6, 9), (2, 2), (1, 1)])
@pytest.mark.parametrize(("network", "window"), [("unet", (4, 4)), ("vae", (6, 3))])
def test_the_layer_and_its_gradient(network, window, h, w, cache, monkeypatch):
    if network == "vae" and not cache:
        pytest.skip("lines are in one piece")
    monkeypatch.setattr(winograd, "CACHE", cache)
    conv, x, weight = Conv(5), normal(2, h, w, 4), normal(2, h, w, 5)
    kernel, bias = normal(3, 3, 4, 5), normal(5)
    ready = transformed(kernel, monkeypatch, network)
    assert ready.shape == (*window, 4, 5)

    def run(kernel):
        def total(x):
            y = conv.apply({"params": {"kernel": kernel, "bias": bias}}, x)
            return jnp.sum(y * weight), y

        return jax.jit(jax.grad(total, has_aux=True))(x)

    for ours, plain in zip(run(ready), run(kernel), strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5)


def test_kernels_that_stay_as_they_are(monkeypatch):
    wide = normal(3, 3, 128, 128)
    for kernel, path, window in (
        (wide, "unet/conv1/kernel", (4, 4)),
        (wide, "vae/encoder/conv1/kernel", (6, 3)),
        (normal(3, 3, 512, 128), "vae/encoder/conv1/kernel", (4, 4)),
    ):
        found = winograd.prepare(kernel, path)
        assert found.shape == (*window, *kernel.shape[2:])
        assert found.dtype == np.float32
        assert winograd.plain_shape(found.shape) == kernel.shape
    for kernel, path in (
        (wide, "unet/down_blocks_0/downsamplers_0/conv/kernel"),
        (wide, "unet/up_blocks_0/resnets_0/conv1/kernel"),
        (wide.astype(jnp.bfloat16), "unet/conv1/kernel"),
        (normal(3, 3, 3, 128), "vae/encoder/conv_in/kernel"),
        (normal(1, 1, 128, 128), "unet/conv_shortcut/kernel"),
        (normal(128, 128), "unet/to_q/kernel"),
        (normal(128), "unet/conv1/bias"),
    ):
        assert winograd.prepare(kernel, path) is kernel
    monkeypatch.setattr(hardware, "platform", lambda: "gpu")
    assert winograd.prepare(wide, "unet/conv1/kernel") is wide


def test_a_strided_layer_takes_no_transformed_kernel(monkeypatch):
    kernel = transformed(normal(3, 3, 4, 5), monkeypatch)
    params = {"kernel": kernel, "bias": normal(5)}
    with pytest.raises(flax.errors.ScopeParamShapeError, match="kernel"):
        Conv(5, stride=2).apply({"params": params}, jnp.asarray(normal(1, 4, 4, 4)))


@pytest.mark.parametrize("network", ["unet", "vae"])
def test_a_transformed_kernel_cannot_be_trained(network, monkeypatch):
    kernel = transformed(normal(3, 3, 4, 5), monkeypatch, network)

    def total(kernel):
        return winograd.convolve(jnp.asarray(normal(1, 4, 4, 4)), kernel).sum()

    with pytest.raises(TypeError, match="frozen=False"):
        jax.grad(total)(jnp.asarray(kernel))


@pytest.fixture
def both(tiny_folder, monkeypatch):
    """The tiny model as published, and with its wider kernels transformed."""
    monkeypatch.setattr(winograd, "CHANNELS", 16)
    parts = ("unet", "vae_encoder")
    return [
        load_backbone(tiny_folder, taps=("up.0.out",), parts=parts, frozen=frozen)
        for frozen in (False, True)
    ]


def test_descriptors_are_the_same(both):
    recipe = Recipe(("up.0.out",), copies=2)
    images = jnp.asarray(normal(2, 32, 32, 3))
    prompts = init_prompts(PromptConfig(), 32, jnp.asarray(normal(7, 16)))
    bank = features.noise_bank(recipe, (8, 8, 4))

    def run(backbone):
        # Compiled without optimisation, since it runs once.
        @functools.partial(
            jax.jit, compiler_options={"xla_backend_optimization_level": 0}
        )
        def describe(params):
            return features.describe(
                backbone.backbone, params, prompts, images, "photo", bank, recipe
            )

        return describe(backbone.frozen)

    plain, ours = both
    np.testing.assert_allclose(run(ours), run(plain), atol=1e-5)


def test_gradient_through_a_layer_that_computes_its_norms_again(monkeypatch):
    """The residual layer is rematerialised; its frozen kernels must not mind."""
    layer = Resnet(4, 2, 1e-5)
    x, time = jnp.asarray(normal(2, 4, 4, 4)), jnp.asarray(normal(2, 6))
    params = jax.tree.map(
        lambda leaf: normal(*leaf.shape), layer.init(jax.random.key(0), x, time)
    )["params"]
    ready = jax.tree.map(lambda leaf: transformed(leaf, monkeypatch), params)
    assert ready["conv1"]["kernel"].shape == (4, 4, 4, 4)

    @jax.jit
    def run(x, time, params):
        def total(x, time):
            return jnp.sum(layer.apply({"params": params}, x, time)[..., 0])

        return jax.grad(total, argnums=(0, 1))(x, time)

    for ours, plain in zip(run(x, time, ready), run(x, time, params), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-4)


def test_a_frozen_backbone_is_the_same_checkpoint(both):
    plain, ours = both
    assert ours.backbone.fingerprint == plain.backbone.fingerprint
    sides = {
        tensor_name(path): leaf.shape[0]
        for path, leaf in _leaves(ours.frozen)
        if leaf.ndim == 4
    }
    assert sides["vae.encoder.down_blocks.0.downsamplers.0.conv.weight"] == 3
    assert sides["unet.down_blocks.1.resnets.0.conv2.weight"] == 4
    assert sides["vae.encoder.mid_block.resnets.0.conv1.weight"] == 6
    random, plain_random = random_backbone(ours, 3), random_backbone(plain, 3)
    assert jax.tree.map(jnp.shape, random.frozen) == jax.tree.map(
        jnp.shape, ours.frozen
    )
    for (path, a), (_, b) in zip(
        _leaves(random.frozen), _leaves(plain_random.frozen), strict=True
    ):
        if a.shape != b.shape:
            b = winograd.prepare(np.asarray(b), "/".join(path))
        np.testing.assert_array_equal(a, b)


def _leaves(tree):
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(tuple(entry.key for entry in path), leaf) for path, leaf in pairs]

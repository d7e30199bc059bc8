"""Attention as accelerators do it: none is at hand, so what they would run is lowered,
and computed here by other means."""

import functools
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import NamedSharding, PartitionSpec

from sbir_jax import features
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.features import TAPS, Recipe
from sbir_jax.models.kernels import attention
from sbir_jax.models.kernels.attention import attend, attend_with_map
from sbir_jax.runtime import hardware, sharding

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"


def normal(*shape):
    """Standard normal numbers."""
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape), jnp.float32)


def with_gradient(attend):
    """Attention with two heads, and its gradient in all inputs."""
    run = functools.partial(attend, heads=2)
    return jax.value_and_grad(lambda *a: jnp.sin(run(*a)).sum(), argnums=(0, 1, 2))


def assert_plain(q, keys):
    """`attend` is plain attention of these queries to so many keys."""
    k, v = normal(len(q), keys, q.shape[-1]), normal(len(q), keys, q.shape[-1]) + 1
    found = jax.jit(with_gradient(attend))(q, k, v)
    expected = with_gradient(lambda *a, heads: attend_with_map(*a, heads)[0])(q, k, v)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-4), found, expected
    )


@pytest.mark.parametrize("keys", [6, 7])
def test_cudnn_never_sees_an_odd_number_of_keys(monkeypatch, keys):
    plain = jax.nn.dot_product_attention

    def cudnn(q, k, v, implementation, **options):
        assert implementation == "cudnn"
        assert q.shape[1] % 2 == k.shape[1] % 2 == 0
        return plain(q, k, v, **options)

    monkeypatch.setattr(hardware, "platform", lambda: "gpu")
    monkeypatch.setattr(attention, "_cudnn_takes", lambda *_: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)
    assert_plain(normal(2, 4, 16), keys)


def test_cudnn_takes_what_it_is_made_for(monkeypatch):
    client = types.SimpleNamespace(platform_version="cuda 13")
    gpu = types.SimpleNamespace(client=client, compute_capability="8.0")
    monkeypatch.setattr(hardware, "device", lambda: gpu)
    takes = attention._cudnn_takes
    assert takes(64, (4096, 77), jnp.bfloat16)
    assert not takes(160, (64, 77), jnp.bfloat16)
    assert not takes(4, (64, 77), jnp.bfloat16)
    assert not takes(64, (1, 77), jnp.bfloat16)
    assert not takes(64, (4096, 77), jnp.float32)
    gpu.compute_capability = "7.5"  # a T4
    assert not takes(64, (4096, 77), jnp.float16)


@pytest.mark.parametrize("small", [attention.SMALL, 0])
def test_on_processors_at_once_and_in_blocks(monkeypatch, small):
    monkeypatch.setattr(attention, "SMALL", small)
    q = normal(2, 12, 16)
    program = str(jax.make_jaxpr(with_gradient(attend))(q, q, q))
    assert ("scan[" in program) == (not small)
    assert_plain(q, 12)
    assert_plain(q, 7)


def test_the_kernel_of_tpus(monkeypatch):
    monkeypatch.setattr(hardware, "platform", lambda: "tpu")
    monkeypatch.setattr(attention, "TPU_BLOCK", 128)
    with pltpu.force_tpu_interpret_mode():
        assert_plain(normal(2, 256, 16), 128)


@pytest.mark.parametrize(("batch", "split"), [(8, True), (4, False)])
def test_the_kernel_of_tpus_is_split_like_the_batch(monkeypatch, batch, split):
    """Several devices cannot be emulated with it, but the program says what they do."""
    monkeypatch.setattr(hardware, "platform", lambda: "tpu")
    place = sharding.batch_sharding(sharding.make_mesh())
    place = place if split else NamedSharding(place.mesh, PartitionSpec())
    q = jax.ShapeDtypeStruct((batch, 1024, 80), jnp.bfloat16, sharding=place)
    run = jax.jit(with_gradient(attend)).trace(q, q, q)
    text = run.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("@tpu_custom_call(") == 3  # forward, and two for the gradient
    local = f"tensor<{1 if split else batch}x2x1024x40xbf16>"
    assert local in text


@pytest.mark.parametrize(("backend", "platform"), [("gpu", "cuda"), ("tpu", "tpu")])
def test_programs_for_accelerators(monkeypatch, backend, platform):
    """The descriptor of images of 512 px and its gradient, over eight devices."""
    monkeypatch.setattr(hardware, "platform", lambda: backend)
    loaded = load_backbone(GOLDEN / "sd1", taps=TAPS["category"], frozen=True)
    backbone = loaded.backbone
    recipe = Recipe(TAPS["category"], 273, copies=2)
    mesh = sharding.make_mesh()
    batch, whole = sharding.batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())

    def describe(frozen, images, context, noise):
        latents = backbone.encode_image(frozen, images)
        found = features.describe_latents(
            backbone, frozen, latents, context, noise, recipe
        )
        return found.sum()

    def abstract(array, place):
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)

    arguments = (
        jax.tree.map(lambda leaf: abstract(leaf, whole), loaded.frozen),
        abstract(np.zeros((8, 512, 512, 3), np.float32), batch),
        abstract(np.zeros((77, backbone.context_dim), np.float32), whole),
        abstract(np.zeros((2, *backbone.latent_shape(512)), np.float32), whole),
    )

    def lower(function):
        traced = jax.jit(function).trace(*arguments)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    text = lower(describe)
    assert "stablehlo.convolution" in text
    # Nothing of what is written for processors: no order, no loops over heads.
    assert "optimization_barrier" not in text
    assert ("tpu_custom_call" in text) == (platform == "tpu")
    if platform == "cuda":
        assert "stablehlo.while" not in text
    assert "stablehlo.convolution" in lower(jax.grad(describe, argnums=2))

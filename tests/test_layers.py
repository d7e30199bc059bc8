"""Layers on their own: small convolutions, and maps that are what attention used."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.models import transformer
from sbir_jax.models.kernels import convolutions, norms, products
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm
from sbir_jax.models.transformer import Attention


def normal(*shape):
    """Standard normal numbers, drawn by numpy, which has nothing to compile."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_the_map_is_what_the_layer_used():
    """Its product with the values, through the output projection, is the result."""
    context = normal(2, 5, 6)
    params = {name: {"kernel": normal(6, 8)} for name in ("to_k", "to_v")}
    params["to_q"] = {"kernel": normal(8, 8)}
    params["to_out_0"] = {"kernel": normal(8, 8), "bias": normal(8)}
    run = jax.jit(Attention(heads=2).apply, static_argnums=3)
    y, found = run({"params": params}, normal(2, 12, 8), context, ("maps",))
    p = found["maps"]
    values = np.asarray(context @ params["to_v"]["kernel"]).reshape(2, 5, 2, 4)
    joined = np.einsum("bhnm,bmhd->bnhd", p, values).reshape(2, 12, 8)
    out = params["to_out_0"]
    expected = joined @ np.asarray(out["kernel"]) + np.asarray(out["bias"])
    np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [None, (0, 1)])
@pytest.mark.parametrize(("h", "w"), [(2, 2), (4, 1), (3, 3), (4, 4)])
def test_small_convolutions_as_matrix_products(h, w, stride, padding):
    x = normal(2, h, w, 3)
    conv = Conv(5, stride=stride, padding=padding)
    params = {"kernel": normal(3, 3, 3, 5), "bias": normal(5)}
    pad = padding or (1, 1)
    expected = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected += params["bias"][None, None, None]
    y = jax.jit(conv.apply)({"params": params}, x)
    np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize("pad", [(0, 1), (1, 1), (2, 0)])
@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_strided_convolutions(pad, size):
    x, kernel = normal(2, 7, 10, 3), normal(size, size, 3, 5)
    found, back = jax.vjp(
        lambda *args: convolutions._convolve(2, pad, *args), x, kernel
    )
    g = normal(*found.shape)
    expected, wanted = jax.vjp(
        lambda *args: convolutions._plain_convolve(2, pad, *args), x, kernel
    )
    np.testing.assert_array_equal(found, expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), back(g), wanted(g)
    )


@pytest.mark.parametrize(("pixels", "features"), [(4, 5), (16, 2**18)])
def test_small_images_use_no_convolution(pixels, features):
    conv = Conv(features)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, features), jnp.float32)
    bias = jax.ShapeDtypeStruct((features,), jnp.float32)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    for width, direct in ((pixels // 2, False), (pixels // 2 + 1, True)):
        image = jax.ShapeDtypeStruct((1, 2, width, 3), jnp.float32)
        program = str(jax.make_jaxpr(conv.apply)(variables, image))
        assert ("conv_general" in program) == direct


@pytest.mark.parametrize("few", [6, 5])
def test_product_and_its_gradients(monkeypatch, few):
    monkeypatch.setattr(products, "FEW_ROWS", few)
    x, kernel, g = normal(2, 3, 4), normal(4, 5), normal(2, 3, 5)
    found, back = jax.vjp(products.product, x, kernel)
    expected, wanted = jax.vjp(jnp.matmul, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), back(g), wanted(g)
    )


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("block", [norms.BLOCK, 4 * 2 * 6 * 10])
def test_group_norm_is_flaxs(monkeypatch, block, silu):
    """Values and all gradients; whole, and ten of 35 pixels at a time."""
    monkeypatch.setattr(norms, "BLOCK", block)
    x, g = 5 + normal(2, 5, 7, 6), normal(2, 5, 7, 6)[::-1]
    params = {"scale": 1 + normal(6), "bias": normal(6)}
    ours = GroupNorm(3, 1e-3, silu)
    theirs = nn.GroupNorm(3, epsilon=1e-3, use_fast_variance=False)

    def run(layer):
        y, back = jax.vjp(layer, params, x)
        return y, *back(g)

    def reference(p, x):
        y = theirs.apply({"params": p}, x)
        return nn.silu(y) if silu else y

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5),
        run(lambda p, x: ours.apply({"params": p}, x)),
        run(reference),
    )


def test_a_gradient_keeps_the_statistics():
    """What is computed again of a norm has its root from the forward pass."""
    x, params = normal(1, 6, 6, 8), {"scale": 1 + normal(8), "bias": normal(8)}
    layer = GroupNorm(2, 1e-5, silu=True)
    back = jax.vjp(lambda x: layer.apply({"params": params}, x), x)[1]
    again = str(jax.make_jaxpr(back)(x))
    assert "logistic" in again and "rsqrt" not in again


@pytest.mark.parametrize(("h", "w"), [(1, 2), (2, 2), (3, 5), (8, 4)])
def test_a_convolution_of_an_enlarged_image(h, w):
    """Values and gradients are those of the image written out."""
    x, g = normal(2, h, w, 3), normal(2, 2 * h, 2 * w, 5)
    params = {"kernel": normal(3, 3, 3, 5), "bias": normal(5)}
    large = h * w > 4
    ours = Conv(5, enlarge=True)
    program = str(jax.make_jaxpr(ours.apply)({"params": params}, x))
    assert (program.count("conv_general_dilated[") == 4) == large

    def written_out(params, x):
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        return Conv(5).apply({"params": params}, x)

    found, back = jax.vjp(lambda p, x: ours.apply({"params": p}, x), params, x)
    expected, wanted = jax.vjp(written_out, params, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        (found, back(g)),
        (expected, wanted(g)),
    )


def test_the_gated_unit_is_flaxs():
    values, gates, g = normal(4, 50), 5 * normal(8, 50)[4:], normal(12, 50)[8:]
    found, back = jax.vjp(transformer._gated, values, gates)
    expected, wanted = jax.vjp(
        lambda v, g: v * nn.gelu(g, approximate=False), values, gates
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (found, back(g)),
        (expected, wanted(g)),
    )

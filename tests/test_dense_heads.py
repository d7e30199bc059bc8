"""Heads: sizes and numbers of parameters as published, resizing by outside oracles."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.adapters import text_adapter
from sbir_jax.dense.model import make_head
from sbir_jax.models.heads.resizing import matrix, nearest, resize


def shapes(channels, side=64):
    return tuple(
        jax.ShapeDtypeStruct((1, side // 2**i, side // 2**i, c), np.float32)
        for i, c in enumerate(channels)
    )


def counted(head, levels):
    made = jax.eval_shape(head.init, jax.random.key(0), levels)["params"]
    return {
        name: sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in made.items()
    }


def test_semantic_fpn_is_as_large_as_published():
    found = counted(
        make_head("segmentation", 256, 150, 1.0), shapes((320, 790, 1430, 1280))
    )
    # Laterals and outputs of the neck; seven convolutions with norms, and the classes.
    laterals = (320 + 790 + 1430 + 1280 + 4) * 256
    assert found.pop("neck") == laterals + 4 * (9 * 256**2 + 256)
    assert sum(found.values()) == 7 * (9 * 256**2 + 2 * 256) + 256 * 150 + 150


@pytest.mark.parametrize(("tokens", "millions"), [(40, 39.2), (77, 39.6)])
def test_lavt_decoder_is_as_large_as_published(tokens, millions):
    levels = shapes((320, 640 + tokens, 1280 + tokens, 1280))
    found = sum(counted(make_head("referring", 640, 0, 1.0), levels).values())
    assert round(found / 1e6, 1) == millions


def test_depth_head_joins_3520_channels_and_gives_whole_pictures():
    head, levels = make_head("depth", 1536, 0, 10.0), shapes((320, 640, 1280, 1280))
    made = jax.eval_shape(head.init, jax.random.key(0), levels)
    assert made["params"]["together"]["kernel"].shape == (1, 1, 3520, 1536)
    assert made["params"]["last_0"]["kernel"].shape == (3, 3, 192, 192)
    assert jax.eval_shape(head.apply, made, levels).shape == (1, 512, 512)


def test_heads_take_pictures_of_any_shape():
    levels = tuple(
        jax.ShapeDtypeStruct((2, 16 // 2**i, 24 // 2**i, 8), np.float32)
        for i in range(4)
    )
    expected = {
        "segmentation": (2, 16, 24, 5),
        "referring": (2, 16, 24, 2),
        "depth": (2, 128, 192),
    }
    for kind, shape in expected.items():
        head = make_head(kind, 48, 5, 1.0)
        made = jax.eval_shape(head.init, jax.random.key(0), levels)
        assert jax.eval_shape(head.apply, made, levels).shape == shape


def test_text_adapter_counts_as_published_and_starts_near_the_text():
    adapter = text_adapter.init_adapter(jax.random.key(0), 768)
    assert sum(leaf.size for leaf in jax.tree.leaves(adapter)) == 1_181_952
    text = jax.random.normal(jax.random.key(1), (1, 3, 768))
    moved = text_adapter.adapt(adapter, text) - text
    assert 0 < float(jnp.abs(moved).max()) < 1e-3
    assert text_adapter.adapt(None, text) is text
    # Gamma is the only way for the text to change.
    still = adapter.replace(gamma=jnp.zeros(768))
    np.testing.assert_array_equal(text_adapter.adapt(still, text), text)


SIZES = [((4, 6), (8, 12)), ((5, 3), (13, 7)), ((8, 8), (8, 8)), ((1, 4), (4, 4))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_linear_resizing_equals_jax(old, new):
    x = np.random.default_rng(0).normal(size=(2, *old, 3)).astype("f")
    wanted = jax.image.resize(x, (2, *new, 3), "linear", antialias=False)
    np.testing.assert_allclose(resize(jnp.asarray(x), new), wanted, atol=1e-5)


def test_corners_stay_where_they_are():
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 1)).astype("f")
    found = np.asarray(resize(jnp.asarray(x), (9, 7), "corners"))
    np.testing.assert_allclose(found[:, ::8, ::6], x[:, ::2, ::3], rtol=1e-6)
    np.testing.assert_allclose(found[:, ::4, ::2], x, rtol=1e-5)


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs PyTorch")
@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize(
    ("kind", "mode", "align"),
    [("linear", "bilinear", False), ("corners", "bilinear", True),
     ("cubic", "bicubic", False)],
)  # fmt: skip
def test_resizing_equals_pytorch(old, new, kind, mode, align):
    import torch

    x = np.random.default_rng(0).normal(size=(2, *old, 3)).astype("f")
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x).permute(0, 3, 1, 2), new, mode=mode, align_corners=align
    )
    found = np.asarray(resize(jnp.asarray(x), new, kind))
    wanted = wanted.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_cubic_has_the_kernel_of_pytorch():
    # Half way between two samples their weights are 0.59375, those beyond -0.09375.
    wanted = [[0.5, 0.59375, -0.09375, 0], [0, -0.09375, 0.59375, 0.5]]
    np.testing.assert_allclose(matrix(4, 2, "cubic"), wanted)


def test_nearest_repeats():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    wanted = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    np.testing.assert_array_equal(nearest(x, (4, 4))[0, ..., 0], wanted)

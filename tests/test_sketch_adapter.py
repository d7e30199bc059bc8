"""The adapter that holds a frozen model to drawings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.adapters import sketch_adapter
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.models import sketch_encoder
from sbir_jax.models.sketch_encoder import SketchEncoder
from sbir_jax.types import TextStates


@pytest.fixture(scope="module")
def whole(tiny_folder):
    return load_backbone(tiny_folder)


@pytest.fixture(scope="module")
def encoder(whole):
    return sketch_adapter.network(whole.backbone, whole.frozen)


@pytest.fixture(scope="module")
def sketches():
    """Two drawings of 32 px: a line down, and one across."""
    found = np.ones((2, 32, 32, 3), np.float32)
    found[0, 4:28, 10:12] = found[1, 20:22, 4:28] = -1
    return jnp.asarray(found)


def test_residuals_are_added_where_the_levels_of_the_encoder_end(encoder):
    assert encoder.levels == (
        ("down.0.attn.0", 8),
        ("down.1.attn.0", 16),
        ("down.2.attn.0", 16),
        ("down.3.res.0", 16),
    )
    assert encoder.fold == 4


@pytest.fixture(scope="module")
def predicted(whole, encoder, sketches):
    """From an adapter, or none, to what the model predicts of some noise."""
    backbone = whole.backbone
    text = TextStates(jnp.zeros((1, 3, backbone.context_dim)))
    shape = len(sketches), *backbone.latent_shape(32)
    noised = jax.random.normal(jax.random.key(1), shape)

    @jax.jit
    def run(frozen, adapter):
        held = {}
        if adapter is not None:
            held = sketch_adapter.residuals(encoder, adapter, sketches)
        return backbone.predict(frozen, noised, 500, text, residuals=held)

    return functools.partial(run, whole.frozen)


@pytest.fixture(scope="module")
def adapter(whole):
    return sketch_adapter.init_adapter(
        whole.backbone, whole.frozen, jax.random.key(0), 3
    )


def test_an_untrained_one_changes_nothing_at_all(predicted, adapter):
    np.testing.assert_array_equal(predicted(adapter), predicted(None))


def test_every_part_learns_once_the_last_layers_have_moved(predicted, adapter):
    def loss(adapter):
        return jnp.square(predicted(adapter) - 1).mean()

    gradient = jax.jit(jax.grad(loss))
    slope = gradient(adapter)
    moved = {name for name, x in named(slope).items() if jnp.abs(x).max() > 0}
    assert moved and all("_out" in name for name in moved)
    adapter = jax.tree.map(lambda a, b: a - 0.1 * b, adapter, slope)
    before, after = loss(adapter), None
    slope = gradient(adapter)
    moved = [name for name, x in named(slope.encoder).items() if jnp.abs(x).max() > 0]
    assert len(moved) == len(named(slope.encoder))
    after = loss(jax.tree.map(lambda a, b: a - 0.1 * b, adapter, slope))
    assert after < before


def named(tree):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree.leaves_with_path(tree)}


def test_each_drawing_counts_for_its_own_picture(encoder, adapter, sketches):
    key = jax.random.key(0)
    noise = jax.tree.map(lambda x: jax.random.normal(key, x.shape), adapter)
    both = sketch_adapter.residuals(encoder, noise, sketches)
    one = sketch_adapter.residuals(encoder, noise, sketches[1:])
    for name in both:
        np.testing.assert_allclose(both[name][1:], one[name], rtol=1e-4, atol=1e-4)
        assert jnp.abs(both[name][0] - both[name][1]).max() > 0.1
    none = sketch_adapter.residuals(encoder, noise, sketches, 0.0)
    assert all((x == 0).all() for x in none.values())


def test_folding_keeps_every_pixel_at_its_cell():
    ink = jnp.arange(2 * 4 * 6.0).reshape(2, 4, 6, 1)
    found = sketch_encoder._folded(ink, 2)
    assert found.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(found[1, 1, 2], ink[1, 2:4, 4:6, 0].reshape(-1))


def test_sides_that_are_odd_halve_as_the_network_halves_them():
    encoder = SketchEncoder((("a", 4), ("b", 4), ("c", 4)), 8)
    params = sketch_encoder.init(encoder, jax.random.key(0), 40)
    found = encoder.apply({"params": params}, jnp.zeros((1, 40, 72, 1)))
    assert {n: x.shape[1:3] for n, x in found.items()} == {
        "a": (5, 9),
        "b": (3, 5),
        "c": (2, 3),
    }


def test_stable_diffusion_has_an_adapter_of_the_known_size():
    """Levels 320, 640, 1280, 1280 at 512 px, by shapes alone."""
    levels = (("a", 320), ("b", 640), ("c", 1280), ("d", 1280))
    encoder = SketchEncoder(levels, 8)
    shapes = jax.eval_shape(
        encoder.init, jax.random.key(0), jnp.zeros((1, 512, 512, 1))
    )
    count = sum(x.size for x in jax.tree.leaves(shapes))
    convolutions = sum(2 * (9 + 1) * c * c + 2 * 2 * c + c * c + c for _, c in levels)
    between = sum(a * b + b for a, b in ((320, 640), (640, 1280), (1280, 1280)))
    assert count == convolutions + between + 9 * 64 * 320 + 320

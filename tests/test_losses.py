import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.tasks.retrieval.losses import cosine_distance, triplet_loss


def unit(degrees):
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def test_distance_of_right_angles():
    np.testing.assert_allclose(
        cosine_distance(unit([0.0, 0.0, 0.0]), unit([0.0, 90.0, 180.0])),
        [0.0, 1.0, 2.0],
        atol=1e-6,
    )


def test_loss_by_hand():
    # d(s, p) = 0.5, d(s, n) = 1: 0.3 + 0.5 - 1 < 0; the other way round 0.8.
    sketch, near, far = unit([0.0, 0.0]), unit([60.0, 90.0]), unit([90.0, 60.0])
    loss = triplet_loss(sketch, near, far, 0.3)
    assert float(loss) == pytest.approx((0.0 + 0.8) / 2, abs=1e-6)


def test_descent_pulls_the_right_photo_and_pushes_the_wrong_one():
    sketch, near, far = unit([0.0]), unit([50.0]), unit([40.0])
    down_near, down_far = jax.grad(triplet_loss, (1, 2))(sketch, near, far, 0.3)
    assert float(jnp.sum(down_near * sketch)) < 0 < float(jnp.sum(down_far * sketch))


def test_no_gradient_beyond_the_margin():
    grad = jax.grad(triplet_loss)(unit([0.0]), unit([0.0]), unit([170.0]), 0.3)
    assert not np.asarray(grad).any()

"""Guidance by texts and by gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.diffusion import guidance, noise_schedule, samplers
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from tests.test_diffusion import SCHEDULES, near, normal


def predict(latents, t):
    return jnp.tanh(latents * (1 + t / 1000))


def test_classifier_free():
    x = normal(2, 2, 2, 4)
    context, empty = normal(2, 2, 3, 5)

    def predict(latents, t, context):
        return latents * t + context.mean((1, 2))[:, None, None, None]

    def alone(c):
        return predict(x, 3, c)

    def both(latents, t):
        return predict(latents, t, jnp.concatenate([empty, context]))

    for scale in (0.0, 1.0, 7.5):
        expected = alone(empty) + scale * (alone(context) - alone(empty))
        found = guidance.classifier_free(both, scale)(x, 3)
        near(found, expected, 1e-5)


def probability(latents, clean, t):
    """Of both arguments, so that the way through the network counts."""
    return (jnp.sin(clean) + 0.3 * latents**2).sum((1, 2, 3)) * (1 + t / 1000)


@pytest.mark.parametrize("name", ["scaled", "v"])
def test_the_gradient_is_that_of_finite_differences(name):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    x, t = normal(2, 2, 2, 3), 400
    alpha = guidance.level(schedule, t)
    np.testing.assert_allclose(alpha, schedule.alphas_cumprod[t], rtol=1e-5)
    prediction, slope = guidance.gradient(predict, schedule, probability)(x, t)
    near(prediction, predict(x, t), 1e-6)

    def value(x):
        clean, _ = noise_schedule.split(schedule, x, predict(x, t), alpha)
        return float(probability(x, clean, t).sum())

    for place in ((0, 0, 1, 2), (1, 1, 0, 0)):
        step = jnp.zeros_like(x).at[place].set(1e-2)
        expected = (value(x + step) - value(x - step)) / 2e-2
        np.testing.assert_allclose(slope[place], expected, rtol=2e-2)


@pytest.mark.parametrize("name", ["scaled", "v"])
def test_guided_noise_is_corrected_by_sigma_times_the_gradient(name):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    x, t, scale = normal(2, 2, 2, 3), 400, 1.7
    guided = guidance.by_gradient(predict, schedule, probability, scale)
    alpha = guidance.level(schedule, t)
    _, slope = guidance.gradient(predict, schedule, probability)(x, t)
    _, before = noise_schedule.split(schedule, x, predict(x, t), alpha)
    _, after = noise_schedule.split(schedule, x, guided(x, t), alpha)
    near(after, before - scale * jnp.sqrt(1 - alpha) * slope, 1e-4)


def test_scale_0_is_the_plain_sampler_exactly():
    schedule = NoiseSchedule.from_json(SCHEDULES["v"])
    x, steps = normal(2, 2, 2, 3), samplers.evenly(schedule, 5)
    guided = guidance.by_gradient(predict, schedule, probability, 0.0)
    plain = samplers.ddim(predict, schedule, x, steps)
    np.testing.assert_array_equal(samplers.ddim(guided, schedule, x, steps), plain)
    upwards = guidance.by_gradient(predict, schedule, probability, 0.5)
    found = samplers.ddim(upwards, schedule, x, steps)
    assert (probability(found, found, 0) > probability(plain, plain, 0)).all()


def test_ancestral_steps_are_moved_by_variance_times_gradient():
    schedule = NoiseSchedule.from_json(SCHEDULES["scaled"])
    x = normal(2, 2, 2, 3)
    steps = samplers.at(schedule, [500, 300])
    steps = samplers.Steps(steps.t[:1], steps.alphas[:2])
    fresh = jax.random.normal(jax.random.key(0), (1, *x.shape))

    def slope(latents, t):
        return jnp.ones_like(latents)

    one = samplers.ddim(predict, schedule, x, steps, eta=1.0, fresh=fresh)
    other = samplers.ddim(
        predict, schedule, x, steps, eta=1.0, fresh=fresh, shift=slope
    )
    before, after = (float(a) for a in steps.alphas)
    variance = (1 - after) / (1 - before) * (1 - before / after)
    np.testing.assert_allclose(other - one, variance, rtol=1e-3)


@pytest.mark.parametrize("name", ["scaled", "v"])
def test_by_direction_moves_the_noise_by_a_share_of_its_length(name):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    x, t, scale = normal(2, 2, 2, 3), 400, 0.4

    def steep(latents, clean, t):
        return 1e4 * probability(latents, clean, t)

    alpha = guidance.level(schedule, t)
    _, before = noise_schedule.split(schedule, x, predict(x, t), alpha)
    clean, _ = noise_schedule.split(schedule, x, predict(x, t), alpha)
    slope = jax.grad(lambda x: probability(x, clean, t).sum())(x)
    for logp in (probability, steep):
        guided = guidance.by_direction(predict, schedule, logp, scale)
        _, after = noise_schedule.split(schedule, x, guided(x, t), alpha)
        for row in range(2):
            moved = after[row] - before[row]
            length = jnp.linalg.norm(moved) / jnp.linalg.norm(before[row])
            np.testing.assert_allclose(length, scale, rtol=1e-3)
            against = -(moved * slope[row]).sum()
            size = jnp.linalg.norm(moved) * jnp.linalg.norm(slope[row])
            np.testing.assert_allclose(against / size, 1, rtol=1e-4)
    assert guidance.by_direction(predict, schedule, steep, 0.0) is predict


def test_guidance_while_noisy_ends_at_its_timestep():
    x = normal(2, 2, 2, 3)
    f = guidance.while_noisy(lambda x, t: x + 1, lambda x, t: x, 300.0)
    for t, expected in ((999.0, x + 1), (300.0, x + 1), (299.0, x)):
        np.testing.assert_array_equal(f(x, jnp.asarray(t)), expected)

"""Samplers against diffusers' recorded runs, and against algebra."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.diffusion import noise_schedule, samplers
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from tests.test_diffusion import SAMPLERS as FILES
from tests.test_diffusion import SCALED, SCHEDULES, near, normal
from tests.test_diffusion import golden as schedules

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "samplers.npz"
SAMPLED = ("scaled", "linear", "cosine", "v", "zero_snr")


@functools.cache
def golden():
    with np.load(GOLDEN) as recorded:
        return {name: jnp.asarray(value) for name, value in recorded.items()}


def predict(latents, t):
    """Stood in for the UNet when diffusers was recorded."""
    return jnp.tanh(latents * (1 + t / 1000))


def run(sampler, name, recorded, **more):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    steps = samplers.at(schedule, np.asarray(golden()[f"{name}/{recorded}/t"]))
    sample = jax.jit(lambda x: sampler(predict, schedule, x, steps, **more))
    return sample(golden()["start"])


def limit(name):
    # Near t = 999 these schedules divide by 5e-5 and less: rounding grows with it.
    return 2e-3 if name in ("cosine", "zero_snr") else 1e-4


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize(
    ("sampler", "recorded"),
    [
        ("ddim", "ddim"),
        ("euler", "euler"),
        ("dpm-solver", "dpm-solver"),
        ("dpm-solver", "dpm-solver-trailing"),
    ],
)
def test_samplers_are_those_of_diffusers(name, sampler, recorded):
    found = run(samplers.SAMPLERS[sampler], name, recorded)
    near(found, golden()[f"{name}/{recorded}"], limit(name))


@pytest.mark.parametrize("name", SAMPLED)
def test_noisy_steps_are_those_of_diffusers(name):
    found = run(samplers.ddim, name, "noisy", eta=0.7, fresh=golden()["fresh"])
    near(found, golden()[f"{name}/noisy"], limit(name))
    still = run(samplers.ddim, name, "noisy", eta=0.7)
    assert np.abs(found - still).max() > 0.01


@pytest.mark.parametrize("name", ["scaled", "linear", "v"])
def test_inversion_is_that_of_diffusers(name):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    steps = samplers.evenly(schedule, 8)
    asked = np.asarray(golden()[f"{name}/inverse/t"])
    np.testing.assert_array_equal(steps.t[::-1], asked)
    found = samplers.invert(predict, schedule, golden()["start"], steps)
    near(found, golden()[f"{name}/inverse"], 1e-4)


@pytest.mark.parametrize("name", ["scaled", "cosine", "v", "zero_snr", *FILES])
def test_what_a_file_says_of_ddim_is_done(name):
    """Ten steps of another function."""
    schedule = NoiseSchedule.from_json(SCHEDULES[name])

    def predict(latents, t):
        return jnp.tanh(latents + t / 1000)

    steps = samplers.evenly(schedule, 10)
    sample = jax.jit(lambda x: samplers.ddim(predict, schedule, x, steps))
    near(sample(schedules()["noise"]), schedules()[f"{name}/sampled"], limit(name))


def perfect(schedule, x, noise):
    """Predictions that all point to one picture."""

    def predict(latents, t):
        level = jnp.asarray(t, int)
        if schedule.prediction_type == "epsilon":
            return noise
        return noise_schedule.velocity(schedule, x, noise, level)

    return predict


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
@pytest.mark.parametrize("name", ["scaled", "v"])
def test_a_perfect_prediction_is_sampled_exactly(name, sampler):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    x, noise = normal(2, 1, 2, 2, 4)
    start = noise_schedule.add_noise(schedule, x, noise, 999)
    told = perfect(schedule, x, noise)
    for count in (1, 3, 1000):
        steps = samplers.evenly(schedule, count)
        near(samplers.SAMPLERS[sampler](told, schedule, start, steps), x, 2e-3)


def test_there_and_back():
    """Inversion finds the noise that DDIM made a picture of, the nearer the finer."""
    schedule = NoiseSchedule.from_json(SCHEDULES["v"])
    start = golden()["start"]

    def gap(count):
        steps = samplers.evenly(schedule, count)
        made = samplers.ddim(predict, schedule, start, steps)
        return float(
            jnp.abs(samplers.invert(predict, schedule, made, steps) - start).max()
        )

    assert gap(500) < 0.2 * gap(50)


def test_a_mask_keeps_what_is_outside_of_it():
    schedule = NoiseSchedule.from_json(SCALED)
    start, known = golden()["start"], normal(2, 4, 4, 2)
    mask = jnp.zeros((1, 4, 4, 1)).at[:, :, :2].set(1)
    keep = samplers.keep_outside(schedule, mask, known, start)
    steps = samplers.evenly(schedule, 6)
    for sampler in samplers.SAMPLERS.values():
        found = sampler(predict, schedule, start, steps, keep=keep)
        np.testing.assert_array_equal(found[:, :, 2:], known[:, :, 2:])
        assert (jnp.abs(found - known)[:, :, :2] > 1e-3).all()
        free = jnp.ones_like(mask)
        whole = samplers.keep_outside(schedule, free, known, start)
        np.testing.assert_array_equal(
            sampler(predict, schedule, start, steps, keep=whole),
            sampler(predict, schedule, start, steps),
        )


def test_strength_leaves_the_last_steps():
    schedule = NoiseSchedule.from_json(SCALED)
    steps = samplers.evenly(schedule, 10)
    assert len(steps.last(1.0).t) == 10 and len(steps.last(0.0).t) == 0
    some = steps.last(0.35)
    np.testing.assert_array_equal(some.t, steps.t[7:])
    np.testing.assert_array_equal(some.alphas, steps.alphas[7:])
    x, noise = normal(2, 1, 2, 2, 4)
    near(
        samplers.noised(schedule, x, noise, some),
        noise_schedule.add_noise(schedule, x, noise, 299),
        1e-6,
    )
    near(samplers.ddim(predict, schedule, x, steps.last(0.0)), x, 1e-6)
    with pytest.raises(ValueError, match=r"strength is 1\.5; give 0 to 1"):
        steps.last(1.5)


def test_steps_by_name_are_those_of_guided_diffusion():
    schedule = NoiseSchedule.from_json(SCALED)
    t = samplers.respaced(schedule, "ddim25").t
    np.testing.assert_array_equal(t, np.arange(0, 1000, 40)[::-1])
    for name, message in (
        ("25", "steps are '25'; give a number, or ddim25"),
        ("ddim", "steps are 'ddim'"),
        ("ddim400", "ddim400: no stride takes 400 of 1000"),
    ):
        with pytest.raises(ValueError, match=message):
            samplers.respaced(schedule, name)


@pytest.mark.parametrize(
    ("timesteps", "message"),
    [
        ([], "timesteps are"),
        ([3, 4], "give falling ones"),
        ([5, 5], "give falling ones"),
        ([1000, 3], "reach from 3 to 1000; this schedule has 0 to 999"),
        ([3, -1], "reach from -1 to 3"),
    ],
)
def test_timesteps_that_are_none(timesteps, message):
    with pytest.raises(ValueError, match=message):
        samplers.at(NoiseSchedule.from_json(SCALED), timesteps)


@pytest.mark.parametrize("count", [0, 1001])
def test_a_wrong_number_of_steps(count):
    with pytest.raises(ValueError, match=f"steps={count} is outside of 1..1000"):
        samplers.evenly(NoiseSchedule.from_json(SCALED), count)

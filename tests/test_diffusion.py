"""Schedules and noising against diffusers' recorded values and algebra."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.diffusion import noise_schedule
from sbir_jax.diffusion.noise_schedule import NoiseSchedule

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "schedules.npz"
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULES = {
    "scaled": SCALED,
    "linear": {},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "v": {**SCALED, "prediction_type": "v_prediction"},
    "zero_snr": {
        **SCALED,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
    "final": {**SCALED, "set_alpha_to_one": False, "steps_offset": 1},
    "clipped": {**SCALED, "clip_sample": True, "clip_sample_range": 0.5},
    "thresholded": {
        **SCALED,
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.9,
        "sample_max_value": 1.5,
    },
}
SAMPLERS = ("final", "clipped", "thresholded")


@functools.cache
def golden():
    with np.load(GOLDEN) as recorded:
        return {name: jnp.asarray(value) for name, value in recorded.items()}


def normal(*shape):
    """Standard normal numbers, drawn by numpy, which has nothing to compile."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def near(ours, theirs, limit=1e-4):
    assert jnp.abs(ours - theirs).max() <= limit * jnp.abs(theirs).max()


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_and_noising_are_those_of_diffusers(name):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    recorded = golden()
    assert schedule.alphas_cumprod.dtype == jnp.float32
    expected = recorded[f"{name}/alphas_cumprod"]
    np.testing.assert_allclose(schedule.alphas_cumprod, expected, rtol=5e-5, atol=1e-9)
    inputs = schedule, recorded["latents"], recorded["noise"], recorded["t"]
    near(noise_schedule.add_noise(*inputs), recorded[f"{name}/noised"])
    near(noise_schedule.velocity(*inputs), recorded[f"{name}/velocity"])


@pytest.mark.parametrize("name", ["scaled", "v"])
def test_predictions_lead_back_to_image_and_noise(name):
    schedule = NoiseSchedule.from_json(SCHEDULES[name])
    x, noise, t = (golden()[k] for k in ("latents", "noise", "t"))
    noised = noise_schedule.add_noise(schedule, x, noise, t)
    said = noise
    if name == "v":
        said = noise_schedule.velocity(schedule, x, noise, t)
    near(noise_schedule.predict_clean(schedule, noised, said, t), x)
    near(noise_schedule.predict_noise(schedule, noised, said, t), noise)


def test_one_timestep_or_one_each():
    schedule = NoiseSchedule.from_json(SCALED)
    x, noise = normal(2, 3, 2, 2, 4)
    one = noise_schedule.add_noise(schedule, x, noise, 261)
    each = noise_schedule.add_noise(schedule, x, noise, jnp.array([261, 261, 261]))
    np.testing.assert_array_equal(one, each)
    half = x.astype(jnp.bfloat16)
    assert noise_schedule.add_noise(schedule, half, noise, 261).dtype == jnp.bfloat16


def test_a_schedule_is_a_pytree():
    schedule = NoiseSchedule.from_json(SCALED)
    assert schedule.timesteps == 1000 and len(jax.tree.leaves(schedule)) == 1
    x = jnp.ones((1, 1, 1, 1))
    inside = jax.jit(noise_schedule.add_noise)(schedule, x, x, jnp.int32(500))
    near(inside, noise_schedule.add_noise(schedule, x, x, 500), 1e-6)


@pytest.mark.parametrize("t", [-1, 1000, jnp.array([0, 1000])])
def test_a_timestep_outside_of_the_schedule(t):
    schedule = NoiseSchedule.from_json(SCALED)
    x = jnp.zeros((2, 1, 1, 1))
    with pytest.raises(ValueError, match=r"outside of 0\.\.999"):
        noise_schedule.add_noise(schedule, x, x, t)


def test_a_wrong_number_of_timesteps():
    schedule = NoiseSchedule.from_json(SCALED)
    x = jnp.zeros((2, 1, 1, 1))
    with pytest.raises(ValueError, match=r"t has shape \(3,\)"):
        noise_schedule.add_noise(schedule, x, x, jnp.zeros(3, int))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule='sigmoid' is not supported"),
        ({"trained_betas": [0.1]}, "trained_betas are not supported"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas are not supported"),
        ({"prediction_type": "sample"}, "prediction_type='sample'"),
        ({"beta_shedule": "linear"}, "unknown key 'beta_shedule'"),
        ({"rescale_betas_zero_snr": True}, "needs v_prediction"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000, but"),
        ({"beta_end": "0.02"}, "beta_end is '0.02', but input should be a valid num"),
        ({"clip_sample_range": 0}, "clip_sample_range is 0, but input should be great"),
    ],
)
def test_configs_we_cannot_follow(config, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_json(config)


def test_published_configs_load():
    """The keys of Stable Diffusion 1.5's and 2.1's own files."""
    sampler = {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.10.0.dev0",
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
    assert NoiseSchedule.from_json(SCALED | sampler).prediction_type == "epsilon"
    v = SCALED | sampler | {"prediction_type": "v_prediction"}
    assert NoiseSchedule.from_json(v).prediction_type == "v_prediction"

"""Rectified flow: levels, noising and sampling against diffusers; what is refused."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.diffusion import flow_schedule, guidance, noise_schedule, samplers

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "sd3.npz"
# The scheduler_config.json of Stable Diffusion 3.5 as published.
FILE = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "invert_sigmas": False,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "shift_terminal": None,
    "stochastic_sampling": False,
    "time_shift_type": "exponential",
    "use_beta_sigmas": False,
    "use_dynamic_shifting": False,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}
STOPS = np.array([999, 750, 273, 20])


@functools.cache
def golden():
    with np.load(GOLDEN) as recorded:
        found = {k[5:]: jnp.asarray(v) for k, v in recorded.items() if k[:5] == "flow/"}
    return flow_schedule.from_json(FILE), found


def near(ours, theirs, limit=1e-4):
    assert jnp.abs(ours - theirs).max() <= limit * jnp.abs(theirs).max()


def predict(x, t):
    """The recorder's network, which is told 1000 times the share of noise."""
    return x * (flow_schedule.told(golden()[0], t) / 1000) - 0.1 * x**2


def test_levels_and_noising_are_those_of_diffusers():
    schedule, recorded = golden()
    near(flow_schedule.told(schedule, STOPS), recorded["told"], 1e-6)
    signal, sigma = noise_schedule.weights(schedule, schedule.alphas_cumprod[STOPS])
    near(sigma, recorded["levels"])
    near(signal + sigma, jnp.ones(4), 1e-6)
    for t, noised in zip(STOPS, recorded["noised"], strict=True):
        given = schedule, recorded["clean"], recorded["noise"], int(t)
        near(noise_schedule.add_noise(*given), noised)
    assert schedule.timesteps == 1000 and len(jax.tree.leaves(schedule)) == 1


def test_every_sampler_follows_the_flow():
    """Euler and DDIM as in diffusers; a constant velocity leads all to its end."""
    schedule, recorded = golden()
    steps, noise = samplers.at(schedule, STOPS), recorded["noise"]
    for name in ("ddim", "euler"):
        sampler = samplers.SAMPLERS[name]
        near(sampler(predict, schedule, noise, steps), recorded["made"])
    clean = recorded["clean"]
    for sampler in samplers.SAMPLERS.values():
        straight = sampler(lambda x, t: noise - clean, schedule, noise, steps)
        near(straight, clean, 1e-3)
    back = samplers.invert(lambda x, t: noise - clean, schedule, clean, steps)
    near(back, noise, 1e-3)
    some = steps.last(0.5)
    middle = samplers.noised(schedule, clean, noise, some)
    near(middle, recorded["noised"][2])


def test_predictions_lead_back_to_image_and_noise():
    schedule, recorded = golden()
    x, noise = recorded["clean"], recorded["noise"]
    for t in (0, 273, 999):
        noised = noise_schedule.add_noise(schedule, x, noise, t)
        said = noise_schedule.velocity(schedule, x, noise, t)
        near(noise_schedule.predict_clean(schedule, noised, said, t), x)
        near(noise_schedule.predict_noise(schedule, noised, said, t), noise)


def test_guidance_moves_the_noise_by_the_gradient():
    """By its share of the latents times the slope, whatever the network predicts."""
    schedule, recorded = golden()
    x, t = recorded["clean"], 273

    def probability(latents, clean, t):
        return -jnp.square(latents).sum((1, 2, 3))

    guided = guidance.by_gradient(predict, schedule, probability, 0.5)
    alpha = guidance.level(schedule, t)
    noises = [
        noise_schedule.split(schedule, x, f(x, t), alpha)[1] for f in (guided, predict)
    ]
    near(noises[0] - noises[1], 0.5 * recorded["levels"][2] * 2 * x, 1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"use_dynamic_shifting": True},
            "use_dynamic_shifting are not .*published mod",
        ),
        ({"shift_terminal": 0.1}, "shift_terminal are not supported"),
        ({"shift": 0}, "shift is 0, but input should be greater than 0"),
        ({"beta_start": 0.1}, "unknown key 'beta_start'; known are.*'shift'"),
        (
            {"_class_name": "DDIMScheduler"},
            "'DDIMScheduler', but this family's is 'Flow",
        ),
    ],
)
def test_files_we_cannot_follow(values, message):
    with pytest.raises(ValueError, match=message):
        flow_schedule.from_json(FILE | values)


def test_a_flow_has_no_fresh_noise():
    schedule, recorded = golden()
    steps, fresh = samplers.at(schedule, STOPS), jnp.zeros((4, 1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"'flow_prediction' is of a .*: give eta 0"):
        samplers.ddim(predict, schedule, recorded["noise"], steps, eta=1.0, fresh=fresh)

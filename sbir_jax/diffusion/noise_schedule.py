"""Noise schedules, noising and sampling: the arithmetic around the UNet.

At timestep t a latent x is mixed with noise n as sqrt(a_t) x + sqrt(1 - a_t) n, where
a_t = `alphas_cumprod[t]` falls from almost 1 to almost (or exactly) 0.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

PREDICTIONS = ("epsilon", "v_prediction")

# Entries of published scheduler_config.json files that choose a sampler or its steps,
# not the noise levels.
SAMPLER_KEYS = {
    "algorithm_type",
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "interpolation_type",
    "lower_order_final",
    "sample_max_value",
    "set_alpha_to_one",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_type",
    "steps_offset",
    "thresholding",
    "timestep_spacing",
    "timestep_type",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "variance_type",
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """The noise level of every timestep and what the UNet was trained to predict.

    A pytree whose only leaf is `alphas_cumprod`, float32 [timesteps].
    """

    alphas_cumprod: Float[Array, "timesteps"]
    prediction_type: str = dataclasses.field(metadata={"static": True})

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "NoiseSchedule":
        """Read the contents of a checkpoint's `scheduler/scheduler_config.json`.

        Raises ValueError on a key or value that is not known.
        """
        known = {
            "num_train_timesteps": 1000,
            "beta_start": 1e-4,
            "beta_end": 0.02,
            "beta_schedule": "linear",
            "prediction_type": "epsilon",
            "rescale_betas_zero_snr": False,
            "trained_betas": None,
        }
        for key, value in config.items():
            if key in known:
                known[key] = value
            elif not key.startswith("_") and key not in SAMPLER_KEYS:
                raise ValueError(
                    f"scheduler config: unknown key {key!r}; known are "
                    f"{sorted({*known, *SAMPLER_KEYS})}"
                )
        if known["trained_betas"] is not None:
            raise ValueError("scheduler config: trained_betas are not supported")
        if known["prediction_type"] not in PREDICTIONS:
            raise ValueError(
                f"scheduler config: prediction_type={known['prediction_type']!r} is "
                f"not supported; known are {PREDICTIONS}"
            )
        alphas = np.cumprod(1.0 - _betas(known))
        if known["rescale_betas_zero_snr"]:
            if known["prediction_type"] == "epsilon":
                raise ValueError(
                    "scheduler config: rescale_betas_zero_snr needs v_prediction; at "
                    "zero signal the noise says nothing about the image"
                )
            # Shift and scale sqrt(a) so that it ends at zero and starts where it did.
            root = np.sqrt(alphas)
            alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return cls(jnp.asarray(alphas, jnp.float32), known["prediction_type"])

    @property
    def timesteps(self) -> int:
        """How many timesteps there are; the last one is the noisiest."""
        return self.alphas_cumprod.shape[0]


def _betas(config: dict[str, Any]) -> np.ndarray:
    """The noise variances added at each step, float64."""
    kind, n = config["beta_schedule"], config["num_train_timesteps"]
    start, end = config["beta_start"], config["beta_end"]
    if kind == "linear":
        return np.linspace(start, end, n)
    if kind == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, n) ** 2
    if kind == "squaredcos_cap_v2":
        # Nichol & Dhariwal 2021, equation 17, with their cap of 0.999.
        level = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1.0 - level[1:] / level[:-1], 0.999)
    raise ValueError(
        f"scheduler config: beta_schedule={kind!r} is not supported; known are linear, "
        "scaled_linear, squaredcos_cap_v2"
    )


def _levels(
    schedule: NoiseSchedule, t: ArrayLike, like: Float[Array, "b h w c"]
) -> tuple[Float[Array, "_ 1 1 1"], Float[Array, "_ 1 1 1"]]:
    """The weights of image and noise at `t`, ready to multiply images."""
    if not isinstance(t, Tracer):
        steps = np.asarray(t)
        if steps.size and (steps.min() < 0 or steps.max() >= schedule.timesteps):
            raise ValueError(f"t={t} is outside of 0..{schedule.timesteps - 1}")
    if jnp.shape(t) not in ((), (like.shape[0],)):
        raise ValueError(f"t has shape {jnp.shape(t)}, want () or {like.shape[:1]}")
    alphas = schedule.alphas_cumprod[jnp.asarray(t)].reshape(-1, 1, 1, 1)
    return jnp.sqrt(alphas), jnp.sqrt(1.0 - alphas)


def add_noise(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    t: ArrayLike,
) -> Float[Array, "b h w c"]:
    """The latents as they are at timestep `t` (shape [] or [b]), in their own type.

    Raises ValueError if `t` is known now and outside of the schedule.
    """
    signal, sigma = _levels(schedule, t, latents)
    return (signal * latents + sigma * noise).astype(latents.dtype)


def velocity(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    t: ArrayLike,
) -> Float[Array, "b h w c"]:
    """What a v-prediction network should say (Salimans & Ho 2022, appendix D)."""
    signal, sigma = _levels(schedule, t, latents)
    return (signal * noise - sigma * latents).astype(latents.dtype)


def predict_clean(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    prediction: Float[Array, "b h w c"],
    t: ArrayLike,
) -> Float[Array, "b h w c"]:
    """The clean latents that the UNet's prediction on noisy `latents` implies."""
    signal, sigma = _levels(schedule, t, latents)
    if schedule.prediction_type == "epsilon":
        clean = (latents - sigma * prediction) / signal
    else:
        clean = signal * latents - sigma * prediction
    return clean.astype(latents.dtype)


def predict_noise(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    prediction: Float[Array, "b h w c"],
    t: ArrayLike,
) -> Float[Array, "b h w c"]:
    """The noise that the UNet's prediction on noisy `latents` implies."""
    if schedule.prediction_type == "epsilon":
        return prediction
    signal, sigma = _levels(schedule, t, latents)
    return (signal * prediction + sigma * latents).astype(latents.dtype)


def guided(
    predict: Callable[..., Float[Array, "b h w c"]],
    context: Float[Array, "b n d"],
    empty: Float[Array, "b n d"],
    scale: ArrayLike,
) -> Callable[..., Float[Array, "b h w c"]]:
    """Classifier-free guidance: `predict(latents, t, context)` to `f(latents, t)`.

    The prediction without text is `scale` times left behind in the direction of the
    text; scale 1 is no guidance. Both run as one batch of twice the size.
    """
    both = jnp.concatenate([empty, context])

    def f(latents, t):
        prediction = predict(jnp.concatenate([latents, latents]), t, both)
        without, with_text = jnp.split(prediction, 2)
        return without + scale * (with_text - without)

    return f


def ddim_sample(
    predict: Callable[..., Float[Array, "b h w c"]],
    schedule: NoiseSchedule,
    noise: Float[Array, "b h w c"],
    steps: int = 50,
) -> Float[Array, "b h w c"]:
    """Latents from pure noise by deterministic DDIM (Song et al. 2021, eta = 0).

    Args:
      predict: `predict(latents, t)` with a scalar `t`: the UNet's prediction.
      schedule: the schedule that the UNet was trained with.
      noise: standard normal noise.
      steps: evenly spaced timesteps, beginning with the last of the schedule.

    Raises:
      ValueError: fewer than one step, or more than the schedule has.
    """
    if not 1 <= steps <= schedule.timesteps:
        raise ValueError(f"steps={steps} is outside of 1..{schedule.timesteps}")
    # Begin at the last timestep, where training saw (almost) pure noise.
    ts = np.round(schedule.timesteps * (1 - np.arange(steps) / steps)).astype(int) - 1

    # Each step goes to the noise level of the next, the last one to none.
    following = jnp.append(schedule.alphas_cumprod[ts[1:]], 1.0)

    def step(latents, pair):
        t, alpha = pair
        prediction = predict(latents, t)
        clean = predict_clean(schedule, latents, prediction, t)
        rest = predict_noise(schedule, latents, prediction, t)
        latents = jnp.sqrt(alpha) * clean + jnp.sqrt(1.0 - alpha) * rest
        return latents.astype(noise.dtype), None

    return jax.lax.scan(step, noise, (jnp.asarray(ts), following))[0]

"""Noise schedules and noising: the arithmetic around the UNet.

At timestep t a latent x is mixed with noise n as sqrt(a_t) x + sqrt(1 - a_t) n, where
a_t = `alphas_cumprod[t]` falls from almost 1 to almost (or exactly) 0. A rectified flow
has these weights over their sum, so that image and noise are 1 in all
(`flow_schedule`).
"""

import dataclasses
from typing import Annotated, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float
from pydantic import Field

from sbir_jax.runtime.schema import validated

File = TypeVar("File")

PREDICTIONS = ("epsilon", "v_prediction")
FLOW = "flow_prediction"  # what a rectified flow's network predicts

# Entries of published scheduler_config.json files that choose another sampler than DDIM
# or belong to it. Which timesteps are visited is for whoever samples to say: "leading"
# ones, with their offset, never visit the last, where pictures begin.
SAMPLER_KEYS = {
    "algorithm_type",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_type",
    "steps_offset",
    "time_shift_type",
    "timestep_spacing",
    "timestep_type",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
}
# Other noise levels than those of the entries below.
NOT_SUPPORTED = {"trained_betas", "use_dynamic_shifting", "use_flow_sigmas"}


@dataclasses.dataclass(frozen=True)
class SchedulerFile:
    """What a `scheduler_config.json` says, in its names, where it counts here.

    Absent keys are as in diffusers' DDIMScheduler, but for `clip_sample`: pipelines of
    Stable Diffusion turn it off, since latents are not in [-1, 1].
    """

    num_train_timesteps: Annotated[int, Field(ge=1, le=10**5)] = 1000
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool = False
    set_alpha_to_one: bool = True
    clip_sample: bool = False
    clip_sample_range: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: Annotated[float, Field(gt=0, le=1)] = 0.995
    sample_max_value: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """The noise level of every timestep and what the UNet was trained to predict.

    A pytree whose only leaf is `alphas_cumprod`, float32 [timesteps].

    Attributes:
      prediction_type: of `PREDICTIONS`, or `FLOW`.
      file: where it counts here, what the scheduler's file says.
      shift: of a rectified flow; see `flow_schedule`.
    """

    alphas_cumprod: Float[Array, "timesteps"]
    prediction_type: str = dataclasses.field(metadata={"static": True})
    file: SchedulerFile = dataclasses.field(
        default=SchedulerFile(), metadata={"static": True}
    )
    shift: float = dataclasses.field(default=1.0, metadata={"static": True})

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "NoiseSchedule":
        """Read the contents of a checkpoint's `scheduler/scheduler_config.json`.

        Raises ValueError on a key or value that is not known, or out of bounds.
        """
        file = read_file(SchedulerFile, config, SAMPLER_KEYS, NOT_SUPPORTED)
        if file.prediction_type not in PREDICTIONS:
            raise ValueError(
                f"scheduler config: prediction_type={file.prediction_type!r} is "
                f"not supported; known are {PREDICTIONS}"
            )
        alphas = np.cumprod(1.0 - _betas(file))
        if file.rescale_betas_zero_snr:
            if file.prediction_type == "epsilon":
                raise ValueError(
                    "scheduler config: rescale_betas_zero_snr needs v_prediction; at "
                    "zero signal the noise says nothing about the image"
                )
            # Shift and scale sqrt(a) so that it ends at zero and starts where it did.
            root = np.sqrt(alphas)
            alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return cls(jnp.asarray(alphas, jnp.float32), file.prediction_type, file)

    @property
    def timesteps(self) -> int:
        """How many timesteps there are; the last one is the noisiest."""
        return self.alphas_cumprod.shape[0]


def read_file(
    kind: type[File], config: dict[str, Any], ignored: set[str], refused: set[str]
) -> File:
    """The dataclass with the entries of a scheduler's file that are fields of it.

    Raises ValueError for a key that is neither a field nor ignored, and for one that is
    refused, unless it is off.
    """
    fields: dict[str, Any] = {f.name: f for f in dataclasses.fields(kind)}  # pyright: ignore
    known = {}
    for key, value in config.items():
        if key in fields:
            known[key] = value
        elif key in refused and value:
            raise ValueError(
                f"scheduler config: {key} are not supported; take the scheduler folder "
                "of the published model"
            )
        elif key not in ignored | refused and key[:1] != "_":
            raise ValueError(
                f"scheduler config: unknown key {key!r}; known are "
                f"{sorted({*fields, *ignored})}"
            )
    return validated(kind, known, "scheduler config")


def _betas(file: SchedulerFile) -> np.ndarray:
    """The noise variances added at each step, float64."""
    kind, n = file.beta_schedule, file.num_train_timesteps
    start, end = file.beta_start, file.beta_end
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


def _alphas(
    schedule: NoiseSchedule, t: ArrayLike, like: Float[Array, "b h w c"]
) -> Float[Array, "_ 1 1 1"]:
    """`alphas_cumprod` at `t`, ready to multiply images."""
    if not isinstance(t, Tracer):
        steps = np.asarray(t)
        if steps.size and (steps.min() < 0 or steps.max() >= schedule.timesteps):
            raise ValueError(f"t={t} is outside of 0..{schedule.timesteps - 1}")
    if jnp.shape(t) not in ((), (like.shape[0],)):
        raise ValueError(f"t has shape {jnp.shape(t)}, want () or {like.shape[:1]}")
    return schedule.alphas_cumprod[jnp.asarray(t)].reshape(-1, 1, 1, 1)


def _levels(
    schedule: NoiseSchedule, t: ArrayLike, like: Float[Array, "b h w c"]
) -> tuple[Float[Array, "_ 1 1 1"], Float[Array, "_ 1 1 1"]]:
    """The weights of image and noise at `t`."""
    return weights(schedule, _alphas(schedule, t, like))


def weights(schedule: NoiseSchedule, alpha: ArrayLike) -> tuple[Array, Array]:
    """Those of image and noise in latents, where `alphas_cumprod` is this."""
    signal, sigma = jnp.sqrt(alpha), jnp.sqrt(1.0 - jnp.asarray(alpha))
    if schedule.prediction_type == FLOW:
        return signal / (signal + sigma), sigma / (signal + sigma)
    return signal, sigma


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
    """What a network should say that does not predict the noise: v (Salimans & Ho 2022,
    appendix D), or the velocity of a rectified flow (Liu et al. 2023).
    """
    if schedule.prediction_type == FLOW:
        return (noise - latents).astype(latents.dtype)
    signal, sigma = _levels(schedule, t, latents)
    return (signal * noise - sigma * latents).astype(latents.dtype)


def split(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    prediction: Float[Array, "b h w c"],
    alpha: ArrayLike,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """The clean latents and the noise that a prediction says noisy latents are of.

    Args:
      alpha: `alphas_cumprod` of the latents, a scalar or [_ 1 1 1].
    """
    signal, sigma = weights(schedule, alpha)
    if schedule.prediction_type == "epsilon":
        return (latents - sigma * prediction) / signal, prediction
    if schedule.prediction_type == FLOW:
        return latents - sigma * prediction, latents + signal * prediction
    return signal * latents - sigma * prediction, signal * prediction + sigma * latents


def predict_clean(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    prediction: Float[Array, "b h w c"],
    t: ArrayLike,
) -> Float[Array, "b h w c"]:
    """The clean latents that the UNet's prediction on noisy `latents` implies."""
    alphas = _alphas(schedule, t, latents)
    return split(schedule, latents, prediction, alphas)[0].astype(latents.dtype)


def predict_noise(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    prediction: Float[Array, "b h w c"],
    t: ArrayLike,
) -> Float[Array, "b h w c"]:
    """The noise that the UNet's prediction on noisy `latents` implies."""
    if schedule.prediction_type == "epsilon":
        return prediction
    alphas = _alphas(schedule, t, latents)
    return split(schedule, latents, prediction, alphas)[1].astype(latents.dtype)

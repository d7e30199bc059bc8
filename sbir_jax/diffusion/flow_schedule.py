"""Rectified flow: the noise levels of Stable Diffusion 3.

Latents x and noise n are mixed as (1 - s) x + s n, and the network predicts the
velocity n - x (Liu et al. 2023; Esser et al. 2024, equation 13). Timestep t of
0..999 stands for the share of noise

    s = shift u / (1 + (shift - 1) u),  u = (t + 1) / 1000

(Esser et al. 2024, equation 23, for the shift of the scheduler's file), and the network
is told 1000 s. These are the levels of diffusers' FlowMatchEulerDiscreteScheduler, the
other way round.
"""

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from pydantic import Field

from sbir_jax.diffusion.noise_schedule import (
    FLOW,
    NoiseSchedule,
    SchedulerFile,
    read_file,
)

CLASS = "FlowMatchEulerDiscreteScheduler"
# Which levels a sampler stops at, and what only dynamic shifting reads.
IGNORED = {
    "base_image_seq_len",
    "base_shift",
    "max_image_seq_len",
    "max_shift",
    "stochastic_sampling",
    "time_shift_type",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
}
# Other noise levels than those above.
NOT_SUPPORTED = {"invert_sigmas", "shift_terminal", "use_dynamic_shifting"}


@dataclasses.dataclass(frozen=True)
class FlowFile:
    """What a `scheduler_config.json` of a flow says, in its names."""

    num_train_timesteps: Annotated[int, Field(ge=1, le=10**5)] = 1000
    shift: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


def from_json(config: dict[str, Any]) -> NoiseSchedule:
    """Read the contents of a checkpoint's `scheduler/scheduler_config.json`.

    Raises ValueError for another class of schedulers, on a key or value that is not
    known, or out of bounds.
    """
    kind = config.get("_class_name", CLASS)
    if kind != CLASS:
        raise ValueError(
            f"scheduler config: _class_name is {kind!r}, but this family's is {CLASS!r}"
            ": take the scheduler folder of the published model"
        )
    file = read_file(FlowFile, config, IGNORED, NOT_SUPPORTED)
    n = file.num_train_timesteps
    noise = shifted(np.arange(1, n + 1) / n, file.shift)
    # The level without a flow at which noise and image have the same ratio.
    alphas = (1 - noise) ** 2 / ((1 - noise) ** 2 + noise**2)
    return NoiseSchedule(
        jnp.asarray(alphas, jnp.float32),
        FLOW,
        SchedulerFile(num_train_timesteps=n),
        file.shift,
    )


def shifted(share: Any, shift: float) -> Any:
    """Shares of noise, moved towards noise by a shift above 1."""
    return shift * share / (1 + (shift - 1) * share)


def told(schedule: NoiseSchedule, t: ArrayLike) -> Float[Array, "..."]:
    """What the network is told at a timestep, whole or not: 1000 times its share of
    noise, for a schedule of 1000 timesteps."""
    n = schedule.timesteps
    return n * shifted((jnp.asarray(t, jnp.float32) + 1) / n, schedule.shift)

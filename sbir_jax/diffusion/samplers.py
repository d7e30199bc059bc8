"""Samplers: from noise to latents, and back.

A sampler asks `predict(latents, t)` at some timesteps, each with its noise level, and
steps to the next level. DDIM and Euler are after Song et al. (2021) and Karras et al.
(2022), DPM-Solver++ 2M after Lu et al. (2022), algorithm 2; each equals diffusers'.
They sample rectified flows as well, of which DDIM without fresh noise is Euler's step.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.diffusion import noise_schedule
from sbir_jax.diffusion.noise_schedule import FLOW, NoiseSchedule, SchedulerFile

Predict = Callable[[Any, Any], Float[Array, "b h w c"]]
# From latents at a noise level and that level to latents at it.
Keep = Callable[[Any, Any], Float[Array, "b h w c"]]

# In the place of no signal at all, whose ratio to noise has no logarithm.
SMALLEST, NOTHING = 2.0**-24, 1e-12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """Where a sampler stops on its way; a pytree.

    Attributes:
      t: what the network is told at each of n steps, falling; whole or not.
      alphas: `alphas_cumprod` there, and the one where the last step ends.
    """

    t: Float[Array, " n"]
    alphas: Float[Array, " n+1"]

    def last(self, strength: float) -> "Steps":
        """The steps that are left where sampling begins with a noised picture.

        Args:
          strength: 1 for all of them, and nothing of the picture is left; the smaller,
            the more of it.
        Raises: ValueError outside of 0 to 1.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}; give 0 to 1")
        n = len(self.t)
        first = n - min(int(n * strength), n)
        return Steps(self.t[first:], self.alphas[first:])


def at(schedule: NoiseSchedule, timesteps: Sequence[float | int] | np.ndarray) -> Steps:
    """Steps at these timesteps, falling; between two of the schedule's the ratio of
    noise to signal is interpolated.

    Raises: ValueError if they do not fall, or one is outside of the schedule.
    """
    t = np.asarray(timesteps, np.float64)
    if t.size == 0 or (np.diff(t) >= 0).any():
        raise ValueError(f"timesteps are {list(timesteps)}; give falling ones")
    if t[-1] < 0 or t[0] > schedule.timesteps - 1:
        raise ValueError(
            f"timesteps reach from {t[-1]:g} to {t[0]:g}; this schedule has 0 to "
            f"{schedule.timesteps - 1}"
        )
    levels = np.asarray(schedule.alphas_cumprod, np.float64)
    found = levels[np.round(t).astype(int)]
    if (t != np.round(t)).any():
        ratios = np.asarray(ratio(levels))
        found = 1 / (1 + np.interp(t, np.arange(len(ratios)), ratios) ** 2)
    end = 1.0 if schedule.file.set_alpha_to_one else levels[0]
    whole = np.append(found, end)
    return Steps(jnp.asarray(t, jnp.float32), jnp.asarray(whole, jnp.float32))


def evenly(schedule: NoiseSchedule, count: int) -> Steps:
    """So many steps, the first of them at the last timestep, where training saw
    (almost) pure noise.

    Raises: ValueError for fewer than one step, or more than the schedule has.
    """
    n = schedule.timesteps
    if not 1 <= count <= n:
        raise ValueError(f"steps={count} is outside of 1..{n}")
    return at(schedule, np.round(n * (1 - np.arange(count) / count)) - 1)


def respaced(schedule: NoiseSchedule, name: str) -> Steps:
    """Steps by the names of guided-diffusion: "ddim25" are every 40th of 1000
    timesteps, beginning with 0.

    Raises: ValueError where no whole stride gives so many, or for another name.
    """
    count = name.removeprefix("ddim")
    if name == count or not count.isdecimal():
        raise ValueError(f"steps are {name!r}; give a number, or ddim25 and the like")
    for stride in range(1, schedule.timesteps + 1):
        if len(range(0, schedule.timesteps, stride)) == int(count):
            return at(schedule, range(0, schedule.timesteps, stride)[::-1])
    raise ValueError(
        f"{name}: no stride takes {count} of {schedule.timesteps} timesteps; give a "
        f"number of steps, such as {count}"
    )


def ddim(
    predict: Predict,
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    steps: Steps,
    *,
    eta: ArrayLike = 0.0,
    fresh: Float[Array, "n b h w c"] | None = None,
    shift: Predict | None = None,
    keep: Keep | None = None,
) -> Float[Array, "b h w c"]:
    """DDIM. What the schedule's file says of it is done as diffusers does it: where the
    last step ends (`set_alpha_to_one`), and what happens to the clean latents that each
    step implies (`clip_sample`, `thresholding`).

    Args:
      predict: `predict(latents, t)` with a scalar `t`: the UNet's prediction.
      latents: standard normal noise, or latents at the level of the first step.
      eta: how much fresh noise a step brings: 0 none, 1 as much as ancestral sampling.
      fresh: standard normal noise for each step; None for steps without any.
      shift: `shift(latents, t)`, the gradient of a logarithm of probability: the mean
        of a noisy step is moved by so many of its variances (Dhariwal & Nichol 2021,
        algorithm 1). For steps without noise use `guidance.by_gradient`.
      keep: applied after each step, for masks (`keep_outside`).
    Raises: ValueError for fresh noise in a rectified flow, which has none.
    """
    if fresh is not None and schedule.prediction_type == FLOW:
        raise ValueError(
            f"eta brings noise to each step, but prediction_type={FLOW!r} is of a "
            "rectified flow, which has no such steps: give eta 0"
        )
    plain = fresh is None
    if fresh is None:
        eta, fresh = 0.0, jnp.zeros((len(steps.t), *(1,) * latents.ndim))

    def step(latents, given):
        t, alpha, following, noise = given
        prediction = predict(latents, t)
        clean, rest = noise_schedule.split(schedule, latents, prediction, alpha)
        clean = _bounded(schedule.file, clean)
        variance = (1 - following) / (1 - alpha) * (1 - alpha / following)
        variance = eta**2 * jnp.maximum(variance, 0.0)
        signal, towards = noise_schedule.weights(schedule, following)
        if not plain:
            towards = jnp.sqrt(jnp.maximum(1 - following - variance, 0.0))
        mean = signal * clean + towards * rest
        if shift is not None:
            mean += variance * shift(latents, t)
        moved = mean + jnp.sqrt(variance) * noise
        if keep is not None:
            moved = keep(moved, following)
        return moved.astype(latents.dtype), None

    given = steps.t, steps.alphas[:-1], steps.alphas[1:], fresh
    return jax.lax.scan(step, latents, given)[0]


def euler(
    predict: Predict,
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    steps: Steps,
    *,
    keep: Keep | None = None,
) -> Float[Array, "b h w c"]:
    """Euler's method for the probability flow, down to no noise at all.

    In latents divided by their signal it is the step of DDIM: what tells the two apart
    is where they stop, and that Euler follows no file's bounds.
    """
    plain = dataclasses.replace(schedule, file=SchedulerFile())
    whole = Steps(steps.t, steps.alphas.at[-1].set(1.0))
    return ddim(predict, plain, latents, whole, keep=keep)


def dpm_solver(
    predict: Predict,
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    steps: Steps,
    *,
    keep: Keep | None = None,
) -> Float[Array, "b h w c"]:
    """DPM-Solver++ 2M (midpoint), down to no noise at all; its first step and its last
    are of first order."""
    alphas = jnp.where(steps.alphas[:-1] > NOTHING, steps.alphas[:-1], SMALLEST)
    # It ends at infinity: no noise is left.
    level = -jnp.log(ratio(alphas))
    ahead = jnp.append(level[1:] - level[:-1], jnp.inf)
    behind = jnp.append(1.0, ahead[:-1])
    order = jnp.ones(len(level)).at[0].set(0).at[-1].set(0)
    following = jnp.append(steps.alphas[1:-1], 1.0)

    def step(state, given):
        latents, before = state
        t, alpha, following, ahead, behind, second = given
        clean, _ = noise_schedule.split(schedule, latents, predict(latents, t), alpha)
        slope = second * (clean - before) * ahead / (2 * behind)
        slope = jnp.where(second > 0, slope, 0.0)
        signal, sigma = noise_schedule.weights(schedule, following)
        less = sigma / noise_schedule.weights(schedule, alpha)[1]
        moved = less * latents - signal * jnp.expm1(-ahead) * (clean + slope)
        if keep is not None:
            moved = keep(moved, following)
        return (moved.astype(latents.dtype), clean), None

    given = steps.t, alphas, following, ahead, behind, order
    return jax.lax.scan(step, (latents, jnp.zeros_like(latents)), given)[0][0]


SAMPLERS = {"ddim": ddim, "euler": euler, "dpm-solver": dpm_solver}


def invert(
    predict: Predict,
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    steps: Steps,
) -> Float[Array, "b h w c"]:
    """DDIM backwards: from clean latents to the noise that DDIM makes them of.

    The network is told the level that a step goes to, as in diffusers' inverse
    scheduler, so that the way back asks it at the same timesteps.
    """

    def step(latents, given):
        t, alpha, noisier = given
        clean, rest = noise_schedule.split(
            schedule, latents, predict(latents, t), alpha
        )
        signal, sigma = noise_schedule.weights(schedule, noisier)
        moved = signal * clean + sigma * rest
        return moved.astype(latents.dtype), None

    given = steps.t, steps.alphas[1:], steps.alphas[:-1]
    return jax.lax.scan(step, latents, given, reverse=True)[0]


def keep_outside(
    schedule: NoiseSchedule,
    mask: Float[Array, "#b h w 1"],
    known: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
) -> Keep:
    """For `keep`: outside of the mask the known latents, with the level's own noise.

    Args:
      mask: 1 where the picture may change.
    """

    def keep(latents, alpha):
        there = _mixed(schedule, known, noise, alpha)
        return mask * latents + (1 - mask) * there

    return keep


def noised(
    schedule: NoiseSchedule,
    latents: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    steps: Steps,
) -> Float[Array, "b h w c"]:
    """Clean latents at the level of the first step."""
    return _mixed(schedule, latents, noise, steps.alphas[0])


def _mixed(schedule, latents, noise, alpha) -> Float[Array, "b h w c"]:
    signal, sigma = noise_schedule.weights(schedule, alpha)
    return signal * latents + sigma * noise


def ratio(alphas: Float[ArrayLike, "*n"]) -> Float[Array, "*n"]:
    """Of noise to signal, at these levels."""
    alphas = jnp.asarray(alphas)
    return jnp.sqrt((1 - alphas) / jnp.where(alphas > NOTHING, alphas, SMALLEST))


def _bounded(
    file: SchedulerFile, clean: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Within the bounds of the file; dynamic ones after Saharia et al. (2022)."""
    if file.thresholding:
        size = jnp.abs(clean.astype(jnp.float32)).reshape(len(clean), -1)
        bound = jnp.quantile(size, file.dynamic_thresholding_ratio, axis=1)
        bound = jnp.clip(bound, 1.0, file.sample_max_value)[:, None, None, None]
        return (jnp.clip(clean, -bound, bound) / bound).astype(clean.dtype)
    if file.clip_sample:
        return jnp.clip(clean, -file.clip_sample_range, file.clip_sample_range)
    return clean

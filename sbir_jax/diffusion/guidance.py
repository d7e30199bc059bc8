"""Guidance: predictions moved towards a text, or up a gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.diffusion import noise_schedule, samplers
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.types import TextStates

Predict = Callable[[Any, Any], Float[Array, "b h w c"]]
# From noisy latents, the clean ones they imply and the timestep to a logarithm of
# probability for each picture, [b].
LogProbability = Callable[[Any, Any, Any], Float[Array, " b"]]


def classifier_free(
    predict: Callable[..., Float[Array, "_ h w c"]], scale: ArrayLike
) -> Predict:
    """Classifier-free guidance (Ho & Salimans 2022).

    The prediction without text is `scale` times left behind in the direction of the
    text; scale 1 is no guidance.

    Args:
      predict: `predict(latents, t)` of twice the batch: without text, then with it.
    Returns: `f(latents, t)` of the batch.
    """

    def f(latents, t):
        prediction = predict(jnp.concatenate([latents, latents]), t)
        without, with_text = jnp.split(prediction, 2)
        return without + scale * (with_text - without)

    return f


def without_and_with(text: TextStates, count: int) -> TextStates:
    """States for both halves of `classifier_free`: the last text for each of `count`
    pictures, which stands for no text, and then each picture's own."""
    rows = np.concatenate([np.full(count, count), np.arange(count)])
    return jax.tree.map(lambda states: states[rows], text)


def gradient(
    predict: Predict,
    schedule: NoiseSchedule,
    log_probability: LogProbability,
) -> Callable[[Any, Any], tuple[Array, Array]]:
    """`f(latents, t)` that gives the prediction and the gradient of the probability's
    logarithm by the noisy latents, through the network where it reads clean ones."""

    def f(latents, t):
        alpha = level(schedule, t)

        def probability(latents):
            prediction = predict(latents, t)
            clean, _ = noise_schedule.split(schedule, latents, prediction, alpha)
            return log_probability(latents, clean, t).sum(), prediction

        slope, prediction = jax.grad(probability, has_aux=True)(latents)
        return prediction, slope

    return f


def by_gradient(
    predict: Predict,
    schedule: NoiseSchedule,
    log_probability: LogProbability,
    scale: ArrayLike,
) -> Predict:
    """Classifier guidance for steps without noise: the predicted noise less `scale`
    times sigma times the gradient (Dhariwal & Nichol 2021, algorithm 2).

    A scale of 0 is `predict` itself, at its cost.
    """
    if isinstance(scale, int | float) and scale == 0:
        return predict
    both = gradient(predict, schedule, log_probability)

    def f(latents, t):
        prediction, slope = both(latents, t)
        alpha = level(schedule, t)
        sigma = noise_schedule.weights(schedule, alpha)[1]
        change = -(jnp.asarray(scale) * sigma * slope)
        return _with_noise(schedule, prediction, change, alpha)

    return f


def by_direction(
    predict: Predict,
    schedule: NoiseSchedule,
    log_probability: LogProbability,
    scale: ArrayLike,
) -> Predict:
    """Guidance by the direction of a gradient alone: the predicted noise is moved by
    `scale` times its own length, whatever the gradient's.

    After the latent guidance predictor (Voynov et al. 2023, equation 4), where a step's
    own length takes the place of the noise's, so that with twice as many steps of half
    the length guidance is as strong. The gradient is by the noisy latents; the clean
    ones are given. A scale of 0 is `predict` itself, at its cost.
    """
    if isinstance(scale, int | float) and scale == 0:
        return predict

    def length(x):
        return jnp.sqrt(jnp.square(x).sum((1, 2, 3), keepdims=True))

    def f(latents, t):
        prediction, alpha = predict(latents, t), level(schedule, t)
        given = schedule, latents, prediction, alpha
        clean, noise = noise_schedule.split(*given)
        slope = jax.grad(lambda x: log_probability(x, clean, t).sum())(latents)
        unit = slope / jnp.maximum(length(slope), 1e-12)
        change = -(jnp.asarray(scale) * length(noise) * unit)
        return _with_noise(schedule, prediction, change, alpha)

    return f


def while_noisy(guided: Predict, plain: Predict, least: ArrayLike) -> Predict:
    """`guided` down to timestep `least`, then `plain`: what a picture is made of is
    settled early (Voynov et al. 2023 guide the first half)."""

    def f(latents, t):
        return jax.lax.cond(t >= least, guided, plain, latents, t)

    return f


def _with_noise(schedule, prediction, change, alpha):
    """The prediction of the same latents with a change of the noise in it."""
    if schedule.prediction_type != "epsilon":
        change = change / noise_schedule.weights(schedule, alpha)[0]
    return prediction + change.astype(prediction.dtype)


def level(schedule: NoiseSchedule, t: ArrayLike) -> Float[Array, ""]:
    """`alphas_cumprod` at a timestep, whole or not (as `samplers.at`)."""
    ratios = samplers.ratio(schedule.alphas_cumprod)
    ratio = jnp.interp(jnp.asarray(t, jnp.float32), jnp.arange(len(ratios)), ratios)
    return 1 / (1 + ratio**2)

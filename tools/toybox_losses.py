"""What the Toybox model is trained by: pictures back, noise out, geometry found.

`alignment` is ours, after the finding that diffusion models learn faster when inner
features are held to representations that are known to be good (Yu et al., REPA, ICLR
2025). There these come from another network; here the renderer knows the truth.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax.data.toybox import geometry, world
from sbir_jax.diffusion import noise_schedule

# Decoder features that are asked, and the side of their maps in latents of 16 x 16.
COARSE, FINE = "up.1.out", "up.2.out"
# A histogram's nine numbers are small: they count three times.
WEIGHTS = jnp.array([1.0] * len(geometry.SURFACE) + [3.0] * geometry.ORIENTATIONS)


def to_float(images: Any) -> jax.Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


def autoencoder_loss(vae, kl_weight: float):
    """L1 and L2 in pixels, L1 in their differences, a light KL."""

    def loss_fn(params, key, batch):
        x = to_float(batch)
        mean, logvar = vae.apply({"params": params}, x, method="encode")
        noise = jax.random.normal(key, mean.shape)
        y = vae.apply(
            {"params": params}, mean + jnp.exp(0.5 * logvar) * noise, method="decode"
        )
        # Differences of neighbours keep edges sharp, and thin strokes are all edge.
        edges = sum(jnp.abs(jnp.diff(x - y, axis=a)).mean() for a in (1, 2))
        kl = 0.5 * (mean**2 + jnp.exp(logvar) - 1.0 - logvar).mean()
        # L1 alone lets a small coloured thing fade to the grey around it.
        pixels = jnp.abs(x - y).mean() + 4.0 * jnp.square(x - y).mean()
        return pixels + 0.5 * edges + kl_weight * kl

    return loss_fn


def new_heads(channels: dict[str, int]) -> dict[str, dict]:
    """Linear heads on `COARSE` and `FINE` features, which have so many channels."""

    def head(inputs, outputs):
        return {"kernel": jnp.zeros((inputs, outputs)), "bias": jnp.zeros(outputs)}

    return {
        "coarse": head(channels[COARSE], geometry.CHANNELS),
        "fine": head(channels[FINE], geometry.CHANNELS),
        "category": head(channels[COARSE], len(world.CATEGORIES)),
    }


def alignment(heads, taps, maps, categories, signal, unnamed):
    """How far the features are from saying what the renderer knows.

    Args:
      heads: see `new_heads`.
      taps: the features by name.
      maps: `data.toybox.geometry` of each picture, [b y x g].
      categories: of each place, int [b y x]; below 0 where there is none.
      signal: how much of each is left under its noise, 0 to 1, [b]; it counts so much.
      unnamed: which have no caption, [b]: of the others the text says the category.
    Returns: mean errors of geometry and of category (nats).
    """

    def at(name, tap):
        head = heads[name]
        found = jnp.einsum("bhwc,cf->bhwf", taps[tap], head["kernel"])
        return found + head["bias"][None, None, None]

    def shrunk(of, to):
        b, h, w, g = of.shape
        rows, columns = taps[to].shape[1:3]
        return of.reshape(b, rows, h // rows, columns, w // columns, g).mean((2, 4))

    def error(name, tap):
        square = (
            jnp.square(at(name, tap) - shrunk(maps, tap)) * WEIGHTS[None, None, None]
        )
        return square.mean((1, 2, 3))

    shape = error("coarse", COARSE) + error("fine", FINE)
    shown = jax.nn.one_hot(categories, len(world.CATEGORIES)) * maps[..., :1]
    shown = shrunk(shown, COARSE)
    chances = jax.nn.log_softmax(at("category", COARSE))
    cover = jnp.maximum(shown.sum((1, 2, 3)), 1e-3)
    name = -(chances * shown).sum((1, 2, 3)) / cover
    told = signal * unnamed
    return (
        (signal * shape).sum() / signal.sum(),
        (told * name).sum() / jnp.maximum(told.sum(), 1e-3),
    )


def diffusion_loss(networks, schedule, empty, geometry_weight=0.0, category_weight=0.0):
    """Of UNet and text encoder together on the schedule's own target; with weights
    above 0, and "heads" among the parameters, of `alignment` as well.

    Args:
      networks: UNet, autoencoder and text encoder.
      empty: token ids of "", which takes the place of a dropped caption.
    """
    unet, _, text = networks
    aligned = geometry_weight > 0 or category_weight > 0

    def loss_fn(params, key, batch):
        clean, ids, dropped, maps, categories = batch
        clean = clean.astype(jnp.float32)
        key_t, key_n = jax.random.split(key)
        # One timestep from each of b equal intervals: every batch sees all levels.
        b = len(clean)
        t = jnp.arange(b) + jax.random.uniform(key_t, (b,))
        t = (t * (schedule.timesteps / b)).astype(jnp.int32)
        noise = jax.random.normal(key_n, clean.shape)
        noised = noise_schedule.add_noise(schedule, clean, noise, t)
        read = jnp.where(dropped[:, None], empty[None], ids)
        states = text.apply({"params": params["text_encoder"]}, read)
        asked = (COARSE, FINE, "out") if aligned else ("out",)
        weights = {"params": params["unet"]}
        taps = unet.apply(weights, noised, t, states, taps=asked).taps
        target = noise_schedule.velocity(schedule, clean, noise, t)
        loss = jnp.square(taps["out"] - target).mean()
        if aligned:
            maps, signal = maps.astype(jnp.float32), schedule.alphas_cumprod[t]
            shape, name = alignment(
                params["heads"], taps, maps, categories, signal, dropped
            )
            loss += geometry_weight * shape + category_weight * name
        return loss

    return loss_fn

"""What the Toybox model is trained by: pictures back, noise out, things found.

`alignment` is ours, after the finding that diffusion models learn faster when inner
features are held to representations that are known to be good (Yu et al., REPA, ICLR
2025). `grounding` is ours, after the finding that words bind to their things where
cross-attention is held to masks of them (Wang et al., TokenCompose, CVPR 2024). There
features and masks come from other networks; here the renderer knows the truth.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sbir_jax.data.toybox import geometry, world
from sbir_jax.data.toybox.scenes.spoken import OF_THINGS
from sbir_jax.diffusion import noise_schedule
from sbir_jax.models.unet_names import attention_names

# Decoder features that are asked, and the side of their maps in latents of 16 x 16.
COARSE, FINE = "up.1.out", "up.2.out"
# Attention to the text that is asked where things are: on grids of 4 x 4 and more, past
# the first level, which has seen too little of the picture to tell.
GROUNDED = ("down.1", "down.2", "up.1", "up.2", "up.3")
LEAST = 1e-5  # is added to what a logarithm is taken of
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


def grounding(
    maps: dict[str, Float[Array, "b heads h w n"]],
    spoken: Int[Array, "b n"],
    things: Float[Array, "b k y x"],
    signal: Float[Array, " b"],
    told: Bool[Array, " b"],
) -> Float[Array, ""]:
    """How far attention is from going to the words that speak of what a place shows.

    The cross-entropy, in nats, of the mean of a layer's heads: of a place that shows
    thing k it asks that all goes to the words that speak of k, and of any other place
    that nothing goes to words that speak of things.

    Args:
      maps: probabilities of layers, each on a grid that divides that of the things.
      spoken: bits of each token, see `data.toybox.scenes.spoken`.
      things: the share of each place that shows thing k.
      signal: as of `alignment`.
      told: which have a caption.
    Returns: the mean over layers, places and pictures.
    """
    numbers = jnp.arange(things.shape[1])
    of = (spoken[..., None] >> numbers[None, None]) & 1
    of = of.astype(jnp.float32)
    any_thing = (spoken & OF_THINGS > 0).astype(jnp.float32)
    shown = things.astype(jnp.float32) * of.any(1)[..., None, None]
    errors = []
    for found in maps.values():
        a = found.mean(1)
        b, h, w, _ = a.shape
        rows, columns = shown.shape[2] // h, shown.shape[3] // w
        small = shown.reshape(b, -1, h, rows, w, columns).mean((3, 5))
        right = jnp.einsum("bhwn,bnk->bkhw", a, of)
        none = 1 - jnp.einsum("bhwn,bn->bhw", a, any_thing)
        rest = 1 - small.sum(1)
        each = (small * jnp.log(right + LEAST)).sum(1) + rest * jnp.log(none + LEAST)
        errors.append(-each.mean((1, 2)))
    error = jnp.stack(errors).mean(0)
    counts = signal * told
    return (counts * error).sum() / jnp.maximum(counts.sum(), 1e-3)


def diffusion_loss(networks, schedule, empty, weights: Mapping[str, float]):
    """Of UNet and text encoder together on the schedule's own target.

    Args:
      networks: UNet, autoencoder and text encoder.
      empty: token ids of "", which takes the place of a dropped caption.
      weights: of "geometry" and "category" (`alignment`, which asks for "heads" among
        the parameters) and of "grounding" beside removing noise; 0 for none. Pictures
        with a false caption are not asked for their noise.
    """
    unet, _, text = networks
    aligned = weights["geometry"] > 0 or weights["category"] > 0
    grounded = attention_names(unet.config) if weights["grounding"] > 0 else ()
    grounded = tuple(
        name for name in grounded if name.startswith(GROUNDED) and "cross" in name
    )

    def loss_fn(params, key, batch):
        clean, dropped = batch["latents"].astype(jnp.float32), batch["dropped"]
        key_t, key_n = jax.random.split(key)
        # One timestep from each of b equal intervals: every batch sees all levels.
        b = len(clean)
        t = jnp.arange(b) + jax.random.uniform(key_t, (b,))
        t = (t * (schedule.timesteps / b)).astype(jnp.int32)
        noise = jax.random.normal(key_n, clean.shape)
        noised = noise_schedule.add_noise(schedule, clean, noise, t)
        read = jnp.where(dropped[:, None], empty[None], batch["tokens"])
        states = text.apply({"params": params["text_encoder"]}, read)
        asked = (COARSE, FINE, "out") if aligned else ("out",)
        found = unet.apply(
            {"params": params["unet"]}, noised, t, states, taps=asked, maps=grounded
        )
        target = noise_schedule.velocity(schedule, clean, noise, t)
        error = jnp.square(found.taps["out"] - target).mean((1, 2, 3))
        true = ~batch["false"]
        loss = (true * error).sum() / jnp.maximum(true.sum(), 1)
        signal = schedule.alphas_cumprod[t]
        if aligned:
            maps = batch["geometry"].astype(jnp.float32)
            about = maps, batch["categories"], signal, dropped
            shape, name = alignment(params["heads"], found.taps, *about)
            loss += weights["geometry"] * shape + weights["category"] * name
        if grounded:
            about = batch["spoken"], batch["things"], signal, ~dropped
            loss += weights["grounding"] * grounding(found.maps, *about)
        return loss

    return loss_fn

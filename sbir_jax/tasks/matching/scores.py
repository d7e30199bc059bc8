"""How well a text fits an image: cross-attention logits, pooled. Pure functions.

    image --VAE--> z --noise at T timesteps--> z_t --UNet(z_t, text)--> logits A
    s = mean over places of 1/k log mean over words of exp(k A), for each layer and head
    score = sum of w s over all heads of all layers (+ b * denoising gain)

After "Discriminative Diffusion Models as Few-shot Vision and Language Learners" (DSD,
arXiv 2305.10722). Ours, where its release has defects: only the text's own words are
pooled, neither start token nor padding; it is the log of their mean, so that long texts
score no higher; candidates of an image share its noised latents; and each pair is
scored by itself, so that no other pair of its batch counts.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from sbir_jax.adapters import head_weights, kv_prompts, lora
from sbir_jax.adapters.match_adapter import MatchAdapter
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.diffusion import noise_schedule
from sbir_jax.types import TextStates

# Errors of two texts differ by thousandths of the noise, logits by tenths: in this unit
# gain and logits are of one size, and a weight of 1 is within reach of training.
GAIN_UNIT = 1e-3
NETWORK = "unet"  # the frozen weights that LoRA changes
CROSS = "cross"  # how names of attention to the text end


@dataclasses.dataclass(frozen=True)
class MatchRecipe:
    """How a pair is scored.

    Attributes:
      timesteps: how many, evenly spaced; the score is their mean.
      first, last: the lowest and the highest of them. The release of DSD takes 10 and
        990.
      layers: beginnings of the names of cross-attention layers that are read, for
        example ("down", "mid") or ("down.2", "mid"); all of them without any. What
        comes after the last is not run.
      noise_seed: of the noise, one for each timestep and the same for all images.
    """

    timesteps: int = 10
    first: int = 10
    last: int = 990
    layers: tuple[str, ...] = ()
    noise_seed: int = 0

    def __post_init__(self):
        if self.timesteps < 1:
            raise ValueError(f"recipe.timesteps is {self.timesteps}; give 1 or more")
        if not 0 <= self.first <= self.last:
            raise ValueError(
                f"recipe.first is {self.first} and recipe.last {self.last}; give 0 or "
                "more, the first not above the last"
            )

    @property
    def steps(self) -> Int[np.ndarray, " k"]:
        """The timesteps; a single one is the middle."""
        if self.timesteps == 1:
            return np.array([(self.first + self.last) // 2])
        return np.rint(np.linspace(self.first, self.last, self.timesteps)).astype(int)

    @property
    def taps(self) -> tuple[str, ...]:
        """A layer up to which a network has to be loaded."""
        early = self.layers and all(
            name.startswith(("down", "mid")) for name in self.layers
        )
        return ("mid.out",) if early else ("out",)


def layer_names(backbone: Backbone, recipe: MatchRecipe) -> tuple[str, ...]:
    """The cross-attention layers that a recipe reads, in the order they are run in.

    Raises: ValueError for a beginning that no layer has.
    """
    cross = [name for name in backbone.attention_names if name.endswith(CROSS)]
    for start in recipe.layers:
        if not any(name.startswith(start) for name in cross):
            raise ValueError(
                f"recipe.layers has {start!r}, with which no cross-attention layer of "
                f"this backbone begins; there are {', '.join(cross)}"
            )
    return tuple(
        name for name in cross if not recipe.layers or name.startswith(recipe.layers)
    )


def noised(
    backbone: Backbone,
    latents: Float[Array, "p y x c"],
    noise: Float[Array, "q k y x c"],
    t: Int[Array, "q k"],
) -> tuple[Float[Array, "pk y x c"], Int[Array, " pk"]]:
    """Each latent at all of its timesteps, in a row; and these.

    Args:
      noise, t: of each latent, or q = 1 for all of them.
    """
    p, k = len(latents), noise.shape[1]
    noise = jnp.broadcast_to(noise, (p, *noise.shape[1:])).reshape(p * k, -1)
    t = jnp.broadcast_to(jnp.asarray(t), (p, k)).reshape(-1)
    rows = jnp.repeat(latents, k, axis=0)
    noise = noise.reshape(rows.shape).astype(rows.dtype)
    return noise_schedule.add_noise(backbone.schedule, rows, noise, t), t


def pooled(
    logits: Float[Array, "b heads y x n"],
    words: Bool[Array, "b n"],
    temperature: ArrayLike = 0.0,
    gates: Float[Array, "b heads"] | None = None,
) -> Float[Array, "b heads"]:
    """Mean over places of the log-mean-exp over the words, at exp(temperature).

    Args:
      words: which keys take part; at least one in each row.
      gates: what each head's logits are multiplied with, 1 without it.
    """
    k = jnp.exp(jnp.asarray(temperature, jnp.float32))
    scaled = k * logits.astype(jnp.float32)
    if gates is not None:
        scaled = scaled * gates[:, :, None, None, None]
    chosen = words[:, None, None, None]
    count = words.sum(-1)[:, None, None, None]
    total = jax.nn.logsumexp(jnp.where(chosen, scaled, -jnp.inf), axis=-1)
    return ((total - jnp.log(count)) / k).mean((2, 3))


def adapted(frozen: Frozen, adapter: MatchAdapter) -> Frozen:
    """The weights with the adapter's changes in them."""
    if adapter.lora is None:
        return frozen
    return {**frozen, NETWORK: lora.merged(frozen[NETWORK], adapter.lora)}


def head_scores(
    backbone: Backbone,
    frozen: Frozen,
    adapter: MatchAdapter,
    latents: Float[Array, "p y x c"],
    text: TextStates,
    noise: Float[Array, "q k y x c"],
    t: Int[Array, "q k"],
    layers: tuple[str, ...],
    gates: Float[Array, "p h"] | None = None,
) -> tuple[Float[Array, "p k h"], Float[Array, "pk y x c"] | None]:
    """What each head says of each pair at each timestep.

    Args:
      text: of each pair.
      gates: as of `pooled`, of each pair and all heads of all layers.
    Returns: the scores, and what the network predicts where the adapter has a gain.
    """
    frozen = adapted(frozen, adapter)
    rows, steps = noised(backbone, latents, noise, t)
    shifts = kv_prompts.shifts(adapter.prompts, text) if adapter.prompts else {}
    asked = ("out",) if adapter.gain is not None else ()
    kv_shift = {name: value for name, value in shifts.items() if name in layers}
    found = backbone.read(
        frozen, rows, steps, text, taps=asked, logits=layers, kv_shift=kv_shift
    )
    k = noise.shape[1]
    words, scores, first = jnp.repeat(text.mask, k, axis=0), [], 0
    for name in layers:
        logits = found.logits[name]
        last = first + logits.shape[1]
        gate = None
        if gates is not None:
            gate = jnp.repeat(gates[:, first:last], k, axis=0)
        scores.append(pooled(logits, words, adapter.temperature, gate))
        first = last
    joined = jnp.concatenate(scores, axis=1)
    return joined.reshape(len(latents), k, -1), found.taps.get("out")


def score_parts(
    backbone: Backbone,
    frozen: Frozen,
    adapter: MatchAdapter,
    latents: Float[Array, "p y x c"],
    text: TextStates,
    noise: Float[Array, "q k y x c"],
    t: Int[Array, "q k"],
    layers: tuple[str, ...],
    without: Float[Array, "p k"] | None = None,
    gates: Float[Array, "p h"] | None = None,
) -> Float[Array, "p k e"]:
    """What `match` sums: each head's score, and last the denoising gain, 0 for an
    adapter without one."""
    given = backbone, frozen, adapter, latents, text, noise, t, layers, gates
    heads, predicted = head_scores(*given)
    gain = jnp.zeros(heads.shape[:2])
    if predicted is not None:
        assert without is not None
        error = error_of(backbone, latents, noise, t, predicted)
        gain = (without - error) / GAIN_UNIT
    return jnp.concatenate([heads, gain[..., None]], axis=-1)


def summed(
    adapter: MatchAdapter, parts: Float[Array | np.ndarray, "*b e"]
) -> Float[Array, "*b"]:
    """The score that an adapter makes of its parts."""
    parts = jnp.asarray(parts)
    weights = head_weights.weights(jnp.asarray(adapter.heads))
    scores = parts[..., :-1] @ weights
    return scores if adapter.gain is None else scores + adapter.gain * parts[..., -1]


def match(
    backbone: Backbone,
    frozen: Frozen,
    adapter: MatchAdapter,
    latents: Float[Array, "p y x c"],
    text: TextStates,
    noise: Float[Array, "q k y x c"],
    t: Int[Array, "q k"],
    layers: tuple[str, ...],
    without: Float[Array, "p k"] | None = None,
    gates: Float[Array, "p h"] | None = None,
) -> Float[Array, "p k"]:
    """The score of each pair at each timestep; larger fits better.

    Args:
      without: `denoising_error` of the empty text, for an adapter with a gain.
    """
    given = backbone, frozen, adapter, latents, text, noise, t, layers, without, gates
    return summed(adapter, score_parts(*given))


def denoising_error(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "p y x c"],
    text: TextStates,
    noise: Float[Array, "q k y x c"],
    t: Int[Array, "q k"],
) -> Float[Array, "p k"]:
    """How far the noise that the network sees is from that which is there: the root of
    the mean square over the latent, so that its size does not matter."""
    rows, steps = noised(backbone, latents, noise, t)
    predicted = backbone.predict(frozen, rows, steps, text)
    return error_of(backbone, latents, noise, t, predicted)


def error_of(
    backbone: Backbone,
    latents: Float[Array, "p y x c"],
    noise: Float[Array, "q k y x c"],
    t: Int[Array, "q k"],
    predicted: Float[Array, "pk y x c"],
) -> Float[Array, "p k"]:
    """`denoising_error` of what the network predicts."""
    rows, steps = noised(backbone, latents, noise, t)
    seen = noise_schedule.predict_noise(backbone.schedule, rows, predicted, steps)
    p, k = len(latents), noise.shape[1]
    gap = seen.astype(jnp.float32).reshape(p, k, -1) - noise.reshape(len(noise), k, -1)
    return jnp.sqrt(jnp.square(gap).mean(-1))

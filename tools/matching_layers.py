"""What attention says of which text is of a scene, and what denoising says.

python -m tools.matching_layers [--backbone DIR] [--scenes 100] [--timesteps 5]

One pass over the split `val` of the Toybox scenes, of seen categories, for every pair
and timestep. Acc, chance being one half, of several statistics of the cross-attention
logits, mean over all heads, and of the error of denoising; then of the logits by layer,
and of both by timestep. What is chosen from them goes into `configs/toybox.py`.
"""

import argparse
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sbir_jax.adapters.match_adapter import AdapterConfig
from sbir_jax.data.matching.scenes import scenes
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.runtime import hardware
from sbir_jax.tasks.matching import evaluation, scores
from sbir_jax.tasks.matching.matcher import Matcher, initial
from sbir_jax.tasks.matching.pairs import PairScorer
from sbir_jax.tasks.matching.scores import MatchRecipe

SPLITS: dict[str, Any] = {"train": 800, "val": 100, "test": 200, "novel": 100}
STATISTICS = {
    "logits": "log-mean-exp over words, mean over places: the score",
    "beside the start": "logits of words against that of the start token",
    "share": "of the softmax that goes to words",
    "peak": "log-mean-exp over places of a word's logit less its mean, mean over words",
    "spread": "standard deviation over places, mean over words",
    "claim": "greatest share of the words' softmax that a word has, mean over words",
    "found": "logarithm of the greatest share of the softmax that a word has at any "
    "place, mean over words",
}


def statistics(
    logits: Float[Array, "b heads y x n"], words: Bool[Array, "b n"]
) -> Float[Array, "b heads s"]:
    """Of each head, in the order of STATISTICS."""
    logits = logits.astype(jnp.float32)
    chosen, count = words[:, None, None, None], words.sum(-1)[:, None]
    total = jax.nn.logsumexp(jnp.where(chosen, logits, -jnp.inf), -1)
    every = jax.nn.logsumexp(logits, -1)
    start = total - jnp.logaddexp(total, logits[..., 0])
    flat = logits.reshape(*logits.shape[:2], -1, logits.shape[-1])
    apart = flat - flat.mean(2, keepdims=True)
    shares = jax.nn.softmax(jnp.where(chosen[:, :, 0], flat, -jnp.inf), -1)

    def mean(values: Float[Array, "b heads n"]) -> Float[Array, "b heads"]:
        return jnp.where(words[:, None], values, 0).sum(-1) / count

    told = jax.nn.log_softmax(flat, -1).max(2)  # pyright: ignore
    peak = jax.nn.logsumexp(apart, axis=2) - jnp.log(apart.shape[2])
    found = [
        total.mean((2, 3)) - jnp.log(count),
        start.mean((2, 3)),
        jnp.exp(total - every).mean((2, 3)),
        mean(peak),
        mean(apart.std(2)),
        mean(shares.max(2)),
        mean(told),
    ]
    return jnp.stack(found, -1)


def read(
    matcher: Matcher, questions: Any, pairs: evaluation.Pairs
) -> tuple[Float[np.ndarray, "p k heads s"], Float[np.ndarray, "p k"]]:
    """The statistics of every pair at each timestep, and the errors of denoising."""
    backbone, layers, recipe = matcher.backbone, matcher.layers, matcher.recipe

    def program(frozen, adapter, latents, tokens, noise, t, without):
        text = backbone.encode_text(frozen, tokens)
        rows, steps = scores.noised(backbone, latents, noise, t)
        given = frozen, rows, steps, text
        found = backbone.read(*given, taps=("out",), logits=layers)
        words = jnp.repeat(text.mask, noise.shape[1], 0)
        each = [statistics(found.logits[name], words) for name in layers]
        error = scores.error_of(backbone, latents, noise, t, found.taps["out"])
        shape = *error.shape, -1
        parts = jnp.concatenate(each, 1).reshape(shape)
        return jnp.concatenate([parts, error[..., None]], -1)

    shape = backbone.latent_shape(matcher.size)
    bank = np.asarray(noise_bank(shape, recipe.timesteps, recipe.noise_seed))
    scorer = PairScorer(matcher.loaded, program, bank, recipe.steps, matcher.mesh)
    latents = matcher.encode(questions.images)
    given = latents, pairs.images, pairs.texts, pairs.rows
    found = scorer(matcher.adapter, *given, quiet=False)
    parts = found[..., :-1].reshape(*found.shape[:2], -1, len(STATISTICS))
    return parts, found[..., -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="toybox")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--timesteps", type=int, default=5)
    args = parser.parse_args()
    hardware.keep_programs()
    questions = scenes("val", args.scenes, **SPLITS)
    pairs = evaluation.pairs(questions)
    recipe = MatchRecipe(timesteps=args.timesteps)
    matcher = Matcher.from_pretrained(args.backbone, recipe)
    parts, errors = read(matcher, questions, pairs)

    def row(name: str, values: Float[np.ndarray, " p"]) -> None:
        found = evaluation.figures(questions, pairs, values)
        cells = [f"{f.value:.3f} ± {f.error:.3f}" for f in found.values()]
        print(f"| {name} | " + " | ".join(cells[:-1]) + " |")

    kinds = ("all kinds", *questions.kinds)
    print("| | " + " | ".join(kinds) + " |\n" + "|---" * (len(kinds) + 1) + "|")
    for i, name in enumerate(STATISTICS):
        row(name, parts[..., i].mean((1, 2)))
    row("less error", -errors.mean(1))
    owners = np.array([n for n in matcher.layers for _ in range(_heads(matcher, n))])
    for name, i in itertools.product(matcher.layers, (0, len(STATISTICS) - 1)):
        what = tuple(STATISTICS)[i]
        row(f"{what}, {name}", parts[:, :, owners == name, i].mean((1, 2)))
    for k, t in enumerate(recipe.steps):
        row(f"logits, t = {t}", parts[:, k, :, 0].mean(1))
        row(f"less error, t = {t}", -errors[:, k])


def _heads(matcher: Matcher, layer: str) -> int:
    """How many heads a layer has."""
    recipe = MatchRecipe(layers=(layer,))
    return initial(matcher.loaded, recipe, AdapterConfig(), matcher.size).heads.size


if __name__ == "__main__":
    main()

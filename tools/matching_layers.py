"""Which layers and timesteps tell texts apart, training-free, on seen categories.

python -m tools.matching_layers [--backbone DIR] [--scenes 100]

One pass over the split `val` of the Toybox scenes scores every head by itself at every
timestep. The tables are Acc (kinds) of the mean over the heads of a layer, chance being
one half; what is chosen from them goes into `configs/toybox.py`.
"""

import argparse
from typing import Any

import numpy as np

from sbir_jax.adapters.match_adapter import AdapterConfig
from sbir_jax.data.matching.scenes import scenes
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.runtime import hardware
from sbir_jax.tasks.matching import evaluation, scores
from sbir_jax.tasks.matching.matcher import Matcher, initial
from sbir_jax.tasks.matching.pairs import PairScorer
from sbir_jax.tasks.matching.scores import MatchRecipe

RECIPE = MatchRecipe(timesteps=10)
SPLITS: dict[str, Any] = {
    "train": 800,
    "val": 100,
    "test": 200,
    "novel": 100,
}  # as the config's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="toybox")
    parser.add_argument("--scenes", type=int, default=100)
    args = parser.parse_args()
    hardware.keep_programs()
    questions = scenes("val", args.scenes, **SPLITS)
    pairs = evaluation.pairs(questions)
    matcher = Matcher.from_pretrained(args.backbone, RECIPE)
    backbone, layers = matcher.backbone, matcher.layers
    shape = backbone.latent_shape(matcher.size)
    bank = np.asarray(noise_bank(shape, RECIPE.timesteps, RECIPE.noise_seed))

    heads = [name for name in layers for _ in range(_heads(matcher, name))]

    def program(frozen, adapter, latents, tokens, noise, t, without):
        text = backbone.encode_text(frozen, tokens)
        given = frozen, adapter, latents, text, noise, t, layers
        return scores.head_scores(backbone, *given)[0]

    scorer = PairScorer(matcher.loaded, program, bank, RECIPE.steps, matcher.mesh)
    latents = matcher.encode(questions.images)
    given = latents, pairs.images, pairs.texts, pairs.rows
    found = scorer(matcher.adapter, *given, quiet=False)

    def accuracy(values: np.ndarray) -> str:
        figure = evaluation.figures(questions, pairs, values)["Acc (kinds)"]
        return f"{figure.value:.3f} ± {figure.error:.3f}"

    print("| layer | all timesteps | " + " | ".join(map(str, RECIPE.steps)) + " |")
    print("|---" * (len(RECIPE.steps) + 2) + "|")
    columns = {name: found[:, :, np.array(heads) == name].mean(-1) for name in layers}
    for name, values in {**columns, "all layers": found.mean(-1)}.items():
        each = [accuracy(values[:, k]) for k in range(values.shape[1])]
        print(f"| {name} | {accuracy(values.mean(1))} | " + " | ".join(each) + " |")


def _heads(matcher: Matcher, layer: str) -> int:
    """How many heads a layer has."""
    recipe = MatchRecipe(layers=(layer,))
    return initial(matcher.loaded, recipe, AdapterConfig(), matcher.size).heads.size


if __name__ == "__main__":
    main()

"""Training-free scores by denoising error, at as many passes of the same network.

The better a text predicts the noise in an image, the more it is of it. Of both methods
the latent is the autoencoder's mean (theirs: sampled), and errors are the root of the
mean square over the latent, in place of the norm: the same order of candidates.
"""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.tasks.matching import scores
from sbir_jax.tasks.matching.matcher import Matcher, check_texts
from sbir_jax.tasks.matching.pairs import PairScorer, every

NAMES = ("diffusion_itm", "diffusion_classifier")
PASSES = 10  # of the network for each pair, where nothing was trained


class DenoisingRival:
    """DiffusionITM or Diffusion Classifier on the backbone of a matcher.

    DiffusionITM (Krojer et al., 2023) takes timesteps 10, 10 + 1000 // N, ... below
    990, noise k for step k, and the mean of the root errors; where images of a text are
    compared, less the error without a text. Diffusion Classifier (Li et al., 2023)
    takes evenly spaced timesteps, one noise for all, and the mean of the square errors.
    """

    def __init__(self, name: str, matcher: Matcher, passes: int, choose_image: bool):
        """
        Args:
          passes: of the network for each pair.
          choose_image: whether images of a text are compared.
        """
        self.matcher, self._squared = matcher, name == "diffusion_classifier"
        self._less = choose_image and not self._squared
        backbone, length = matcher.backbone, matcher.backbone.schedule.timesteps
        if self._squared:
            t = np.floor((np.arange(passes) + 0.5) * length / passes).astype(int)
        else:
            t = np.minimum(
                10 + np.arange(passes) * max(1, length // passes), length - 1
            )
        shape = backbone.latent_shape(matcher.size)
        count = 1 if self._squared else passes
        bank = noise_bank(shape, count, matcher.recipe.noise_seed)
        noise = np.broadcast_to(np.asarray(bank), (passes, *shape))

        def error(frozen, trained, latents, tokens, noise, t, without):
            text = backbone.encode_text(frozen, tokens)
            return scores.denoising_error(backbone, frozen, latents, text, noise, t)

        given = noise, t, matcher.mesh, matcher.batch_size
        self._pairs = PairScorer(matcher.loaded, error, *given)

    def score(self, images: Iterable[Any], texts: Sequence[str]) -> np.ndarray:
        """As `Matcher.score`."""
        check_texts(texts)
        return every(self.pair_scores, self.matcher.encode(images), texts)

    def pair_scores(
        self,
        latents: Float[np.ndarray, "n y x c"],
        images: Int[np.ndarray, " p"],
        texts: Sequence[str],
        rows: Int[np.ndarray, " p"],
        quiet: bool = True,
    ) -> Float[np.ndarray, "p k"]:
        """As `Matcher.pair_scores`: larger fits better."""
        found = -self._pairs(None, latents, images, texts, rows, quiet=quiet)
        if self._squared:
            return -np.square(found)
        if self._less:
            each = np.arange(len(latents))
            found += self._pairs(None, latents, each, [""], 0 * each)[images]
        return found


def untrained(matcher: Matcher) -> DenoisingRival:
    """What scores best without training, as far as was measured: DiffusionITM, of
    images and of texts alike. Attention alone finds the red one among its like less
    often than search by words does (`tools.rerank_table`)."""
    return DenoisingRival(NAMES[0], matcher, PASSES, choose_image=True)


def open_scorer(model: str) -> Matcher | DenoisingRival:
    """A run folder of the task "matching", or a backbone, untrained."""
    folder = pathlib.Path(model).expanduser()
    if (folder / "config.json").is_file():
        return Matcher.from_run(folder)
    return untrained(Matcher.from_pretrained(model))

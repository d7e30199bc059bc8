"""The few questions that an adapter is trained on, as batches for the devices."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from sbir_jax.data.matching import Item, MatchingSet
from sbir_jax.runtime import multiprocess
from sbir_jax.tasks.matching.matcher import Matcher
from sbir_jax.tasks.matching.setup import ShotsConfig

Batch = dict[str, Any]


class Shots:
    """Latents and tokens of a few questions; images are encoded once."""

    def __init__(
        self,
        few: MatchingSet,
        matcher: Matcher,
        config: ShotsConfig,
        linear: bool = False,
    ):
        """
        Args:
          matcher: with the adapter as training begins with it.
          linear: whether a score is linear in what is learned. Then batches hold
            "parts" [b c k e] of scores in the place of latents and tokens: each pair
            is read once, at the timesteps and noises of `matcher`.
        Raises: ValueError for a set that asks for pairs: it is a test alone.
        """
        if few.asks == "pairs":
            raise ValueError(f"{few.name} is a test: it cannot be trained on")
        self.few, self.config = few, config
        self.matcher, self.linear = matcher, linear
        used = sorted({image for item in few.items for image in item.images})
        self._places = {image: place for place, image in enumerate(used)}
        self._latents = matcher.encode([few.images[image] for image in used])
        texts = list(dict.fromkeys(t for item in few.items for t in item.texts))
        self._texts = {text: place for place, text in enumerate(texts)}
        self._tokens = jax.tree.map(np.asarray, matcher.backbone.tokenize(texts))

    def batches(self, step: int) -> Iterator[Batch]:
        """This process's rows of the batch of every step from this one on: a pure
        function of seed and step."""
        config, count = self.config, len(self.few.items)
        for now in range(step, config.steps):
            rng = np.random.default_rng((config.seed, now))
            # Whole rounds over the questions, so that none is left out for long.
            rounds = -(-config.batch_size // count)
            order = np.concatenate([rng.permutation(count) for _ in range(rounds)])
            mine = multiprocess.part(config.batch_size)
            if self.linear:
                chosen = order[: config.batch_size][mine]
                yield {name: rows[chosen] for name, rows in self.read.items()}
                continue
            rows = [self.candidates(int(i), rng) for i in order[: config.batch_size]]
            draws = np.arange(config.batch_size, dtype=np.int32)
            yield self.batch(rows[mine], draws[mine])

    @functools.cached_property
    def read(self) -> Batch:
        """Every question, with the parts of its candidates' scores."""
        images, texts, real = self._places_of(self._fixed)
        where = np.nonzero(real)
        given = self._latents, images[where], list(self._texts), texts[where]
        found = self.matcher.pair_parts(*given, quiet=False)
        parts = np.zeros((*real.shape, *found.shape[1:]), np.float32)
        parts[where] = found
        return {"parts": parts, "real": real}

    @property
    def _fixed(self) -> list[Item]:
        """Every question with candidates that no step changes."""
        seed, count = self.config.seed, len(self.few.items)
        rngs = [np.random.default_rng((seed, i)) for i in range(count)]
        return [self.candidates(i, rng) for i, rng in enumerate(rngs)]

    def each(self) -> Iterator[Batch]:
        """Every question once, a batch each."""
        for i, item in enumerate(self._fixed):
            yield self.batch([item], np.array([i], np.int32))

    def candidates(self, number: int, rng: np.random.Generator) -> Item:
        """A question with as many candidates as the config says, or as there are: its
        own, then what is right for other images."""
        item, wanted = self.few.items[number], self.config.candidates
        choose_text = self.few.asks == "text"
        own = list(item.texts if choose_text else item.images)
        if len(own) > wanted:
            kept = 1 + rng.permutation(len(own) - 1)[: wanted - 1]
            own = [own[0], *(own[i] for i in sorted(kept))]
        for i in rng.permutation(len(self.few.items)).tolist():
            if len(own) >= wanted:
                break
            other = self.few.items[i]
            value = other.texts[0] if choose_text else other.images[0]
            apart = other.images[0] != item.images[0] and other.texts != item.texts
            if apart and value not in own:
                own.append(value)
        if choose_text:
            return Item(item.id, item.images, tuple(map(str, own)))
        return Item(item.id, tuple(map(int, own)), item.texts)

    def batch(self, rows: list[Item], draws: np.ndarray) -> Batch:
        """Arrays of questions: "latents" [b c y x z] and "tokens" [b c ...] of each
        candidate pair, "real" [b c] where there is one, "draw" [b]."""
        images, texts, real = self._places_of(rows)
        return {
            "latents": self._latents[images],
            "tokens": jax.tree.map(lambda x: x[texts], self._tokens),
            "real": real,
            "draw": draws,
        }

    def _places_of(self, rows: list[Item]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image and text of each candidate pair, [b c], and where there is one."""
        images = np.zeros((len(rows), self.config.candidates), np.int64)
        texts, real = images.copy(), np.zeros(images.shape, bool)
        for i, item in enumerate(rows):
            count = max(len(item.images), len(item.texts))
            images[i] = self._places[item.images[0]]
            texts[i] = self._texts[item.texts[0]]
            for j in range(count):
                image = item.images[j % len(item.images)]
                images[i, j] = self._places[image]
                texts[i, j] = self._texts[item.texts[j % len(item.texts)]]
            real[i, :count] = True
        return images, texts, real

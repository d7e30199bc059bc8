"""The endless stream of Toybox pictures as training data of diffusion, kept on disk.

    FOLDER/00012.npz   latents, captions, geometry and categories of one chunk

Every third chunk shows scenes of up to four things, the others one thing a picture.
Chunks are rendered and encoded when a step first asks for them. Which ones a step draws
from follows from its number, so a stopped run goes on with what it would have seen.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import pretraining
from sbir_jax.data.toybox.scenes.render import FIRST

SCENES_EVERY = 3  # chunks
NOTHING = -1  # the category of a place that shows no thing
# Chunks that a batch is drawn from: 82,000 pictures, half a gigabyte.
WINDOW = 256


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Pictures, photos first, of t subjects: things or scenes.

    What is where in a subject is so in all of its pictures.
    """

    latents: Float[np.ndarray, "n y x c"]  # float16, of unit variance
    tokens: Int[np.ndarray, "n 77"]
    geometry: Float[np.ndarray, "t y x g"]  # float16
    categories: Int[np.ndarray, "t y x"]  # of each place, or NOTHING
    subject: Int[np.ndarray, " n"]  # which of the t each picture shows


@dataclasses.dataclass(frozen=True)
class Stream:
    """Batches of a seeded draw.

    Attributes:
      folder: where chunks are kept; of one autoencoder and size only.
      encode: uint8 images [n, size, size, 3] to latents of unit variance.
      tokenize: texts to token ids [n, 77].
      first, ready: chunk that the stream begins with, and how many there are at step 0.
      every: steps after which one more chunk joins.
    """

    folder: pathlib.Path
    encode: Callable
    tokenize: Callable
    size: int
    first: int
    ready: int
    every: int

    def numbers(self, step: int) -> range:
        """The chunks that this step draws from: the newest WINDOW."""
        end = self.first + self.ready + step // self.every
        return range(max(self.first, end - WINDOW), end)

    def batch(self, step: int, count: int, dropout: float) -> tuple[np.ndarray, ...]:
        """Latents, token ids, which captions to leave out, geometry, categories."""
        rng = np.random.default_rng((2, step))
        numbers = self.numbers(step)
        rows = []
        for number in rng.integers(numbers.start, numbers.stop, count):
            chunk = self.chunk(int(number))
            i = rng.integers(len(chunk.latents))
            subject = chunk.subject[i]
            about = chunk.geometry[subject], chunk.categories[subject]
            rows.append((chunk.latents[i], chunk.tokens[i], rng.random() < dropout))
            rows[-1] += about
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    @functools.cached_property
    def _kept(self) -> dict[int, Chunk]:
        return {}

    def chunk(self, number: int) -> Chunk:
        """A chunk, read or made; what left the window long ago is forgotten."""
        if number not in self._kept:
            while len(self._kept) >= WINDOW:
                del self._kept[min(self._kept)]
            self._kept[number] = self._read(number)
        return self._kept[number]

    def _read(self, number: int) -> Chunk:
        path = self.folder / f"{number:05d}.npz"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part.npz")
            np.savez(partial, **self._make(number))
            partial.rename(path)
        with np.load(path) as data:
            captions = [str(caption) for caption in data["captions"]]
            return Chunk(
                data["latents"],
                self.tokenize(captions),
                data["geometry"],
                data["categories"],
                data["subject"],
            )

    def _make(self, number: int) -> dict[str, np.ndarray]:
        scenes = number % SCENES_EVERY == SCENES_EVERY - 1
        drawn, places, subject = (_scenes if scenes else _things)(number, self.size)
        images = np.concatenate([drawn.photos, drawn.sketches])
        return {
            "latents": self.encode(images).astype(np.float16),
            "captions": np.array([*drawn.photo_captions, *drawn.sketch_captions]),
            "geometry": drawn.geometry.astype(np.float16),
            "categories": places.astype(np.int8),
            "subject": subject,
        }


def _things(number: int, size: int) -> tuple[world.Chunk, np.ndarray, np.ndarray]:
    """A chunk, what category its places show, and which thing each picture does."""
    drawn = world.pretraining_chunk(0, number, size)
    things = np.arange(len(drawn.categories))
    shape = drawn.geometry.shape[:3]
    subject = np.concatenate([things.repeat(world.LOOKS), things.repeat(world.HANDS)])
    return drawn, np.broadcast_to(drawn.categories[:, None, None], shape), subject


def _scenes(
    number: int, size: int
) -> tuple[pretraining.SceneChunk, np.ndarray, np.ndarray]:
    drawn = pretraining.pretraining_scenes(0, number, size)
    places = most_frequent(drawn.categories, world.PLACE)
    return drawn, places, np.concatenate([drawn.photo_scene, drawn.sketch_scene])


def most_frequent(
    maps: Int[np.ndarray, "s h w"], pixels: int
) -> Int[np.ndarray, "s y x"]:
    """The category that most pixels of a place show, be they ever so few.

    Args:
      maps: as `Truth.category_map`.
      pixels: side of a place.
    """
    s, h, w = maps.shape
    places = maps.reshape(s, h // pixels, pixels, w // pixels, pixels)
    names = np.arange(FIRST, FIRST + len(world.CATEGORIES))
    count = (places[..., None] == names).sum((2, 4))
    return np.where(count.any(-1), count.argmax(-1), NOTHING).astype(np.int8)

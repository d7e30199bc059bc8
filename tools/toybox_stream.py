"""The endless stream of Toybox pictures as training data of diffusion, kept on disk.

    FOLDER/00012.npz   latents, captions, geometry and categories of one chunk

Every third chunk shows scenes of up to four things, the others one thing a picture.
Each picture has a false caption beside its true one, which names what it does not show.
Chunks are rendered and encoded when a step first asks for them. Which ones a step draws
from follows from its number, so a stopped run goes on with what it would have seen.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import pretraining, spoken, words
from sbir_jax.data.toybox.scenes.render import FIRST
from sbir_jax.data.toybox.scenes.scene import MOST
from sbir_jax.data.toybox.scenes.spoken import Spoken
from tools.toybox_tokenizer import TOKENS

KEPT = "latents", "spoken", "things", "geometry", "categories", "subject"
# What words speak of, in the order of `Spoken`'s bits, as instances are numbered.
SHOWN = (*range(FIRST, FIRST + MOST), *words.BACKDROP.values())
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
    tokens: Int[np.ndarray, "2 n 77"]  # of the true captions and of the false ones
    spoken: Int[np.ndarray, "2 n 77"]  # of which things each token speaks, see `Spoken`
    things: Float[np.ndarray, "t k y x"]  # float16: of a place, the share of SHOWN[k]
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

    def batch(
        self, step: int, count: int, dropout: float, lies: float = 0.0
    ) -> dict[str, np.ndarray]:
        """What `count` pictures are and what is said of them.

        Args:
          dropout: the share whose caption is "dropped".
          lies: the share of the others whose caption is "false".
        """
        rng = np.random.default_rng((2, step))
        numbers = self.numbers(step)
        rows = []
        for number in rng.integers(numbers.start, numbers.stop, count):
            chunk = self.chunk(int(number))
            i = rng.integers(len(chunk.latents))
            subject = chunk.subject[i]
            dropped = rng.random() < dropout
            false = not dropped and rng.random() < lies
            rows.append(
                {
                    "latents": chunk.latents[i],
                    "tokens": chunk.tokens[int(false), i],
                    "spoken": chunk.spoken[int(false), i],
                    "dropped": dropped,
                    "false": false,
                    "things": chunk.things[subject],
                    "geometry": chunk.geometry[subject],
                    "categories": chunk.categories[subject],
                }
            )
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

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
            kept = {name: data[name] for name in KEPT}
            texts = data["captions"]
        tokens = [self.tokenize([str(text) for text in row]) for row in texts]
        return Chunk(tokens=np.stack(tokens), **kept)

    def _make(self, number: int) -> dict[str, np.ndarray]:
        scenes = number % SCENES_EVERY == SCENES_EVERY - 1
        drawn = (_scenes if scenes else _things)(number, self.size)
        told = drawn.true, drawn.false
        return {
            "latents": self.encode(drawn.images).astype(np.float16),
            "captions": np.array([[said.text for said in row] for row in told]),
            "spoken": np.stack([[by_token(said) for said in row] for row in told]),
            "things": drawn.things.astype(np.float16),
            "geometry": drawn.geometry.astype(np.float16),
            "categories": drawn.categories.astype(np.int8),
            "subject": drawn.subject,
        }


class _Drawn(NamedTuple):
    """What a chunk is made of; see `Chunk`."""

    images: UInt8[np.ndarray, "n h w 3"]
    true: list[Spoken]
    false: list[Spoken]
    things: Float[np.ndarray, "t k y x"]
    geometry: Float[np.ndarray, "t y x g"]
    categories: Int[np.ndarray, "t y x"]
    subject: Int[np.ndarray, " n"]


def _things(number: int, size: int) -> _Drawn:
    drawn = world.pretraining_chunk(0, number, size)
    count, shape = len(drawn.categories), drawn.geometry.shape[:3]
    names, places = np.arange(count), drawn.categories[:, None, None]
    texts = [*drawn.photo_captions, *drawn.sketch_captions]
    rng = np.random.default_rng((3, number))
    things = np.zeros((count, len(SHOWN), *shape[1:]))
    things[:, 0] = drawn.geometry[..., 0]
    return _Drawn(
        np.concatenate([drawn.photos, drawn.sketches]),
        [spoken.of_thing(text) for text in texts],
        [spoken.false_of_thing(text, rng, world.PRETRAINED) for text in texts],
        things,
        drawn.geometry,
        np.broadcast_to(places, shape),
        np.concatenate([names.repeat(world.LOOKS), names.repeat(world.HANDS)]),
    )


def _scenes(number: int, size: int) -> _Drawn:
    drawn = pretraining.pretraining_scenes(0, number, size)
    masks = drawn.instances[:, None] == np.array(SHOWN)[:, None, None]
    masks = masks.astype(np.float32)
    *more, h, w = masks.shape
    side = world.PLACE
    return _Drawn(
        np.concatenate([drawn.photos, drawn.sketches]),
        [*drawn.photo_captions, *drawn.sketch_captions],
        [*drawn.photo_false, *drawn.sketch_false],
        masks.reshape(*more, h // side, side, w // side, side).mean((-3, -1)),
        drawn.geometry,
        most_frequent(drawn.categories, world.PLACE),
        np.concatenate([drawn.photo_scene, drawn.sketch_scene]),
    )


def by_token(said: Spoken) -> Int[np.ndarray, " 77"]:
    """Bits of each token of a text: a start, one for each word, an end, and padding."""
    bits = np.zeros(TOKENS, np.uint8)
    bits[1 : 1 + len(said.things)] = said.things
    return bits


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

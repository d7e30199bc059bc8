"""A benchmark of plain sheets for the toy backbone: which letter is this grey?

The toy's text states are by letter, so each text has an image that it scores highest.
"""

import numpy as np

from sbir_jax.data.images import encode_png
from sbir_jax.data.matching import Item, MatchingData, MatchingSet

LETTERS = "abcdefgh"


def sheet(rng):
    """A noisy sheet of one colour, 16 px."""
    colour = rng.integers(40, 216, 3)
    noise = rng.integers(-30, 30, (16, 16, 3))
    return np.clip(colour + noise, 0, 255).astype(np.uint8)


def questions(name, count, seed):
    """Each image with a text of three letters, and two others of kinds of their own."""
    rng = np.random.default_rng(seed)
    images, items = [], []
    for i in range(count):
        images.append(encode_png(sheet(rng)))
        texts = ("".join(rng.choice(list(LETTERS), 3)) for _ in range(20))
        three = tuple(dict.fromkeys(texts))[:3]
        items.append(Item(str(i), (i,), three, ("one", "two")))
    return MatchingSet(name, "text", images, items, recall=(2,))


def load(count=24):
    """As a line of `data.matching.SETS`."""
    return MatchingData(questions("sheets/train", 16, 1), questions("sheets", count, 2))

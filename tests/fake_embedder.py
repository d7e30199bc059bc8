"""An embedder of a few lines, and a process that builds an index with it and can be
killed: `python fake_embedder.py PHOTOS INDEX`."""

import functools
import sys
import time

import numpy as np
from PIL import ImageColor

from sbir_jax.data import images as images_lib


class FakeEmbedder:
    """Colours of 2 x 2 cells, less their mean: unit vectors, near for like pictures."""

    fingerprint = "fa" * 32
    dim = 12
    size = 16
    batch_size = 4
    source = None

    def __init__(self, delay: float = 0.0):
        self.delay, self.calls = delay, []

    def embed_arrays(self, images, modality):
        self.calls.append(len(images))
        time.sleep(self.delay)
        cells = images.reshape(len(images), 2, 8, 2, 8, 3).mean((2, 4))
        flat = cells.reshape(len(images), self.dim) + 0.01 * np.arange(self.dim)
        return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float32)

    def start(self, images, modality):
        return functools.partial(self.embed_arrays, images, modality)

    def embed(self, images, modality, prepare=False):
        loaded = [images_lib.load(image, self.size, modality) for image in images]
        return self.embed_arrays(np.stack(loaded), modality)

    def embed_words(self, texts):
        """Sheets of the colour that is named."""
        self.calls.append(tuple(texts))
        colours = [ImageColor.getrgb(text) for text in texts]
        sheets = np.broadcast_to(
            np.array(colours)[:, None, None], (len(texts), 16, 16, 3)
        )
        return self.embed_arrays(images_lib.to_float(sheets.astype(np.uint8)), "photo")


if __name__ == "__main__":
    from sbir_jax.search import build, shards, update

    # Every write that there is, as often as possible.
    update.FLUSH_SECONDS = 0.0
    build.Head = functools.partial(shards.Head, shard_rows=8)
    print("ready", flush=True)
    build.build([sys.argv[1]], sys.argv[2], FakeEmbedder(0.01), progress=False)
    print("done", flush=True)

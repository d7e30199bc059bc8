"""What the hammer's cases share: an embedder without a network, and the counting."""

import collections
import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
from PIL import Image

from sbir_jax.data import images
from sbir_jax.search import shards
from sbir_jax.search.build import build

# Of the processor, and of the clock, which a busy machine lets run: that a case hangs.
SECONDS, PATIENCE = 20.0, 120.0
BYTES = 1_000_000_000
Counts = collections.Counter[str]


class ColourEmbedder:
    """Mean colours of a grid: unit vectors, without a network."""

    fingerprint, dim, size, batch_size, source = "ca" * 32, 12, 16, 4, None

    def start(self, pixels: np.ndarray, modality: str) -> Callable[[], np.ndarray]:
        cells = pixels.reshape(len(pixels), 2, 8, 2, 8, 3).mean((2, 4))
        flat = cells.reshape(len(pixels), self.dim) + 0.01 * np.arange(self.dim)
        time.sleep(0.005)  # so that a kill may come in between
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        return lambda: unit.astype(np.float32)

    def embed(self, sources, modality: str, *, prepare=False) -> np.ndarray:
        loaded = [images.load(source, self.size, modality) for source in sources]
        return self.start(np.stack(loaded), modality)()

    def embed_words(self, texts) -> np.ndarray:
        return np.full((len(texts), self.dim), self.dim**-0.5, np.float32)


class Watched:
    """Counts how cases end, and tells what is too slow, too large or a traceback."""

    def __init__(self, what: str):
        self.what, self.counts, self.broken = what, Counts(), []

    def run(self, name: str, case: Callable[[], object], line: str = "") -> None:
        """Runs a case. Args: line: what an error must name; the case's name if ""."""
        begin, worked = time.monotonic(), _processor_seconds()
        with _memory() as peak:
            try:
                case()
                ending = "fine"
            except (ValueError, OSError) as error:
                text = str(error)
                named = (line or name) in text and "\n" not in text
                ending = "refused" if named else "refused without its name"
            except Exception as error:
                ending = f"traceback: {type(error).__name__}"
        if _processor_seconds() - worked > SECONDS:
            ending = "too slow"
        elif time.monotonic() - begin > PATIENCE:
            ending = "hung"
        elif peak[0] > BYTES:
            ending = "too much memory"
        self.count(name, ending)

    def count(self, name: str, ending: str) -> None:
        self.counts[ending] += 1
        if ending not in ("fine", "refused"):
            self.broken.append(f"{self.what} {name}: {ending}")


def _processor_seconds() -> float:
    """Of this process and of those that it ran."""
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


@contextlib.contextmanager
def _memory() -> Iterator[list[int]]:
    process, done, most = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def paint(folder: pathlib.Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST)
        picture.save(folder / f"{i}.png")


def built(photos: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    build([photos], out, ColourEmbedder(), progress=False)
    return out


def contents(index: pathlib.Path) -> dict[str, tuple]:
    snapshot = shards.read(index)
    rows = snapshot.table.to_pylist()
    return {
        rows[i]["path"]: (rows[i]["hash"], snapshot.descriptor(i).tobytes())
        for i in np.flatnonzero(snapshot.alive)
    }

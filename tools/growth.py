"""How time and memory of extraction grow with the number of images.

python -m tools.growth --images 100,300,1000,3000,10000

Writes noise as PNG files, embeds 100 of them, then 300 and so on with one embedder, as
`sbir index` does it, each count into a new index. Prints seconds and the most memory
the process had since it began, and a straight line through both: what an image costs,
what it costs to begin, and the share of the variance that the line explains.
"""

import argparse
import pathlib
import resource
import tempfile
import time

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from sbir_jax.runtime import hardware
from sbir_jax.search.build import build
from sbir_jax.search.model import open_model


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope, value at 0 and R2 of the least squares line."""
    slope, start = np.polyfit(x, y, 1)
    spread = np.sum((y - np.mean(y)) ** 2)
    rest = np.sum((y - slope * x - start) ** 2)
    return float(slope), float(start), float(1 - rest / spread)


def write(folder: pathlib.Path, count: int, side: int) -> list[pathlib.Path]:
    """Images of noise: every one another content, or `build` would embed it once."""
    rng = np.random.default_rng(0)
    paths = []
    for i in tqdm(range(count), desc="write", unit="image"):
        path = folder / f"{i:06}.png"
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", default="100,300,1000,3000,10000")
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--batch-size", type=int, default=0, help="0: what fits")
    args = parser.parse_args()
    counts = [int(count) for count in args.images.split(",")]
    hardware.keep_programs()
    embedder = open_model(args.model, batch_size=args.batch_size)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        paths = write(folder, max(counts), embedder.size)
        build(paths[: embedder.batch_size], folder / "warm", embedder, progress=False)
        seconds, peaks = [], []
        print("images seconds images/s peak_MB", flush=True)
        for count in counts:
            begin = time.perf_counter()
            build(paths[:count], folder / f"index{count}", embedder)
            seconds.append(time.perf_counter() - begin)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            peaks.append(peak)
            rate = count / seconds[-1]
            print(f"{count} {seconds[-1]:.1f} {rate:.2f} {peak:.0f}", flush=True)
    x = np.array(counts, float)
    slope, start, fit = line(x, np.array(seconds))
    print(f"time: {1000 * slope:.2f} ms an image, {start:.2f} s to begin, R2 {fit:.5f}")
    slope, start, fit = line(x, np.array(peaks))
    print(f"memory: {1024 * slope:.2f} kB an image, {start:.0f} MB, R2 {fit:.5f}")


if __name__ == "__main__":
    main()

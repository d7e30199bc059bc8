"""Times of searching an index of random or photo-like descriptors, and recall.

python -m tools.bench_index --photos 1000,100000,1000000 --backends exact,faiss

Random: normal numbers, the hardest case for a graph, as nothing is near anything.
Alike: 250 groups with an own direction each and 64 directions of spread, as descriptors
of photos are; queries are drawn from the same groups, a little shifted.
"""

import argparse
import pathlib
import resource
import statistics
import tempfile
import time

import numpy as np

from sbir_jax.search import shard_writer, shards
from sbir_jax.search.index import Index

K, QUERIES = 20, 50


def descriptors(kind: str, n: int, dim: int, seed: tuple[int, int]) -> np.ndarray:
    """float32 [n, dim], unit length; seeds (0, ...) for the gallery."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        found = rng.standard_normal((n, dim), np.float32)
    else:
        fixed = np.random.default_rng(7)
        centres = fixed.standard_normal((250, dim), np.float32)
        spread = fixed.standard_normal((64, dim), np.float32) / 8
        shift = fixed.standard_normal(dim, np.float32) / 4 if seed[0] else np.float32(0)
        inner = rng.standard_normal((n, 64), np.float32)
        found = centres[rng.integers(250, size=n)] + inner @ spread + shift
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write(folder: pathlib.Path, kind: str, photos: int, dim: int) -> None:
    """An index whose photos do not exist."""
    head = shards.Head("0" * 64, dim, None)
    rows = head.shard_rows
    with shard_writer.Writer(folder, head) as writer:
        for start in range(0, photos, rows):
            part = descriptors(kind, min(rows, photos - start), dim, (0, start))
            for i, vector in enumerate(part, start=start):
                writer.append(f"/photos/{i}.jpg", f"{i:032x}", 1, 1, vector)


def measure(index: Index, queries: np.ndarray) -> tuple[np.ndarray, list[float], float]:
    """Rows found, seconds of each query alone, and seconds of all together."""
    index.search_descriptors(queries[:1], K)
    index.search_descriptors(queries, K)
    alone = []
    for query in queries:
        begin = time.perf_counter()
        index.search_descriptors(query[None], K)
        alone.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    _, rows = index.search_descriptors(queries, K)
    return rows, alone, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", default="1000,100000")
    parser.add_argument("--backends", default="exact")
    parser.add_argument("--kinds", default="random,alike")
    parser.add_argument("--dim", type=int, default=256)
    args = parser.parse_args()
    print("kind photos backend open_s p50_ms worst_ms all_50_s recall@20 peak_MB")
    for kind in args.kinds.split(","):
        for photos in map(int, args.photos.split(",")):
            with tempfile.TemporaryDirectory() as temporary:
                folder = pathlib.Path(temporary) / "index"
                write(folder, kind, photos, args.dim)
                queries = descriptors(kind, QUERIES, args.dim, (1, 0))
                right = None
                for backend in args.backends.split(","):
                    begin = time.perf_counter()
                    with Index.open(folder, backend=backend) as index:
                        opened = time.perf_counter() - begin
                        rows, alone, together = measure(index, queries)
                    right = rows if right is None else right
                    pairs = zip(rows.tolist(), right.tolist(), strict=True)
                    hits = [len(set(a) & set(b)) / len(b) for a, b in pairs]
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    print(
                        f"{kind} {photos} {backend} {opened:.2f} "
                        f"{1000 * statistics.median(alone):.2f} "
                        f"{1000 * max(alone):.2f} {together:.3f} "
                        f"{np.mean(hits):.3f} {peak:.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()

"""Seconds and peak memory of scoring a gallery, beside the bare matrix product.

    python -m tools.bench_scoring

The default is the largest protocol of the literature, QuickDraw's 30 unseen classes,
with random descriptors. The product is the least that any exact scoring must do, so
the ratio says what ranking and all metrics cost on top. Prints one JSON line.
"""

import argparse
import json
import os
import platform
import resource
import time

import numpy as np
from tqdm.auto import tqdm

from sbir_jax.tasks.retrieval import evaluation


def descriptors(rows: int, dim: int, seed: int) -> np.ndarray:
    """Random unit vectors, float16 as in a run's cache."""
    out = np.empty((rows, dim), np.float16)
    rng = np.random.default_rng(seed)
    for start in range(0, rows, 4096):
        part = rng.standard_normal((min(4096, rows - start), dim), np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        out[start : start + len(part)] = part
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=92_291)
    parser.add_argument("--gallery", type=int, default=54_151)
    parser.add_argument("--dim", type=int, default=2_560)
    parser.add_argument("--classes", type=int, default=30)
    args = parser.parse_args()
    labels = [
        np.arange(n, dtype=np.int32) % args.classes
        for n in (args.queries, args.gallery)
    ]
    protocol = protocols.Protocol(
        "category",
        np.arange(args.queries),
        np.arange(args.gallery),
        *labels,
        *labels,
        left_out=0,
        cutoffs=(100, 200),
    )
    score_rows = evaluation.similarity(
        descriptors(args.queries, args.dim, 0), descriptors(args.gallery, args.dim, 1)
    )
    begin = time.perf_counter()
    starts = range(0, args.queries, evaluation.CHUNK)
    for start in tqdm(starts, "product", unit="chunk"):
        score_rows(slice(start, min(start + evaluation.CHUNK, args.queries)))
    product = time.perf_counter() - begin
    begin = time.perf_counter()
    found, _ = evaluation.score(protocol, score_rows)
    scoring = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "queries": args.queries,
                "gallery": args.gallery,
                "dim": args.dim,
                "product_seconds": round(product, 1),
                "scoring_seconds": round(scoring, 1),
                "ratio": round(scoring / product, 3),
                "peak_gigabytes": round(
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2
                ),
                "mAP@all": round(found["mAP@all"], 5),
                "cores": os.cpu_count(),
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()

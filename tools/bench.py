"""Speed and memory beside PyTorch: extraction, prompt training, encoding, loading.

    python -m tools.bench --model sd15 --sizes 256 --batches 1,4 --copies 1
    python -m tools.bench --model sd21 --sizes 512 --dtype bfloat16 --batches 8  (a GPU)
    python -m tools.bench --quick                      (a tiny net, half a minute)

Each side is a process of its own, ours and PyTorch's (`--peer-python` names a Python
that has torch and diffusers), on the same random weights, images and noise; all cases
of a recipe go through the same two processes, so that weights are loaded once. Runs
alternate between a matrix product, ours and PyTorch's; a figure is the median over the
runs. A GPU does not tell our peak memory case by case: there it is that of the process
so far, so the smallest cases come first. Prints one JSON line a case, with the largest
difference between both sides' results, and a table at the end. `share` is the
operations that the result needs (see `bench_jax.operations`), over the seconds, over
the product's rate in the same run. Compiling is measured only where no compilation
cache (JAX_COMPILATION_CACHE_DIR) has the program already. Gallery scoring has a bench
of its own: `tools.bench_scoring`.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tools import bench_weights
from tools.bench_common import Case

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ("whole", "cut", "compiled")


class Side:
    """A process that answers `tools.bench_common.serve`'s requests."""

    def __init__(self, python: str, *module: str):
        # Two processes may share a GPU: neither takes memory that it does not use.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self._process = subprocess.Popen(
            [python, "-m", *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """RuntimeError with the other side's words where something fails there."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise RuntimeError(f"{do} ended the process; its words are above") from None
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self._process.communicate()


def measure(
    cases: Sequence[Case], folder: pathlib.Path, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """All figures of each case, of one recipe and one dtype."""
    sides = {"ours": Side(sys.executable, "tools.bench_jax")}
    if args.peer_python:
        sides["peer"] = Side(args.peer_python, "tools.bench_peer", args.peer)
    try:
        plain = dataclasses.asdict(cases[0])
        loaded = {
            name: side.ask("load", folder=str(folder), case=plain)
            for name, side in sides.items()
        }
        for case in cases:
            yield _measure(case, args, sides, loaded)
    finally:
        for side in sides.values():
            side.close()


def _measure(case, args, sides, loaded):
    plain = dataclasses.asdict(case)
    known = {
        name: loaded[name] | side.ask("prepare", case=plain)
        for name, side in sides.items()
    }
    runs = {name: [] for name in ("product", *sides)}
    for _ in range(args.runs):
        product = sides["ours"].ask("product", side=args.product, dtype=case.dtype)
        runs["product"].append(product)
        for name, side in sides.items():
            runs[name].append(side.ask("run"))

    def median(name, figure):
        return statistics.median(run[figure] for run in runs[name])

    ours, seconds = known["ours"], median("ours", "seconds")
    row = {
        "case": case.name,
        "model": args.model,
        "device": ours["device"],
        "runs": args.runs,
        "operations": ours["operations"],
        "images_per_second": case.images / seconds,
        "seconds": seconds,
        "cpu_seconds": median("ours", "cpu_seconds"),
        "load_seconds": ours["load_seconds"],
        "compile_seconds": max(0.0, ours["first_seconds"] - seconds),
        "peak_bytes": sides["ours"].ask("peak")["peak_bytes"],
        "product_rate": median("product", "seconds"),
    }
    # Run by run, since other work on the machine comes and goes.
    row["share"] = statistics.median(
        ours["operations"] / run["seconds"] / product["seconds"]
        for run, product in zip(runs["ours"], runs["product"], strict=True)
    )
    if "peer" in sides:
        peer = known["peer"]
        row |= {
            "peer": args.peer,
            "peer_seconds": median("peer", "seconds"),
            "peer_cpu_seconds": median("peer", "cpu_seconds"),
            "peer_load_seconds": peer["load_seconds"],
            "peer_compile_seconds": max(
                0.0, peer["first_seconds"] - median("peer", "seconds")
            ),
            "peer_peak_bytes": sides["peer"].ask("peak")["peak_bytes"],
        }
        for figure in ("seconds", "cpu_seconds"):
            row[f"speedup_{figure}"] = statistics.median(
                theirs[figure] / run[figure]
                for theirs, run in zip(runs["peer"], runs["ours"], strict=True)
            )
        row["memory_ratio"] = row["peak_bytes"] / row["peer_peak_bytes"]
        if case.kind != "train":  # Each side draws its own noise there.
            check = np.array(ours["check"]) - np.array(peer["check"])
            row["largest_difference"] = float(np.abs(check).max())
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = (
        "case | images/s | share of product | peak GB | load s | compile s "
        "| PyTorch images/s | speed-up | its peak GB | its compile s | memory ratio"
    )
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for row in rows:
        cells = [
            row["case"],
            f"{row['images_per_second']:.3g}",
            f"{row['share']:.0%}",
            f"{row['peak_bytes'] / 1e9:.2f}",
            f"{row['load_seconds']:.1f}",
            f"{row['compile_seconds']:.1f}",
        ]
        if "peer" in row:
            rate = row["images_per_second"] * row["seconds"] / row["peer_seconds"]
            cells += [
                f"{rate:.3g}",
                f"{row['speedup_seconds']:.2f}",
                f"{row['peer_peak_bytes'] / 1e9:.2f}",
                f"{row['peer_compile_seconds']:.1f}",
                f"{row['memory_ratio']:.2f}",
            ]
        else:
            cells += [""] * 5
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def cases(args: argparse.Namespace) -> list[list[Case]]:
    """Each once, those of one recipe together."""
    found: dict[str, Case] = {}
    for task, kind, size, batch, copies in itertools.product(
        args.tasks.split(","),
        args.kinds.split(","),
        args.sizes,
        args.batches,
        args.copies,
    ):
        # Training takes one copy, and encoding none.
        copies = copies if kind == "extract" else 1
        case = Case(kind, task, size, batch, copies, args.dtype)
        found.setdefault(case.name, case)
    grouped = itertools.groupby(found.values(), lambda case: case.task)
    return [list(alike) for _, alike in grouped]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=bench_weights.MODELS, default="sd15")
    parser.add_argument("--kinds", default="extract,train,encode")
    parser.add_argument("--tasks", default="category")
    parser.add_argument("--sizes", type=numbers, default=[256])
    parser.add_argument("--batches", type=numbers, default=[1, 4])
    parser.add_argument("--copies", type=numbers, default=[1])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--product", type=int, default=2048, help="side of the matrix")
    parser.add_argument("--peer", choices=PEERS, default="cut")
    parser.add_argument("--peer-python", default="", help="a Python that has torch")
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/bench")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.model, args.sizes, args.batches, args.runs = "tiny", [64], [2], 2
        args.product = 256
    args.workdir.mkdir(parents=True, exist_ok=True)
    folder = bench_weights.make(args.workdir, args.model)
    rows = []
    for alike in cases(args):
        for row in measure(alike, folder, args):
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()

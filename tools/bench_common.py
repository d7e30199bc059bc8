"""What the two sides of `tools.bench` share: cases, inputs, peak memory, the pipe.

A side is a process of its own, so that its peak memory is its own, and answers one
JSON line for each it gets. Nothing here imports JAX or PyTorch.
"""

import ctypes
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

TOKENS, TIMESTEP = 77, 273


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
      kind: "extract" (images to descriptors), "encode" (images to latents) or "train"
        (one update of the prompts; `batch` counts triplets).
      task: which recipe's layers, "category" or "fine_grained".
      size: side of the images in pixels.
      copies: noised copies of each latent.
    """

    kind: str
    task: str
    size: int
    batch: int
    copies: int
    dtype: str

    @property
    def images(self) -> int:
        return 3 * self.batch if self.kind == "train" else self.batch

    @property
    def name(self) -> str:
        parts = [self.kind, f"{self.size} px", f"batch {self.batch}"]
        if self.kind != "encode":
            parts.insert(1, self.task)
        if self.kind == "extract":
            parts.append(f"K = {self.copies}")
        return ", ".join([*parts, self.dtype])


def inputs(case: Case, channels: int, factor: int, width: int) -> dict[str, np.ndarray]:
    """Images in [-1, 1], text states and noise, the same on both sides; NHWC."""
    rng = np.random.default_rng(0)
    side = case.size // factor
    shape = (case.images, case.size, case.size, 3)
    return {
        "images": rng.uniform(-1, 1, shape).astype(np.float32),
        "context": rng.standard_normal((TOKENS, width), np.float32),
        "noise": rng.standard_normal((case.copies, side, side, channels), np.float32),
    }


def reset_peak() -> None:
    """Gives freed memory back, and starts the peak of this process anew (Linux)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # Elsewhere the peak covers loading and compiling, too.


def peak_bytes() -> int:
    """Most memory that this process held since `reset_peak`."""
    try:
        with open("/proc/self/status") as file:
            (line,) = (line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(run: Callable[[], Any]) -> dict[str, float]:
    """Wall and processor seconds of a call that waits for its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def serve(side: Any) -> None:
    """Answers `{"do": method, ...arguments}` line by line until the pipe is closed."""
    # Libraries print as they like; the answers go where only they go.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            request["case"] = Case(**request["case"])
        try:
            answer = getattr(side, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)

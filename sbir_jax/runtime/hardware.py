"""What suits this machine: the compute type, images at a time, the compiler."""

import ctypes
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import psutil

DTYPES = ("float32", "bfloat16")
# Images at a time, for each device: from here on the rate does not grow.
MOST = 32
# On CPU it even falls, when what is computed leaves the cache: 8 images at most, and 2
# of 256 px (measured, docs/performance.md).
MOST_ON_CPU, PIXELS_ON_CPU = 8, 2 * 256**2
# Of the free memory; the rest is for what the compiler does not count.
SHARE = 0.8


def keep_programs() -> None:
    """Compiled programs outlive the process, so that a second run starts at once.

    Where JAX was told of a folder for them, that one stays.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        cache = pathlib.Path.home() / ".cache" / "sbir_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def keep_memory() -> None:
    """Freed memory stays with this process; call it before JAX runs anything.

    glibc gives large arrays back to the system, and every step would take its pages
    again, which costs up to half of an element-wise layer's time (measured). Other
    allocators are left as they are.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return
    # Numbers of malloc.h: nothing outside the heap, never trimmed, and one heap.
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):
        libc.mallopt(option, value)


@functools.cache
def compiler_options(gradient: bool = False) -> dict[str, str]:
    """What XLA is told for the frozen networks; nothing but on CPU.

    Its YNN kernels leave one of two cores idle through most convolutions; without them
    the autoencoder's encoder takes two thirds of the time. It forgets barriers before
    it fuses, and then computes again what a barrier says to write down: kept, they save
    a tenth of the time, and of a gradient's memory a third. It also runs early whatever
    it can; for a gradient that would undo rematerialisation, which puts work off until
    memory is free again, and its other scheduler keeps half as much (all measured).
    """
    if jax.default_backend() != "cpu":
        return {}
    wanted = {
        "xla_cpu_experimental_ynn_fusion_type": "",
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
    if gradient:
        wanted["xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    return {name: wanted[name] for name in wanted if _known({name: wanted[name]})}


def jit(function: Callable, gradient: bool = False, **options: Any) -> Any:
    """`jax.jit` for the frozen networks, with `compiler_options`."""
    told = compiler_options(gradient)
    return jax.jit(function, compiler_options=told, **options)


def _known(option: dict[str, str]) -> bool:
    """Releases of XLA differ in their options."""
    try:
        jax.jit(lambda: 0, compiler_options=option).lower().compile()
    except RuntimeError:
        return False
    return True


def dtype_name(name: str = "") -> str:
    """What frozen networks compute in here: bfloat16, on CPU float32; or as named.

    Raises: ValueError for a type they are not made for.
    """
    if not name:
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; give {' or '.join(DTYPES)}, or nothing")
    return name


def free_bytes(devices: Sequence[Any]) -> int:
    """Memory that each of these devices has left."""
    found = [device.memory_stats() for device in devices]
    if all(found):
        return min(stats["bytes_limit"] - stats["bytes_in_use"] for stats in found)
    # Devices that do not say use the host's memory, and share it.
    return psutil.virtual_memory().available // len(found)


def largest_fitting(
    program: Callable[[int], jax.stages.Compiled],
    counts: Sequence[int],
    handed: Callable[[int], int],
    free: int,
) -> int:
    """How many things to compute together: as many as the memory holds.

    Args:
      program: compiled for so many on each device. It is asked for the largest number
        first, which mostly fits and is then what will run; else for what should fit.
      counts: to choose from, the largest first; the last one is not tried out.
      handed: bytes of a device's part of what is handed in for so many.
      free: bytes that each device has left.
    """
    while len(counts) > 1:
        count = counts[0]
        found = program(count).memory_analysis()
        if found is None:
            break  # This device does not say.
        # Two batches are on the device, and one of them runs.
        moved = 2 * (handed(count) + found.output_size_in_bytes)
        needed = found.temp_size_in_bytes + moved
        if needed <= SHARE * free:
            break
        fits = count * SHARE * free / needed
        counts = [n for n in counts[1:] if n <= fits] or counts[-1:]
    return counts[0]


def image_counts(size: int, platform: str) -> list[int]:
    """Images of `size` px that are worth while at a time: powers of two, the largest
    first."""
    most = MOST
    if platform == "cpu":
        most = max(1, min(MOST_ON_CPU, PIXELS_ON_CPU // size**2))
    return [2**i for i in reversed(range(most.bit_length()))]

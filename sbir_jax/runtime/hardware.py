"""What suits the devices that run: compute type, images at a time, the compiler.

Networks choose their kernels while they are traced, by `device()`: the device that the
program is compiled for, which need not be JAX's default one.
"""

import ctypes
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import psutil
from jax.sharding import Mesh

DTYPES = ("float32", "bfloat16")
# From here on NVIDIA's GPUs compute in bfloat16, and cuDNN has flash attention on them.
BFLOAT16_CAPABILITY = 8.0
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


def device() -> Any:
    """The device that what is traced now will run on: as `jit` says, else JAX's default
    one. Of several devices it is one; they are alike."""
    chosen: Any = jax.config.values["jax_default_device"]
    if isinstance(chosen, str):
        return jax.devices(chosen)[0]
    return chosen or jax.devices()[0]


def platform() -> str:
    """Of `device()`: "cpu", "gpu" or "tpu"."""
    return device().platform


def device_of(tree: Any) -> Any:
    """One of this process's devices that hold a tree's arrays; None for an empty tree.

    Arrays of numpy are on JAX's default device as soon as they are used.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves or not isinstance(leaves[0], jax.Array):
        return None
    return min(leaves[0].sharding.addressable_devices, key=lambda device: device.id)


def compute_capability(of: Any) -> float:
    """Of an NVIDIA GPU, such as 7.5 for a T4; infinity where a device has none."""
    try:
        return float(getattr(of, "compute_capability", None) or "inf")
    except ValueError:  # AMD's have names
        return float("inf")


def jit(
    function: Callable,
    on: Any = None,
    gradient: bool = False,
    tuned: bool = True,
    **options,
) -> Any:
    """`jax.jit` for the frozen networks: kernels and `compiler_options` by the device.

    Args:
      on: a device that will run it, or a mesh of them; JAX's default one without it.
      gradient: whether the function computes one.
      tuned: whether `compiler_options` are used.
      options: as of `jax.jit`.
    """
    if isinstance(on, Mesh):
        on = on.local_devices[0]
    where = on or device()

    @functools.wraps(function)
    def traced(*args, **kwargs):
        # A part of the key of every cache of JAX's tracing, unlike a variable of ours.
        with jax.default_device(where):
            return function(*args, **kwargs)

    told = compiler_options(where.platform, gradient) if tuned else {}
    return jax.jit(traced, compiler_options=told, **options)


@functools.cache
def compiler_options(platform: str, gradient: bool = False) -> dict[str, str]:
    """What XLA is told for the frozen networks; nothing but on CPU.

    Its YNN kernels leave one of two cores idle through most convolutions; without them
    the autoencoder's encoder takes two thirds of the time. It forgets barriers before
    it fuses, and then computes again what a barrier says to write down: kept, they save
    a tenth of the time, and of a gradient's memory a third. It also runs early whatever
    it can; for a gradient that would undo rematerialisation, which puts work off until
    memory is free again, and its other scheduler keeps half as much (all measured).
    """
    if platform != "cpu":
        return {}
    wanted = {
        "xla_cpu_experimental_ynn_fusion_type": "",
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
    if gradient:
        wanted["xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    return {name: wanted[name] for name in wanted if _known({name: wanted[name]})}


def _known(option: dict[str, str]) -> bool:
    """Whether this release of XLA's compiler for CPUs has an option."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        try:
            jax.jit(lambda: 0, compiler_options=option).lower().compile()
        except RuntimeError:
            return False
    return True


def dtype_name(name: str = "", on: Any = None) -> str:
    """What frozen networks compute in on a device: as named, or what suits it.

    That is float32 on a CPU, and bfloat16 on a TPU and on NVIDIA GPUs since compute
    capability 8.0 (Ampere). Older ones, such as a T4 (7.5), have no bfloat16 units and
    would emulate it; they get float32. They are fast in float16, but activations of
    published autoencoders exceed its largest number, 65504.

    Args:
      on: the device; `device()` without it.
    Raises: ValueError for a type they are not made for.
    """
    on = on or device()
    if not name:
        slow = on.platform == "cpu" or compute_capability(on) < BFLOAT16_CAPABILITY
        return "float32" if slow else "bfloat16"
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

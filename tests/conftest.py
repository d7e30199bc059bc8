"""Eight fake CPU devices, strict shapes, and a compile cache for every test."""

import os
import pathlib

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get(
        "JAX_COMPILATION_CACHE_DIR",
        str(pathlib.Path(__file__).resolve().parent.parent / ".jax_cache"),
    ),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture
def getkey():
    """A function that returns a fresh key at every call, the same sequence each run."""
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    return lambda: next(keys)


@pytest.fixture
def sbir_data():
    """The folder of real sketches and photos, or a skip where there is none."""
    root = os.environ.get("SBIR_DATA")
    if not root or not pathlib.Path(root).is_dir():
        pytest.skip("set SBIR_DATA to a folder with sketchy125/ to run on real images")
    return pathlib.Path(root)

import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.models.kernels import attention
from sbir_jax.runtime import hardware
from sbir_jax.runtime.sharding import make_mesh


def device(free, platform="gpu"):
    stats = {"bytes_limit": free + 7, "bytes_in_use": 7}
    return types.SimpleNamespace(platform=platform, memory_stats=lambda: stats)


def fitting(free, fixed, each, counts=(32, 16, 8, 4, 2, 1)):
    """The number found, and those compiled, where a batch takes `fixed + n * each`."""
    asked = []

    def program(count):
        asked.append(count)
        found = types.SimpleNamespace(
            temp_size_in_bytes=fixed + count * (each - 6), output_size_in_bytes=count
        )
        return types.SimpleNamespace(memory_analysis=lambda: found)

    found = hardware.largest_fitting(program, counts, lambda count: 2 * count, free)
    return found, asked


def test_what_fits_is_compiled_once():
    assert fitting(10**9, 0, 100) == (32, [32])
    assert fitting(10, 0, 100, [1]) == (1, [])


def test_what_does_not_fit_is_estimated_and_checked():
    # 80 % of 1,000 bytes hold eight things of 100.
    assert fitting(1000, 0, 100) == (8, [32, 8])
    assert fitting(999, 0, 100) == (4, [32, 4])
    assert fitting(1000, 0, 100, [15, 5, 3, 1]) == (5, [15, 5])
    # A large share that does not shrink makes the first estimate too good.
    assert fitting(1000, 500, 50) == (4, [32, 8, 4])
    assert fitting(10, 0, 100) == (1, [32])


def test_images_that_are_worth_while():
    assert hardware.image_counts(10**4, "gpu") == [32, 16, 8, 4, 2, 1]

    def on_cpu(side):
        return hardware.image_counts(side, "cpu")

    assert on_cpu(64) == [8, 4, 2, 1]
    assert on_cpu(256) == [2, 1]
    assert on_cpu(512) == [1]


def test_devices_without_memory_of_their_own_share_the_hosts(monkeypatch):
    memory = types.SimpleNamespace(available=8000)
    monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda: memory)
    assert hardware.free_bytes(jax.local_devices()) == 1000  # eight fake ones
    assert hardware.free_bytes([device(50), device(30)]) == 30


@pytest.mark.parametrize(
    ("kind", "capability", "expected"),
    [
        ("cpu", None, "float32"),
        ("tpu", None, "bfloat16"),
        ("gpu", "9.0", "bfloat16"),
        ("gpu", "10.0", "bfloat16"),
        ("gpu", "8.0", "bfloat16"),
        ("gpu", "7.5", "float32"),  # a T4
        ("gpu", "gfx942", "bfloat16"),  # AMD's
    ],
)
def test_the_type_is_that_of_the_device_or_as_named(kind, capability, expected):
    on = types.SimpleNamespace(platform=kind, compute_capability=capability)
    assert hardware.dtype_name(on=on) == expected
    assert hardware.dtype_name("float32", on) == "float32"
    assert hardware.dtype_name("bfloat16", on) == "bfloat16"
    assert hardware.dtype_name() == "float32"  # the tests run on CPU
    with pytest.raises(ValueError, match="dtype is 'half'; give float32 or bfloat16"):
        hardware.dtype_name("half")


def test_programs_are_kept_where_jax_was_told_or_at_home(tmp_path, monkeypatch):
    script = (
        "from sbir_jax.runtime import hardware; import jax; hardware.keep_programs();"
        "print(jax.config.values['jax_compilation_cache_dir'])"
    )

    def folder():
        done = subprocess.run([sys.executable, "-c", script], capture_output=True)
        return done.stdout.decode().strip()

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert folder() == "/elsewhere"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert folder() == str(tmp_path / ".cache" / "sbir_jax" / "xla")


@pytest.fixture
def fresh_options():
    hardware.compiler_options.cache_clear()
    yield
    hardware.compiler_options.cache_clear()


def test_what_the_compiler_is_told(fresh_options):
    plain = hardware.compiler_options("cpu")
    gradient = hardware.compiler_options("cpu", True)
    scheduler = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    assert gradient == plain | (scheduler if hardware._known(scheduler) else {})
    x = jnp.ones((512, 512))
    program = jax.jit(lambda x: x @ x, compiler_options=plain).lower(x).compile()
    assert "ynn" not in program.as_text()
    again = jax.jit(
        lambda x: jax.lax.optimization_barrier(x + 1) * 2, compiler_options=plain
    )
    assert "opt-barrier" in again.lower(x).compile().as_text()


def test_options_that_this_xla_does_not_know_are_left_out(fresh_options, monkeypatch):
    assert not hardware._known({"xla_cpu_no_such_option": "1"})
    monkeypatch.setattr(hardware, "_known", lambda option: False)
    assert hardware.compiler_options("cpu", True) == {}


def test_other_platforms_are_told_nothing(fresh_options):
    assert hardware.compiler_options("gpu", True) == {}


def test_programs_are_traced_for_the_devices_that_run_them(monkeypatch):
    """Also those whose parts JAX has traced before, for another device."""
    devices, seen = jax.devices(), []
    part = jax.jit(lambda x: seen.append(hardware.device()) or x)

    def run(on):
        return hardware.jit(lambda x: part(x) + 1, on=on)

    for on in (devices[3], make_mesh(devices=devices[5:]), devices[3]):
        assert run(on)(1) == 2
        jax.eval_shape(run(on), 1)
    run(None)(1)
    assert set(seen[:-1]) == {devices[3], devices[5]} and seen[-1] == devices[0]


def test_a_mesh_of_cpus_beside_a_gpu_gets_the_kernels_of_cpus(monkeypatch):
    cpus = jax.devices()
    gpu = types.SimpleNamespace(platform="gpu", client=cpus[0].client)
    monkeypatch.setattr(jax, "devices", lambda *_: [gpu])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(attention, "_cudnn_takes", lambda *_: True)
    x = jnp.ones((8, 4, 16), jnp.bfloat16)

    def program(on):
        run = hardware.jit(lambda x: attention.attend(x, x, x, 2), on=on)
        return run.trace(x).jaxpr

    assert "cudnn" not in str(program(make_mesh(devices=cpus)))
    assert hardware.platform() == "gpu"


def test_the_device_of_arrays():
    devices = jax.devices()
    placed = jax.device_put(jnp.ones(4), devices[2])
    assert hardware.device_of({"a": [placed, np.ones(3)]}) == devices[2]
    assert hardware.device_of({}) is hardware.device_of([np.ones(3)]) is None

import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from sbir_jax.runtime import hardware


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


def test_the_type_is_that_of_the_machine_or_as_named(monkeypatch):
    assert hardware.dtype_name() == "float32"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert hardware.dtype_name() == "bfloat16"
    assert hardware.dtype_name("float32") == "float32"
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
    plain, gradient = hardware.compiler_options(), hardware.compiler_options(True)
    assert plain.items() < gradient.items()
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
    assert hardware.compiler_options(True) == {}


def test_other_platforms_are_told_nothing(fresh_options, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert hardware.compiler_options(True) == {}

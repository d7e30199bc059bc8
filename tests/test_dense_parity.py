"""What dense heads are given, against what hooks read from PyTorch's layers."""

import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.dense.reading import Reading, read_levels

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
LIMIT = 1e-4
# Each program runs once: half the time altogether.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@functools.cache
def backbone(kind):
    return load_backbone(GOLDEN / kind)


@functools.cache
def recorded():
    with np.load(GOLDEN / "dense.npz") as found:
        return dict(found)


EVERY = itertools.product(("sd1", "sd2"), ("wide", "tall"), ("scaled", "published"))
QUICKLY = ("sd1", "tall", "published"), ("sd2", "wide", "scaled")


@pytest.mark.parametrize(
    ("kind", "shape", "how"),
    [
        pytest.param(*case, marks=() if case in QUICKLY else pytest.mark.slow)
        for case in EVERY
    ],
)
def test_levels_are_those_of_pytorchs_layers(kind, shape, how):
    """Features and maps joined, at t = 1 without noise, of pictures that are no square;
    latents as the backbone was trained with them, or as the published code has them."""
    loaded, golden = backbone(kind), recorded()
    reading = Reading(scaled=how == "scaled")
    run = functools.partial(read_levels, loaded.backbone, how=reading)
    levels = jax.jit(run, compiler_options=QUICK)(
        loaded.frozen,
        jnp.asarray(golden[f"{kind}/{shape}/latents"]),
        jnp.asarray(golden[f"{kind}/states"]),
    )
    assert len(levels) == 4
    for i, ours in enumerate(levels):
        theirs = golden[f"{kind}/{shape}/{how}/level{i}"]
        assert ours.shape == theirs.shape
        # Maps are a hundredth of what features are, so each counts by itself.
        cut = theirs.shape[-1] - (golden[f"{kind}/states"].shape[1] if 0 < i < 3 else 0)
        for part in (slice(cut), slice(cut, None)):
            if (known := theirs[..., part]).size:
                gap = np.abs(np.asarray(ours)[..., part] - known).max()
                assert gap <= LIMIT * np.abs(known).max(), f"level {i}: {gap:.2e}"

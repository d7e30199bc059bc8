"""What tests of diffusion transformers have in common."""

import jax
import numpy as np

LIMIT = 1e-4
# Compiled without optimisation: each program here runs once.
OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
# The config.json of the text encoder of PixArt and of Stable Diffusion 3.
T5_XXL = {
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "feed_forward_proj": "gated-gelu",
    "model_type": "t5",
    "num_heads": 64,
    "num_layers": 24,
    "vocab_size": 32128,
}


def assert_near(ours, theirs, limit=LIMIT):
    """Every array within `limit` of the largest value of the other side's."""
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        error = np.abs(np.asarray(ours[name]) - value).max() / np.abs(value).max()
        assert error <= limit, f"{name}: {error:.2e}"


def jitted(f, **options):
    return jax.jit(f, compiler_options=OPTIONS, **options)


def cross_names(backbone):
    return tuple(name for name in backbone.attention_names if name.endswith(".cross"))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))

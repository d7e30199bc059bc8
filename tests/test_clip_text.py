"""The text encoder: sizes of the real ones, causality, activations, configs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.stable_diffusion_files import init_params
from sbir_jax.models.clip_text import CLIPText
from sbir_jax.models.configs import CLIPTextConfig

# The config.json of Stable Diffusion 1.5's text encoder as published, and of 2.1's.
SD1 = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 49408,
}
SD2 = {
    **SD1,
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
}
SMALL = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 20,
    "max_position_embeddings": 9,
}


@pytest.fixture(scope="module")
def small():
    tower = CLIPText(CLIPTextConfig.from_json(SMALL))
    tokens = jnp.arange(14).reshape(2, 7)
    return tower, {"params": init_params(tower, jax.random.key(0))}, tokens


@pytest.mark.parametrize(
    ("config", "total"), [(SD1, 123_060_480), (SD2, 340_387_840)], ids=["1.5", "2.1"]
)
def test_full_size_parameters(config, total):
    tower = CLIPText(CLIPTextConfig.from_json(config))
    states, variables = jax.eval_shape(
        lambda: tower.init_with_output(jax.random.key(0), jnp.zeros((2, 77), int))
    )
    assert states.shape == (2, 77, config["hidden_size"])
    leaves = jax.tree.leaves(variables)
    assert sum(leaf.size for leaf in leaves) == total
    assert set(variables["params"]) == {"embeddings", "encoder", "final_layer_norm"}


def test_no_token_sees_a_later_one(small):
    tower, variables, tokens = small
    run = jax.jit(tower.apply)
    before, after = run(variables, tokens), run(variables, tokens.at[:, 4].set(19))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (jnp.abs(before[:, 4:] - after[:, 4:]).max((0, 2)) > 1e-5).all()


def test_the_same_token_differs_by_place(small):
    tower, variables, _ = small
    states = jax.jit(tower.apply)(variables, jnp.full((1, 3), 5))
    assert jnp.abs(states[0, 0] - states[0, 2]).max() > 1e-3


def test_the_activation_is_the_configs(small):
    tower, variables, tokens = small
    other = CLIPText(CLIPTextConfig.from_json({**SMALL, "hidden_act": "gelu"}))
    difference = jax.jit(tower.apply)(variables, tokens) - jax.jit(other.apply)(
        variables, tokens
    )
    assert 1e-4 < jnp.abs(difference).max() < 0.1


def test_half_precision(small):
    tower, variables, tokens = small
    half = jax.jit(CLIPText(tower.config, jnp.bfloat16).apply)(variables, tokens)
    assert half.dtype == jnp.bfloat16
    expected = jax.jit(tower.apply)(variables, tokens)
    assert jnp.abs(half.astype(jnp.float32) - expected).max() < 0.1


def test_a_text_too_long(small):
    tower, variables, _ = small
    with pytest.raises(ValueError, match=r"10 tokens were given.*at most 9"):
        jax.jit(tower.apply)(variables, jnp.zeros((1, 10), int))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act='relu' is not supported"),
        ({"model_type": "t5"}, "model_type='t5' is not supported"),
        ({"hiden_size": 8}, "unknown key 'hiden_size'"),
    ],
)
def test_configs_we_cannot_follow(change, message):
    with pytest.raises(ValueError, match=message):
        CLIPTextConfig.from_json({**SMALL, **change})

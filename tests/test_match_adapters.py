"""Prompts on keys and values, LoRA, and scores of a network of Stable Diffusion's kind.

One small network is compiled as far as its first layers: that is enough for all names.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.adapters import kv_prompts, lora
from sbir_jax.adapters.match_adapter import AdapterConfig
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.models.transformer import Attention
from sbir_jax.tasks.matching.matcher import Matcher, initial
from sbir_jax.tasks.matching.scores import MatchRecipe
from sbir_jax.types import TextStates

# Minutes of compiling: `make test-all` runs it.
pytestmark = pytest.mark.slow

RECIPE = MatchRecipe(timesteps=2, layers=("down.0",))
TEXTS = ["a red mug", "a blue hat"]


def test_a_shift_is_added_to_every_key_and_value():
    """As a bias of both projections would be."""
    rng = np.random.default_rng(0)
    x, context = (
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in ((4, 5, 8), (2, 3, 6))
    )
    layer, biased = Attention(2), Attention(2, qkv_bias=True)
    params = layer.init(jax.random.key(0), x, context)
    shift = jnp.asarray(rng.normal(size=(2, 2, 8)), jnp.float32)
    found, maps = layer.apply(params, x, context, ("maps",), None, tuple(shift))
    for text in range(2):
        inside = {
            **params["params"],
            "to_q": {**params["params"]["to_q"], "bias": jnp.zeros(8)},
            "to_k": {**params["params"]["to_k"], "bias": shift[0, text]},
            "to_v": {**params["params"]["to_v"], "bias": shift[1, text]},
        }
        rows = slice(2 * text, 2 * text + 2)
        both = biased.apply(
            {"params": inside}, x[rows], context[text : text + 1], ("maps",)
        )
        np.testing.assert_allclose(found[rows], both[0], atol=1e-5)
        np.testing.assert_allclose(maps["maps"][rows], both[1]["maps"], atol=1e-5)


def test_prompts_that_depend_on_the_text_see_its_words_alone():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2, 4, 6)).astype("f")
    mask = np.array([[0, 1, 1, 0], [0, 1, 0, 0]], bool)
    prompts = kv_prompts.init(jax.random.key(0), {"one": 8}, 6, rank=3)
    still = kv_prompts.shifts(prompts, TextStates(states, mask))["one"]
    assert all(not np.any(rows) for rows in still)
    up = {"one": rng.normal(size=(3, 2, 8)).astype("f")}
    prompts = dataclasses.replace(prompts, up=up)
    found = kv_prompts.shifts(prompts, TextStates(states, mask))["one"]
    narrow = np.tanh(states[0, 1:3].mean(0) @ np.asarray(prompts.down))
    np.testing.assert_allclose(found[0][0], narrow @ up["one"][:, 0], rtol=1e-4)
    np.testing.assert_allclose(found[1][0], narrow @ up["one"][:, 1], rtol=1e-4)
    states[:, [0, 3]] = 99
    again = kv_prompts.shifts(prompts, TextStates(states, mask))["one"]
    np.testing.assert_allclose(found[0], again[0], rtol=1e-5)
    constant = kv_prompts.init(jax.random.key(0), {"one": 8}, 6)
    assert constant.down is None and constant.bias["one"].shape == (2, 8)


def test_lora_changes_attention_alone_and_starts_at_nothing(tiny):
    network = tiny.frozen["unet"]
    added = lora.init(jax.random.key(0), network, 4)
    leaves = jax.tree.leaves(added)
    # Self- and cross-attention of 10 transformers, four projections, up and down.
    assert len(leaves) == 10 * 2 * 4 * 2
    same = lora.merged(network, added)
    jax.tree.map(np.testing.assert_array_equal, same, network)
    moved = jax.tree.map(lambda x: x + 1.0, added)
    changed = lora.merged(network, moved)
    path = ("down_blocks_0", "attentions_0", "transformer_blocks_0", "attn2", "to_k")
    own, other, change = network, changed, moved
    for name in path:
        own, other, change = own[name], other[name], change[name]
    wanted = own["kernel"] + change["down"] @ change["up"]
    np.testing.assert_allclose(other["kernel"], wanted, rtol=1e-5)
    np.testing.assert_array_equal(
        changed["conv_in"]["kernel"], network["conv_in"]["kernel"]
    )
    with pytest.raises(ValueError, match="no projections that LoRA knows"):
        lora.init(jax.random.key(0), {"conv_in": network["conv_in"]}, 4)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def plain(tiny, picture):
    return Matcher(tiny, RECIPE, 32).score([picture], TEXTS)


@pytest.mark.parametrize(
    "config", [AdapterConfig(prompts="text", rank=3), AdapterConfig(lora=2)]
)
def test_untrained_adapters_change_nothing_and_trained_ones_do(
    tiny, picture, plain, config
):
    adapter = initial(tiny, RECIPE, config, 32, jax.random.key(0))
    found = Matcher(tiny, RECIPE, 32, adapter)
    np.testing.assert_allclose(found.score([picture], TEXTS), plain, atol=1e-5)
    part = "prompts" if config.lora == 0 else "lora"
    moved = jax.tree.map(lambda x: x + 0.3, getattr(adapter, part))
    learned = dataclasses.replace(adapter, **{part: moved})
    assert (
        np.abs(found.with_adapter(learned).score([picture], TEXTS) - plain)
    ).max() > 1e-4


def test_early_exit_is_the_full_run(tiny):
    backbone, frozen = tiny.backbone, tiny.frozen
    layers = ("down.0.attn.0.cross", "mid.attn.0.cross")
    latents = jax.random.normal(jax.random.key(0), (2, *backbone.latent_shape(32)))
    text = encode_texts(tiny, TEXTS)

    def read(taps):
        # Compiled apart: together the compiler would run the first layers once.
        run = jax.jit(
            lambda frozen, latents, text: backbone.read(
                frozen, latents, 500, text, taps=taps, logits=layers
            )
        )
        return run(frozen, latents, text).logits

    early, whole = read(()), read(("out",))
    for name in layers:
        np.testing.assert_allclose(early[name], whole[name], atol=1e-5)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match=r"adapter.weights is 'most'; .*importance"):
        AdapterConfig(weights="most")
    with pytest.raises(ValueError, match="give 1 or more, and 0 or more"):
        AdapterConfig(lora=-1)
    assert AdapterConfig(weights="plain", prompts="text").parts == (
        "temperature",
        "scale",
        "prompts",
    )

"""Stable Diffusion XL: two text encoders, sizes, and an autoencoder in float32."""

import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.types import TextStates

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
EARLY = ("down.0.res.0",)


@pytest.fixture(scope="module")
def early():
    """The recorded checkpoint as far as its first layer, and inputs of two sizes."""
    loaded = load_backbone(GOLDEN / "xl", taps=EARLY, parts=("unet",))
    rng = np.random.default_rng(0)
    latents = jnp.asarray(rng.normal(size=(2, 8, 16, 4)), "f")
    return loaded, latents, jnp.asarray(rng.normal(size=(1, 7, 40)), "f")


@pytest.fixture
def folder(tmp_path):
    """A copy of that checkpoint, to be changed."""
    return pathlib.Path(shutil.copytree(GOLDEN / "xl", tmp_path / "model"))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_learned_states_are_read_with_no_words(early):
    loaded, latents, states = early
    backbone = loaded.backbone

    def read(latents, pooled):
        text = TextStates(states, None, pooled)
        found = backbone.read(loaded.frozen, latents, 261, text, taps=EARLY)
        return found.taps[EARLY[0]]

    learned = read(latents, None)
    np.testing.assert_allclose(read(latents, jnp.zeros((1, 12))), learned, atol=1e-6)
    assert jnp.abs(read(latents, jnp.ones((1, 12))) - learned).max() > 1e-3
    two = read(latents, jnp.stack([jnp.zeros(12), jnp.ones(12)])[:1])
    np.testing.assert_allclose(two, learned, atol=1e-6)


def test_sizes_are_those_of_the_image(early):
    loaded, latents, states = early
    added = loaded.backbone._added(latents, TextStates(states))
    np.testing.assert_array_equal(added["sizes"], [[64, 128, 0, 0, 64, 128]])
    assert loaded.backbone.context_dim == 40 and loaded.backbone.stride == 32
    unet, given = loaded.backbone.unet, ({"params": loaded.frozen["unet"]}, latents, 1)
    with pytest.raises(ValueError, match=r"None and \(1, 6\); give \[1, 12\] and \[1"):
        unet.apply(*given, states, EARLY, sizes=added["sizes"])
    with pytest.raises(ValueError, match=r"shapes \(3, 12\) and"):
        three = added | {"pooled": jnp.zeros((3, 12))}
        unet.apply(*given, states, EARLY, **three)


def test_the_autoencoder_is_computed_in_float32(folder):
    parts = ("vae_encoder", "text_encoder")

    def types():
        loaded = load_backbone(folder, dtype=jnp.bfloat16, parts=parts)
        assert loaded.backbone.dtype == jnp.bfloat16
        kernels = loaded.frozen["vae"]["quant_conv"]["kernel"]
        words = loaded.frozen["text_encoder_2"]["text_projection"]["kernel"]
        assert words.dtype == jnp.bfloat16
        return kernels.dtype, loaded.backbone.vae.dtype

    assert types() == (jnp.float32, jnp.float32)
    edit(folder / "vae" / "config.json", force_upcast=False)  # a repaired one
    assert types() == (jnp.bfloat16, jnp.bfloat16)


def test_tokens_for_both_encoders(folder, tiny_folder):
    for name, padding in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        shutil.copytree(tiny_folder / "tokenizer", folder / name)
        edit(folder / name / "tokenizer_config.json", pad_token=padding)
    backbone = load_backbone(folder, parts=()).backbone
    ((ours, theirs),) = backbone.tokenize(["a red mug"])
    end = int(ours.argmax())
    np.testing.assert_array_equal(ours[: end + 1], theirs[: end + 1])
    assert (ours[end:] == ours[end]).all() and theirs[-1] != theirs[end]


def test_keys_belong_to_the_layer_of_a_transformer():
    """With queries they give the logits, in the second of two layers, too."""
    names = ("down.2.attn.0.0.cross", "down.2.attn.0.1.cross")
    loaded = load_backbone(GOLDEN / "xl", taps=("down.2.out",), parts=("unet",))
    rng = np.random.default_rng(0)
    latents = jnp.asarray(rng.normal(size=(1, 4, 4, 4)), "f")
    text = TextStates(jnp.asarray(rng.normal(size=(1, 5, 40)), "f"))
    found = loaded.backbone.read(
        loaded.frozen, latents, 261, text, logits=names, queries=names
    )
    keys = loaded.backbone.keys(loaded.frozen, text, names)
    for name in names:
        query = found.queries[name]
        logits = jnp.einsum("bhyxd,bhnd->bhyxn", query, keys[name])
        logits = logits / jnp.sqrt(query.shape[-1])
        np.testing.assert_allclose(logits, found.logits[name], atol=1e-5)
    assert jnp.abs(found.logits[names[0]] - found.logits[names[1]]).max() > 1e-3


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "text_encoder_2/config.json",
            {"projection_dim": 16},
            r"pooled text of 12 channels.*projection_dim=16.*same checkpoint",
        ),
        (
            "unet/config.json",
            {"projection_class_embeddings_input_dim": 52},
            r"pooled text of 4 channels.*the refiner",
        ),
        (
            "unet/config.json",
            {"cross_attention_dim": 24},
            "text states have 40 channels, but the UNet takes 24",
        ),
        (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            "addition_embed_type='text_time'.*let model_index.json name that",
        ),
    ],
)
def test_configs_that_do_not_fit(folder, file, change, message):
    edit(folder / file, **change)
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(folder, parts=())
    assert str(folder) in str(error.value)

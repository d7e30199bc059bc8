"""What a backbone is, whatever its family; and what is refused as one."""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_backbone
from conftest import EARLY
from safetensors.numpy import load_file, save_file

from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones import loading, reading, sanity, stable_diffusion_files
from sbir_jax.backbones.frozen import (
    encode_texts,
    load_frozen,
    load_whole,
    text_states,
)
from sbir_jax.backbones.loading import load_backbone, random_backbone
from sbir_jax.backbones.sampling import generate
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import CLIPText
from sbir_jax.models.unet import UNet
from sbir_jax.runtime.sharding import make_mesh

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Where it is kept which backbones passed, empty."""
    folder = tmp_path / "checked"
    monkeypatch.setattr(sanity, "_cache", lambda: folder)
    return folder


def test_a_family_is_a_file_and_a_line_in_the_registry(tmp_path, monkeypatch, kept):
    monkeypatch.setitem(loading.FAMILIES, "ToyPipeline", toy_backbone.load)
    folder = toy_backbone.save(tmp_path / "toy")
    mesh = make_mesh()
    loaded = load_frozen(folder, ("mixed",), mesh, "")
    assert isinstance(loaded.backbone, toy_backbone.Toy)
    prompts = init_prompts(PromptConfig(border=1), 16, text_states(loaded, [""])[0])
    embedder = Embedder(loaded, prompts, Recipe(("mixed",), copies=2), 16, batch_size=8)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    found = embedder.embed(pixels, "photo")
    assert found.shape == (3, toy_backbone.WIDTH)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert np.abs(embedder.embed(pixels, "photo", text="a cup") - found).max() > 1e-3
    assert generate(loaded, ["a cup", "a mug"], steps=2).shape == (2, 16, 16, 3)
    words = embedder.embed_words(["a cup", "a hat"])
    assert np.abs(words[0] - words[1]).max() > 1e-3
    assert Embedder.from_pretrained(str(folder)).recipe.taps == ("out",)
    other = random_backbone(loaded, 1)
    assert other.backbone.fingerprint != loaded.backbone.fingerprint


def test_text_states_know_the_texts_own_tokens(tiny):
    found = encode_texts(tiny, ["", "a red mug", "a red mug " * 40])
    assert found.states.shape == (3, 77, 16) and found.mask.dtype == bool
    tokens = tiny.backbone.tokenize(["", "a red mug", "a red mug " * 40])
    words = [int(row.argmax()) - 1 for row in tokens]
    assert words[0] == 0 and words[2] == 75
    np.testing.assert_array_equal(found.mask.sum(1), words)
    assert not found.mask[:, 0].any() and found.mask[1, 1 : 1 + words[1]].all()
    for i, count in enumerate(words):
        np.testing.assert_array_equal(found.pooled[i], found.states[i, count + 1])


def test_read_hands_out_the_mask_of_the_text(tiny):
    text = encode_texts(tiny, ["a red mug"])
    latents = jnp.ones((2, 8, 8, 4))
    name = "down.0.attn.0.cross"
    run = jax.jit(functools.partial(tiny.backbone.read, maps=(name,), logits=(name,)))
    found = run(tiny.frozen, latents, 3, text)
    np.testing.assert_array_equal(found.mask, text.mask)
    assert found.maps[name].shape == (2, 2, 8, 8, 77)
    np.testing.assert_allclose(
        jax.nn.softmax(found.logits[name], -1), found.maps[name], atol=1e-6
    )


def test_weights_are_arguments_of_compiled_functions(tiny):
    """A description has no array but its schedule's, so none can be captured."""
    held = [
        leaf.shape
        for value in vars(tiny.backbone).values()
        for leaf in jax.tree.leaves(value)
        if isinstance(leaf, jax.Array)
    ]
    assert held == [(1000,)]
    again = dataclasses.replace(tiny.backbone)
    assert again == tiny.backbone and hash(again) == hash(tiny.backbone)


def test_random_weights_draw_no_pictures_of_words(tiny):
    """The folder they are named after has trained weights, which must not stand in."""
    drawn = random_backbone(tiny, 3)
    with pytest.raises(
        ValueError, match=r"seed 3.*random weights have learnt no words"
    ):
        load_whole(drawn.backbone, make_mesh())
    prompts = init_prompts(PromptConfig(), 32, text_states(drawn, [""])[0])
    embedder = Embedder(drawn, prompts, Recipe(EARLY, copies=1), 32, batch_size=8)
    with pytest.raises(ValueError, match="search with drawings or photos"):
        embedder.embed_words(["a red mug"])


def edited(folder, part, **values):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def zeroed(folder, part, name, value=0.0):
    path = folder / part / name
    tensors = {k: np.full_like(v, value) for k, v in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: zeroed(f, "vae", WEIGHTS), "an image's latent is the same for two"),
        (lambda f: zeroed(f, "unet", WEIGHTS), "attn.0 is the same for two inputs"),
        (lambda f: zeroed(f, "unet", WEIGHTS, np.nan), "attn.0 is not finite"),
        (
            lambda f: zeroed(f, "text_encoder", "model.safetensors"),
            "a text's states is the same for two",
        ),
        (lambda f: edited(f, "unet", norm_eps=float("inf")), "norm_eps is inf, but"),
        (lambda f: edited(f, "vae", scaling_factor=0), "scaling_factor is 0, but"),
    ],
)
def test_a_model_that_computes_nothing_is_refused(
    tiny_folder, tmp_path, kept, change, message
):
    folder = pathlib.Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    change(folder)
    with pytest.raises(ValueError, match=message):
        load_frozen(folder, EARLY, make_mesh(), "float32")
    assert not kept.exists()


def test_a_model_that_passed_is_not_asked_again(tiny_folder, kept, monkeypatch):
    load_frozen(tiny_folder, EARLY, make_mesh(), "float32")
    assert len(list(kept.iterdir())) == 1
    asked = []
    monkeypatch.setattr(sanity, "_pictures", asked.append)
    load_frozen(tiny_folder, EARLY, make_mesh(), "float32")
    assert not asked
    with pytest.raises(Exception):  # noqa: B017
        load_frozen(tiny_folder, ("down.0.res.0",), make_mesh(), "float32")
    assert len(asked) == 1  # other layers may still be broken


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"layers_per_block": 10**9}, "layers_per_block is 1000000000, but"),
        ("unet", {"layers_per_block": 16}, "1 tensors? named|tensors named .*conv1"),
        ("unet", {"block_out_channels": [8] * 400}, "at most 8 items"),
        ("unet", {"block_out_channels": [10**12] * 4}, "block_out_channels.0 is 1000"),
        ("unet", {"sample_size": "64"}, "sample_size is '64', but"),
        ("unet", {"norm_num_groups": 3}, "norm_num_groups=3 does not divide"),
        ("unet", {"attention_head_dim": [2, 2, "x", 2]}, "attention_head_dim"),
        ("vae", {"layers_per_block": -1}, "layers_per_block is -1, but"),
        ("vae", {"scaling_factor": None}, "scaling_factor is None, but"),
        ("text_encoder", {"num_hidden_layers": 10**9}, "num_hidden_layers is 10000"),
        ("text_encoder", {"num_hidden_layers": 60}, "layer_norm1.* 60"),
        ("text_encoder", {"max_position_embeddings": 10**9}, "max_position_embedd"),
        ("text_encoder", {"hidden_act": ["gelu"]}, "hidden_act is"),
    ],
)
def test_sizes_in_foreign_configs_are_bounded_before_anything_is_traced(
    tiny_folder, tmp_path, monkeypatch, part, values, message
):
    folder = pathlib.Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    edited(folder, part, **values)
    traced = []
    files = stable_diffusion_files
    monkeypatch.setattr(files, "shapes", lambda k, *_, **__: traced.append(k) or {})
    monkeypatch.setattr(reading, "check_tensors", lambda *_: None)
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(folder, parts=())
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    kinds = {"unet": UNet, "vae": Autoencoder, "text_encoder": CLIPText}
    assert kinds[part] not in traced


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight_map": {"a": "../../secret.safetensors"}}, "names '../../secret"),
        (
            {"weight_map": {"a": "/etc/passwd"}},
            "names '/etc/passwd'; only .safetensors",
        ),
        ({"weight_map": {"a": ["x.safetensors"]}}, "only .safetensors files beside it"),
        ({"weight_map": ["x"]}, r"weight_map is \['x'\]; it must say"),
        ({"metadata": {}}, "weight_map is None; it must say"),
    ],
)
def test_an_index_of_shards_does_not_lead_out_of_its_folder(
    tiny_folder, tmp_path, content, message
):
    folder = pathlib.Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / UNET).unlink()
    (folder / f"{UNET}.index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_backbone(folder, parts=())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 10**5 + "]" * 10**5, "nested too deep|not valid JSON"),
        ("", "not valid JSON"),
        (" " * (2**25 + 1), "33554433 bytes; such files have at most"),
    ],
)
def test_json_that_is_none(tiny_folder, tmp_path, content, message):
    folder = pathlib.Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / "vae/config.json").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(folder, parts=())
    assert "vae/config.json" in str(error.value)

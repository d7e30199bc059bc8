import json
import shutil

import jax
import numpy as np
import pytest
from conftest import EARLY
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sbir_jax.adapters import prompt_files
from sbir_jax.adapters.prompt_files import load_prompts, push, save_prompts
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import text_states
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.search.model import make_embedder, open_model

RECIPE = Recipe(EARLY, copies=2, pooling="mean")


def learned(tiny, config):
    """Prompts of random numbers, as if learned."""
    states = text_states(tiny, [""])[0]
    prompts = init_prompts(config, 32, states, tiny.backbone.latent_shape(32))
    leaves, tree = jax.tree.flatten(prompts)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    prompts = jax.tree.unflatten(tree, moved)
    return Embedder(tiny, prompts, RECIPE, 32, visual_scale=2.0, batch_size=8)


@pytest.fixture(scope="module")
def embedder(tiny):
    return learned(tiny, PromptConfig(border=3))


@pytest.fixture
def folder(embedder, tmp_path):
    save_prompts(embedder, tmp_path / "prompts")
    return tmp_path / "prompts"


def test_what_is_saved_is_loaded(embedder, folder):
    loaded = load_prompts(folder, batch_size=8)
    assert loaded.fingerprint == embedder.fingerprint
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    for modality in ("sketch", "photo"):
        np.testing.assert_array_equal(
            loaded.embed(pixels, modality), embedder.embed(pixels, modality)
        )


def test_one_small_file_that_says_what_it_is(embedder, folder):
    assert {p.name for p in folder.iterdir()} == {"prompts.safetensors", "README.md"}
    with safe_open(folder / "prompts.safetensors", framework="numpy") as file:
        head = json.loads(file.metadata()["sbir_jax"])
        assert file.get_tensor("text").dtype == np.float32
        assert file.get_tensor("visual.sketch.top").shape == (3, 32, 3)
    assert head["recipe"]["pooling"] == "mean" and head["visual_scale"] == 2.0
    assert head["backbone_fingerprint"] == embedder.backbone.fingerprint
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and "library_name: sbir_jax" in card
    assert head["fingerprint"][:12] in card and "load_prompts" in card
    assert "| frames | in pixels |" in card


def test_frames_in_latent_space_are_saved_as_such(tiny, embedder, tmp_path):
    latent = learned(tiny, PromptConfig(space="latent"))
    save_prompts(latent, tmp_path)
    loaded = load_prompts(tmp_path, batch_size=8)
    assert loaded.fingerprint == latent.fingerprint != embedder.fingerprint
    pixels = np.full((1, 32, 32, 3), 90, np.uint8)
    found = loaded.embed(pixels, "sketch")
    np.testing.assert_array_equal(found, latent.embed(pixels, "sketch"))
    with safe_open(tmp_path / "prompts.safetensors", framework="numpy") as file:
        assert file.get_tensor("latent.sketch.top").shape == (1, 8, 4)
    assert "| frames | in latent space |" in (tmp_path / "README.md").read_text()


def test_a_card_that_was_written_stays(embedder, folder):
    (folder / "README.md").write_text("mine")
    save_prompts(embedder, folder)
    assert (folder / "README.md").read_text() == "mine"


def test_an_index_can_be_made_with_them(embedder, folder, tiny_folder, tmp_path):
    opened = open_model(str(folder), batch_size=8)
    assert opened.fingerprint == embedder.fingerprint
    again = make_embedder(opened.source, "INDEX", batch_size=8)
    assert again.fingerprint == embedder.fingerprint
    # The backbone may lie elsewhere.
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    loaded = load_prompts(folder, moved, 8)
    assert loaded.fingerprint == embedder.fingerprint
    assert loaded.source is not None and loaded.source["backbone"] == str(moved)


def test_other_backbones_are_refused_with_both_fingerprints(
    embedder, folder, tiny_folder, tmp_path
):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 1}, weights)
    mine = embedder.backbone.fingerprint[:12]
    with pytest.raises(ValueError, match=rf"{mine}.* has [0-9a-f]{{12}}: prompts fit"):
        load_prompts(folder, other)
    with pytest.raises(FileNotFoundError, match=r"say where it is: .*backbone="):
        load_prompts(folder, tmp_path / "nowhere")


def test_files_that_are_no_prompts(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no prompts\.safetensors in"):
        load_prompts(tmp_path)
    path = folder / "prompts.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(ValueError, match="is damaged"):
        load_prompts(folder)
    save_file({"text": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(ValueError, match="no prompts that this version"):
        load_prompts(folder)
    with pytest.raises(ValueError, match="no prompts that this version"):
        push(folder, "me/prompts")
    with pytest.raises(FileNotFoundError, match="write it with save_prompts"):
        push(tmp_path, "me/prompts")


def test_what_is_here_needs_no_hub(folder, tiny_folder):
    assert prompt_files.find_prompts(folder) == folder / "prompts.safetensors"
    assert prompt_files.find_prompts(tiny_folder) is None
    assert prompt_files.find_prompts("toybox") is None


def test_a_relative_backbone_is_kept_as_an_absolute_path(
    embedder, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tiny_folder.parent)
    source = embedder.backbone.source
    object.__setattr__(embedder.backbone, "source", tiny_folder.name)
    try:
        save_prompts(embedder, tmp_path)
    finally:
        object.__setattr__(embedder.backbone, "source", source)
    monkeypatch.chdir(tmp_path)
    assert load_prompts(tmp_path, batch_size=8).fingerprint == embedder.fingerprint


def _change(**values):
    """A file whose header says something else."""

    def change(path):
        with safe_open(path, framework="numpy") as file:
            head = json.loads(file.metadata()["sbir_jax"])
        for key, value in values.items():
            place = head["recipe"] if key in head["recipe"] else head
            place[key] = value
        save_file(load_file(path), path, {"sbir_jax": json.dumps(head)})

    return change


def _tensor(name, make):
    """A file with another tensor."""

    def change(path):
        with safe_open(path, framework="numpy") as file:
            head = file.metadata()
        tensors = load_file(path)
        save_file({**tensors, name: make(tensors[name])}, path, head)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_change(recipe=[]), "recipe"),
        (_change(recipe={}), "recipe.taps"),
        (_change(copies=10**9), "recipe.copies is 1000000000; give 1 to 1000"),
        (_change(grid="2"), "recipe.grid is '2', but input should be a valid integer"),
        (_change(taps=["up.9.out"]), r"up\.9\.out"),
        (_change(taps=list(EARLY) * 999), "names a layer twice"),
        (_change(size=33), "image_size is 33; give a multiple of"),
        (_change(size=10**9), "size is 1000000000"),
        (_change(size=64), "has shape .* images of 64 px"),
        (_change(visual_scale=None), "visual_scale is None"),
        (_change(visual_scale=3.0), r"its prompts have the fingerprint"),
        (_change(format=2), "made by a newer version: update"),
        (_change(format=[[]]), "no prompts that this version"),
        (_change(backbone=7), "backbone is 7"),
        (_change(dtype="float8"), "dtype is 'float8'"),
        (_change(unheard_of=1), ""),
        (_tensor("text", lambda x: x[:, :5].copy()), "text has shape"),
        (_tensor("text", lambda x: x * np.nan), "text is not finite float32"),
        (_tensor("text", lambda x: x.astype(np.int8)), "text is not finite float32"),
        (_tensor("text", lambda x: x[::-1].copy()), "its prompts have the fingerprint"),
        (_tensor("visual.photo.left", lambda x: x[:1].copy()), "photo.left has shape"),
    ],
)
def test_hostile_files_are_refused_in_one_line(folder, change, words):
    path = folder / "prompts.safetensors"
    change(path)
    if not words:  # what is beside it does no harm
        load_prompts(folder, batch_size=8)
        return
    with pytest.raises(ValueError, match=words) as error:
        load_prompts(folder, batch_size=8)
    assert "\n" not in str(error.value)

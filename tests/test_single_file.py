"""Whole models in one file, and CleanDIFT's UNet alone: what is read and refused."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_hub import serving
from safetensors.numpy import load_file, save_file
from test_weights import assert_same, configs_of

from sbir_jax.backbones import hub, ldm_names, published_configs, single_file
from sbir_jax.backbones.frozen import load_whole
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.features import Recipe, decoder_taps
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.unet_config import UNetConfig
from sbir_jax.runtime.sharding import make_mesh
from tools.first_names import write_first

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
UNET = "unet/diffusion_pytorch_model.safetensors"
KINDS = {"sd1": "SD1", "sd2": "SD2", "xl": "XL"}


def numbered(rows):
    """Tensors of a file that take no memory, each holding the number of its name."""
    shapes = {name: tuple(map(int, shape.split(","))) for name, _, shape in rows}
    return {
        name: np.broadcast_to(np.float32(i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("kind", KINDS.values())
def test_names_of_full_size_are_those_that_diffusers_gives(kind):
    configs = getattr(published_configs, kind)
    reading = {
        "unet": lambda f: ldm_names.unet(f, UNetConfig.from_json(configs["unet"])),
        "vae": lambda f: ldm_names.vae(f, AutoencoderConfig.from_json(configs["vae"])),
        "text_encoder_2": lambda f: ldm_names.open_clip(
            f, single_file.XL_TEXT, 32, True
        ),
    }
    with np.load(GOLDEN / "ldm_names.npz") as recorded:
        for part, read in reading.items():
            if f"{kind}/{part}" not in recorded:
                continue
            rows = recorded[f"{kind}/{part}"]
            file = numbered(rows)
            found = {name: value.flat[0] for name, value in read(file).items()}
            wanted = {
                theirs.removeprefix("text_model."): file[name].flat[0]
                for name, theirs, _ in rows
            }
            assert found == wanted


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function that writes the recorded checkpoint of a kind as one file, whose
    configs are then those that are known of such files."""

    def make(kind, metadata=None):
        configs = configs_of(GOLDEN / kind)
        if kind == "xl":
            path = GOLDEN / kind / "text_encoder_2" / "config.json"
            configs["text_encoder_2"] = json.loads(path.read_text())
        monkeypatch.setattr(published_configs, KINDS[kind], configs)
        path = tmp_path / f"{kind}.safetensors"
        write_first(GOLDEN / kind, configs, path, metadata)
        return path

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_folder_it_was_made_of(file, kind):
    path = file(kind)
    ours, folder = load_backbone(path), load_backbone(GOLDEN / kind)
    assert type(ours.backbone) is type(folder.backbone)
    assert_same(ours.frozen, folder.frozen)
    assert ours.backbone.fingerprint == folder.backbone.fingerprint
    assert ours.backbone.folder == path


@pytest.mark.parametrize(
    ("said", "size", "prediction"),
    [
        ({}, 768, "v_prediction"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, 768, "v_prediction"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, 512, "epsilon"),
        ({"modelspec.prediction_type": "epsilon"}, 512, "epsilon"),
    ],
)
def test_which_second_one_it_is_the_header_may_say(tmp_path, said, size, prediction):
    path = tmp_path / "a.safetensors"
    save_file({"a": np.zeros(1, np.float16)}, path, said)
    configs = single_file._second(path)
    assert configs["unet"]["sample_size"] * 8 == size
    assert configs["scheduler"]["prediction_type"] == prediction


def test_a_layer_that_is_not_run_is_left_out(file):
    path = file("sd2")
    tensors = load_file(path)
    start = "cond_stage_model.model.transformer.resblocks"
    more = {n.replace(f"{start}.1.", f"{start}.2."): v for n, v in tensors.items()}
    save_file(more | tensors, path)
    ours = load_backbone(path, parts=()).backbone
    assert (
        ours.fingerprint == load_backbone(GOLDEN / "sd2", parts=()).backbone.fingerprint
    )


def test_tokens_of_a_file_without_a_tokenizer(file, tiny_folder, monkeypatch):
    backbone = load_backbone(file("sd2"), parts=()).backbone
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(FileNotFoundError, match=r"Put the files of a CLIP token.*"):
            backbone.tokenize(["a cup"])
    shutil.copytree(tiny_folder / "tokenizer", backbone.folder.parent / "tokenizer")
    ids = backbone.tokenize(["a cup"])[0]
    assert ids[-1] == backbone.tokenizer.convert_tokens_to_ids("!")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_unet_down.weight"], "no whole Stable Diffusion.*but lora_unet_down"),
        (["model.diffusion_model.out.0.weight"], "no text encoder that is known"),
        (["conditioner.embedders.0.model.ln_final.weight"], "holds XL's refiner"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a UNet alone, which only CleanD"),
    ],
)
def test_files_of_another_kind(tmp_path, names, message):
    path = tmp_path / "a.safetensors"
    save_file(dict.fromkeys(names, np.zeros(1, np.float16)), path)
    with pytest.raises(ValueError, match=rf"a\.safetensors.*{message}.*diffusers layo"):
        load_backbone(path)


def test_a_file_that_lacks_something(file):
    path = file("sd1")
    tensors = load_file(path)
    tensors.pop("first_stage_model.decoder.up.3.upsample.conv.bias")
    save_file(tensors, path)
    message = (
        r"hold the vae that the published config.*decoder\.up_blocks\.0\.upsamplers"
    )
    with pytest.raises(ValueError, match=message):
        load_backbone(path, parts=())


def test_files_that_are_not_there_and_pickles(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*owner/name/file\.safeten"):
        load_backbone(tmp_path / "a" / "b" / "none.safetensors")
    with pytest.raises(ValueError, match=r"v1\.ckpt is a pickle.*from_single_file"):
        load_backbone(tmp_path / "v1.ckpt")


@pytest.fixture
def clean(tmp_path):
    """CleanDIFT's file in the folder of the model that it was distilled from."""
    folder = pathlib.Path(shutil.copytree(GOLDEN / "sd1", tmp_path / "model"))
    tensors = load_file(folder / UNET)
    save_file(
        {name: value * np.float16(2) for name, value in tensors.items()},
        folder / "cleandift_sd15_unet.safetensors",
    )
    return folder / "cleandift_sd15_unet.safetensors"


def test_cleandift_reads_images_as_they_are(clean):
    base = load_backbone(clean.parent)
    loaded = load_backbone(clean)
    backbone = loaded.backbone
    assert backbone.reads_clean and not base.backbone.reads_clean
    assert backbone.fingerprint != base.backbone.fingerprint
    assert_same(loaded.frozen["vae"], base.frozen["vae"])
    assert_same(
        loaded.frozen["unet"], jax.tree.map(lambda x: x * 2, base.frozen["unet"])
    )
    recipe = Recipe(("down.0.res.0",), copies=3)
    latents = jnp.ones((2, 8, 8, 4))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 4)), "f")
    states = jnp.ones((7, 16))
    taps = decoder_taps(backbone, loaded.frozen, latents, states, noise, recipe)
    assert taps["down.0.res.0"].shape[0] == 2  # one pass
    np.testing.assert_array_equal(
        taps["down.0.res.0"],
        decoder_taps(backbone, loaded.frozen, latents, states, -noise, recipe)[
            "down.0.res.0"
        ],
    )
    with pytest.raises(ValueError, match="reads images without noise and draws none"):
        load_whole(backbone, make_mesh())


def test_cleandift_alone_takes_the_rest_from_the_hub(clean, tmp_path):
    root = tmp_path / "hub"
    for name, source in {"me/sd15": clean.parent, "Comp/clean": clean}.items():
        (root / name).mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, root / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, root / name)
    expected = load_backbone(clean, parts=()).backbone
    with serving(root, tmp_path / "cache") as online, pytest.MonkeyPatch.context() as m:
        m.setattr(single_file, "BASES", {16: "me/sd15"})
        source = f"Comp/clean/{clean.name}"
        found = load_backbone(source, parts=()).backbone
        assert found.fingerprint == expected.fingerprint and found.source == source
        online.asked.clear()
        again = load_backbone(source, parts=()).backbone
        assert again == dataclasses.replace(found) and online.asked == []
        with pytest.raises(FileNotFoundError, match="Comp/clean has no file other"):
            hub.find_file("Comp/clean/other.safetensors")
        m.setattr(single_file, "BASES", {768: "me/sd15"})
        with pytest.raises(ValueError, match="text states of 16 channels; known are"):
            load_backbone(source, parts=())

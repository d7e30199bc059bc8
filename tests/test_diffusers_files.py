"""Folders and files: what is absent, what is no weight file."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sbir_jax.backbones import diffusers_files
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.runtime import tensor_files

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
STEM = "diffusion_pytorch_model"
UNET = f"unet/{STEM}.safetensors"


@pytest.fixture
def folder(tmp_path):
    """A copy of that checkpoint, to be damaged."""
    return pathlib.Path(shutil.copytree(GOLDEN / "sd1", tmp_path / "model"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}q\x00.", "is a pickle under another name.*never unpickled"),
        (b"PK\x03\x04" + bytes(40), "is a pickle under another name.*never unpickled"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer.*lfs pull",
        ),
        (b"<html>not found</html>", r"\(22 bytes\) is damaged or cut short"),
        (b"", r"\(0 bytes\) is damaged or cut short"),
    ],
)
def test_files_that_are_no_weights(folder, content, message):
    (folder / UNET).write_bytes(content)
    with pytest.raises(ValueError, match=f"{UNET} ?{message}"):
        load_backbone(folder)


def test_a_file_cut_short(folder):
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is damaged or cut short.*fetch it again"):
        load_backbone(folder)


def test_a_type_that_is_not_read(folder):
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content.replace(b'"F16"', b'"I16"'))
    with pytest.raises(ValueError, match=rf"{UNET}: .* is of type I16; known are"):
        load_backbone(folder)


def test_what_a_file_holds_is_told_by_its_header(folder):
    """Some fp16 files of the hub hold float32."""
    tensors = load_file(folder / UNET)
    wide = {name: value.astype(np.float32) for name, value in tensors.items()}
    save_file(wide, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    found = diffusers_files.TensorFolder(folder / "unet", STEM, str)
    assert found.path.name == "diffusion_pytorch_model.fp16.safetensors"
    assert found.read("conv_in.weight").dtype == np.float32
    np.testing.assert_array_equal(found.read("conv_in.weight"), wide["conv_in.weight"])


@pytest.mark.parametrize(
    "index",
    [
        "diffusion_pytorch_model.safetensors.index.fp16.json",
        "diffusion_pytorch_model.fp16.safetensors.index.json",
    ],
)
def test_shards_of_the_half_precision_variant(folder, index):
    """Beside a whole file of the other, which is left alone."""
    tensors = load_file(folder / UNET)
    where = {}
    for i, names in enumerate((sorted(tensors)[:9], sorted(tensors)[9:]), start=1):
        name = f"diffusion_pytorch_model.fp16-0000{i}-of-00002.safetensors"
        half = {key: tensors[key] + np.float16(1) for key in names}
        save_file(half, folder / "unet" / name)
        where |= dict.fromkeys(names, name)
    (folder / "unet" / index).write_text(json.dumps({"weight_map": where}))
    found = diffusers_files.TensorFolder(folder / "unet", STEM, str)
    assert found.shapes().keys() == tensors.keys()
    expected = tensors["conv_in.bias"] + np.float16(1)
    np.testing.assert_array_equal(found.read("conv_in.bias"), expected)


def test_pickles_are_never_opened(folder):
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"only pickles \['diff.*\.bin'\].*convert once"
    ):
        load_backbone(folder)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("unet/config.json", r"no file .*unet/config\.json.*hub id such as"),
        ("scheduler/scheduler_config.json", r"no file .*scheduler_config\.json"),
        (UNET, r"no diffusion_pytorch_model\.safetensors in .*unet.*toybox"),
        ("text_encoder", r"no file .*text_encoder/config\.json"),
    ],
)
def test_something_is_not_there(folder, gone, message):
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load_backbone(folder)


def test_a_shard_is_not_there(folder):
    index = {"weight_map": {"conv_in.bias": "model-00002-of-00003.safetensors"}}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index))
    (folder / UNET).unlink()
    with pytest.raises(FileNotFoundError, match=r"00002-of-00003.*index beside it"):
        load_backbone(folder)


def test_no_such_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*'toybox'"):
        load_backbone(tmp_path / "nowhere")
    monkeypatch.setattr(diffusers_files, "TOYBOX", tmp_path / "toybox_sd")
    with pytest.raises(FileNotFoundError, match=r"lacks the Toybox model.*pretrain"):
        load_backbone("toybox")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("unet/config.json", "{", r"unet/config\.json is not valid JSON"),
        ("vae/config.json", "[]", "holds a list, not an object"),
        ("unet/config.json", '{"sample_siz": 8}', "unknown key 'sample_siz'"),
        ("scheduler/scheduler_config.json", '{"beta_schedul": 1}', "'beta_schedul'"),
    ],
)
def test_configs_that_cannot_be_read(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_backbone(folder)


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = tmp_path / "a.safetensors"
        tensor_files.save_tensors(path, {"a": np.zeros(3, np.float32)})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640  # the library alone: 0o600

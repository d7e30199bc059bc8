"""Folders and files: what is absent, what is no weight file, what the hub gives."""

import json
import pathlib
import shutil

import huggingface_hub
import pytest

from sbir_jax import diffusers_files
from sbir_jax.weights import load_backbone

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
UNET = "unet/diffusion_pytorch_model.safetensors"


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


def test_hub_is_asked_for_what_is_needed_only(monkeypatch):
    """The repository of Stable Diffusion 1.5 has 30 files; 12 are enough."""
    stem = "diffusion_pytorch_model"
    files = [
        "README.md",
        "feature_extractor/preprocessor_config.json",
        "model_index.json",
        "safety_checker/model.safetensors",
        "scheduler/scheduler_config.json",
        *(f"text_encoder/{n}" for n in ("config.json", "pytorch_model.bin")),
        *(f"text_encoder/model.{n}" for n in ("fp16.safetensors", "safetensors")),
        *(f"tokenizer/{n}" for n in ("merges.txt", "vocab.json")),
        *(f"unet/{n}" for n in ("config.json", f"{stem}.bin")),
        f"unet/{stem}.safetensors.index.json",
        f"unet/{stem}-00001-of-00002.safetensors",
        f"unet/{stem}-00002-of-00002.safetensors",
        f"unet/{stem}.safetensors.index.fp16.json",
        f"unet/{stem}.fp16-00001-of-00001.safetensors",
        f"unet/{stem}.non_ema.safetensors",
        *(f"vae/{n}" for n in ("config.json", f"{stem}.safetensors", f"{stem}.bin")),
        "v1-5-pruned.safetensors",
        "v1-5-pruned.ckpt",
    ]
    asked = {}

    def listing(self, repo, revision=None):
        asked["listed"] = (repo, revision)
        return files

    def download(repo, **kwargs):
        asked["fetched"] = (repo, kwargs)
        return str(GOLDEN / "sd1")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    backbone = load_backbone("owner/name@v1.5", parts=())
    assert backbone.folder == GOLDEN / "sd1"
    assert backbone.source == "owner/name@v1.5"
    assert asked["listed"] == ("owner/name", "v1.5")
    repo, kwargs = asked["fetched"]
    assert repo == "owner/name" and kwargs["revision"] == "v1.5"
    assert set(kwargs["allow_patterns"]) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        f"unet/{stem}.safetensors.index.fp16.json",
        f"unet/{stem}.fp16-00001-of-00001.safetensors",
        "vae/config.json",
        f"vae/{stem}.safetensors",
    }


@pytest.mark.parametrize("offline", [True, False])
def test_hub_without_network_uses_the_cache(monkeypatch, offline):
    def unreachable(self, repo, revision=None):
        assert not offline
        raise RuntimeError("no route to host")

    def cached(repo, **kwargs):
        assert kwargs == {"revision": None, "local_files_only": True}
        return str(GOLDEN / "sd1")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert load_backbone("owner/name", parts=()).source == "owner/name"

    def nothing(repo, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    reason = "HF_HUB_OFFLINE" if offline else "no route to host"
    with pytest.raises(
        FileNotFoundError, match=f"(?s)no local folder.*{reason}.*toybox"
    ):
        load_backbone("owner/name")

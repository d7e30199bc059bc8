"""Models and prompts by hub id, with the hub's own client and a hub on this machine."""

import dataclasses
import io
import pathlib
import shutil
import sys

import pytest
from fake_hub import serving
from huggingface_hub import constants

from sbir_jax.adapters import prompt_files
from sbir_jax.backbones import diffusers_files, hub, known
from sbir_jax.backbones.diffusers_files import find_folder, needed_files
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.embedder import Embedder
from sbir_jax.search import cli, consent
from sbir_jax.search.model import open_model

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
STEM = "diffusion_pytorch_model"


@pytest.fixture
def online(tmp_path):
    """A hub without repositories."""
    (tmp_path / "hub").mkdir()
    with serving(tmp_path / "hub", tmp_path / "cache") as made:
        yield made


@pytest.fixture
def model(online, tiny_folder):
    """The tiny model as a repository, with files that nobody needs."""
    folder = shutil.copytree(tiny_folder, online.root / "me" / "model")
    (folder / "README.md").write_text("a model")
    (folder / "v1.ckpt").write_bytes(bytes(100_000))
    (folder / "unet" / f"{STEM}.bin").write_bytes(bytes(100_000))
    return folder


def needed_of(model):
    paths = [path for path in model.rglob("*") if path.is_file()]
    return needed_files(str(path.relative_to(model)) for path in paths)


def test_of_a_repository_what_is_needed_only():
    """The repository of Stable Diffusion 1.5 has 30 files; 12 are enough."""
    files = [
        "README.md",
        "feature_extractor/preprocessor_config.json",
        "model_index.json",
        "safety_checker/model.safetensors",
        "scheduler/scheduler_config.json",
        *(f"text_encoder/{n}" for n in ("config.json", "pytorch_model.bin")),
        *(f"text_encoder/model.{n}" for n in ("fp16.safetensors", "safetensors")),
        *(f"tokenizer/{n}" for n in ("merges.txt", "vocab.json")),
        *(f"unet/{n}" for n in ("config.json", f"{STEM}.bin")),
        f"unet/{STEM}.safetensors.index.json",
        f"unet/{STEM}-00001-of-00002.safetensors",
        f"unet/{STEM}-00002-of-00002.safetensors",
        f"unet/{STEM}.safetensors.index.fp16.json",
        f"unet/{STEM}.fp16-00001-of-00001.safetensors",
        f"unet/{STEM}.non_ema.safetensors",
        *(f"vae/{n}" for n in ("config.json", f"{STEM}.safetensors", f"{STEM}.bin")),
        "v1-5-pruned.safetensors",
        "v1-5-pruned.ckpt",
    ]
    assert set(needed_files(files)) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        f"unet/{STEM}.safetensors.index.fp16.json",
        f"unet/{STEM}.fp16-00001-of-00001.safetensors",
        "vae/config.json",
        f"vae/{STEM}.safetensors",
    }


def test_of_a_repository_with_two_text_encoders_both():
    """Also where one network's fp16 variant lies in shards, and full ones beside it."""
    parts = [f"{part}/config.json" for part in ("unet", "vae", "text_encoder")]
    shards = [f"unet/{STEM}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    wanted = [
        *parts,
        "text_encoder_2/config.json",
        "text_encoder_2/model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "tokenizer_2/vocab.json",
        f"unet/{STEM}.fp16.safetensors.index.json",
        *shards,
        f"vae/{STEM}.fp16.safetensors",
    ]
    more = [
        "sd_xl_base_1.0.safetensors",
        "text_encoder_2/model.safetensors",
        "text_encoder_2/flax_model.msgpack",
        f"unet/{STEM}-00001-of-00001.safetensors",
        f"unet/{STEM}.safetensors.index.json",
        f"vae/{STEM}.safetensors",
    ]
    assert set(needed_files(wanted + more)) == set(wanted)
    without = [
        name for name in wanted if name != "text_encoder_2/model.fp16.safetensors"
    ]
    with pytest.raises(ValueError, match=r"has no text_encoder_2/\*\.safetensors"):
        diffusers_files._choose("me/model", without)


def test_the_size_is_told_and_only_what_is_needed_comes(online, model, capsys):
    needed = needed_of(model)
    embedder = Embedder.from_pretrained("me/model", batch_size=8)
    assert online.fetched == sorted(needed)
    size = sum((model / name).stat().st_size for name in needed)
    told = capsys.readouterr().err.splitlines()[0]
    assert told.startswith(f"fetching {len(needed)} files, ")
    assert told.endswith(f" of me/model into {constants.HF_HUB_CACHE}")
    assert told.split(", ")[1].split(" of ")[0] == f"{size / 1000:.3g} kB"
    assert embedder.source is not None and embedder.source["source"] == "me/model"


def test_the_hub_is_not_asked_for_what_is_in_the_cache(online, model, monkeypatch):
    first = open_model("me/model", batch_size=8)
    online.asked.clear()
    assert open_model("me/model", batch_size=8).fingerprint == first.fingerprint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_folder("me/model").name == find_folder("me/model@main").name
    assert online.asked == []


def test_a_short_name_is_fetched_and_kept_as_its_hub_id(online, model, monkeypatch):
    named = dataclasses.replace(known.MODELS["sd15"], source="me/model")
    monkeypatch.setitem(known.MODELS, "sd15", named)
    embedder = Embedder.from_pretrained("sd15", batch_size=8)
    assert embedder.source is not None and embedder.source["source"] == "me/model"
    assert embedder.backbone.source == "me/model" and online.fetched


class Terminal(io.StringIO):
    """Somebody who types this."""

    def isatty(self):
        return True


def test_the_shell_asks_before_it_fetches(online, model, monkeypatch, capsys, tmp_path):
    """The photos that are named are not there, so that all ends after the model."""
    monkeypatch.setattr(consent, "ASKED_FROM", 1000)
    command = ["index", str(tmp_path / "none"), "--out", str(tmp_path / "index")]
    command += ["--model", "me/model", "--batch-size", "8"]

    def told():
        assert cli.main(command) == 2
        return capsys.readouterr().err

    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # a pipe: nobody is there
    err, count = told(), len(needed_of(model))
    assert err.startswith(f"sbir: error: {count} files, ") and err.count("\n") == 1
    assert " of me/model, would be fetched" in err and "--yes" in err
    for answer in ("\n", "no\n", ""):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        err = told()
        assert "of me/model, will be fetched. Go on? [y/N]" in err
        assert "were not fetched" in err
    assert online.fetched == []

    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert "no file or folder" in told()
    assert online.fetched == sorted(needed_of(model))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "no file or folder" in told()  # it is here, so nobody is asked


@pytest.mark.parametrize("how", ["--yes", "small", "python"])
def test_nobody_is_asked(online, model, monkeypatch, capsys, tmp_path, how):
    monkeypatch.setattr(consent, "ASKED_FROM", 10**9 if how == "small" else 0)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    command = ["index", str(tmp_path / "none"), "--out", str(tmp_path / "index")]
    if how == "python":
        find_folder("me/model")
    else:
        command += ["--yes"] * (how == "--yes") + ["--model", "me/model"]
        assert cli.main([*command, "--batch-size", "8"]) == 2
    assert "Go on?" not in capsys.readouterr().err
    assert online.fetched == sorted(needed_of(model))


def test_a_download_that_was_stopped_goes_on(online, model, capsys):
    lost = model / "unet" / f"{STEM}.safetensors"
    content = lost.read_bytes()
    folder = find_folder("me/model")
    (folder / "unet" / lost.name).unlink()
    (folder / "tokenizer" / "vocab.json").unlink()
    online.asked.clear()
    capsys.readouterr()
    assert find_folder("me/model") == folder
    assert capsys.readouterr().err.startswith("fetching 2 files, ")
    assert (folder / "unet" / lost.name).read_bytes() == content


def test_weights_come_after_everything_else(online, model):
    find_folder("me/model")
    sent = [line for line in online.asked if line.startswith("GET") and "/res" in line]
    late = [line.endswith(".safetensors") for line in sent]
    assert late == sorted(late) and sum(late) == 3


@pytest.mark.parametrize("reason", ["offline", "no such repository", "no network"])
def test_what_cannot_be_had_is_told(online, monkeypatch, reason):
    if reason == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if reason == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    words = {"offline": "HF_HUB_OFFLINE", "no such repository": "Not Found"}
    pattern = f"(?s)me/nothing is no local folder.*{words.get(reason, 'refused')}"
    with pytest.raises(FileNotFoundError, match=f"{pattern}.*toybox"):
        find_folder("me/nothing")
    with pytest.raises(FileNotFoundError, match=pattern):
        open_model("me/nothing")
    if reason == "offline":
        assert online.asked == []


def test_a_gated_repository_says_what_to_do(online, model):
    online.gated = True
    with pytest.raises(FileNotFoundError, match=r"me/model .*gated.*hf auth login"):
        load_backbone("me/model")


def test_pickles_are_not_even_fetched(online, model):
    (model / "vae" / f"{STEM}.safetensors").rename(model / "vae" / f"{STEM}.bin")
    with pytest.raises(ValueError, match=r"me/model has no vae/\*.*convert once"):
        find_folder("me/model")
    assert online.fetched == []


@pytest.fixture
def encoder(online):
    """A distilled encoder as a repository, with what is beside it on the hub."""
    folder = shutil.copytree(GOLDEN / "tiny", online.root / "me" / "tiny")
    for name in ("README.md", f"{STEM}.bin", "taesd_encoder.pth"):
        (folder / name).write_bytes(bytes(1000))
    return folder


def test_an_encoder_is_two_files(online, encoder, capsys):
    here = load_backbone(GOLDEN / "sd1", parts=(), encoder=str(encoder))
    fetched = load_backbone(GOLDEN / "sd1", parts=(), encoder="me/tiny")
    fetched, here = fetched.backbone, here.backbone
    assert fetched.encoder == "me/tiny" and fetched.fingerprint == here.fingerprint
    assert online.fetched == ["config.json", f"{STEM}.safetensors"]
    assert capsys.readouterr().err.startswith("fetching 2 files, ")
    online.asked.clear()
    load_backbone(GOLDEN / "sd1", parts=(), encoder="me/tiny")
    assert online.asked == []


def test_repositories_that_hold_no_encoder(online, encoder, model):
    (encoder / f"{STEM}.safetensors").unlink()
    for name in ("me/tiny", "me/model"):  # the second has networks in folders
        message = rf"{name} has no {STEM}\.safetensors.*madebyollin/taesd.*unpickled"
        with pytest.raises(ValueError, match=message):
            load_backbone(GOLDEN / "sd1", parts=(), encoder=name)
    assert online.fetched == []
    with pytest.raises(FileNotFoundError, match=r"(?s)Not Found.*madebyollin/taesd"):
        load_backbone(GOLDEN / "sd1", parts=(), encoder="me/nothing")


@pytest.mark.parametrize("name", ["../up", "a/b/c", "a b/c", "model", "a--b/c", "/a/b"])
def test_names_that_are_no_hub_id(online, name):
    with pytest.raises(FileNotFoundError, match="toybox"):
        find_folder(name)
    assert online.asked == []


def test_prompts_there_and_back(online, model, tiny_folder, tmp_path, capsys):
    mine = Embedder.from_pretrained(str(tiny_folder), batch_size=8)
    mine = mine.with_prompts(mine.prompts)  # as if they were learned
    prompt_files.save_prompts(mine, tmp_path / "prompts")
    (tmp_path / "prompts" / "private notes.txt").write_text("not for the hub")
    address = prompt_files.push(tmp_path / "prompts", "me/prompts", private=True)
    assert "me/prompts" in address
    assert {p.name for p in (online.root / "me" / "prompts").iterdir()} == {
        "prompts.safetensors",
        "README.md",
    }
    assert "POST /api/repos/create" in online.asked and online.private == [True]
    online.asked.clear()
    capsys.readouterr()
    loaded = open_model("me/prompts", batch_size=8)
    assert loaded.fingerprint == mine.fingerprint
    assert loaded.source is not None and loaded.source["source"] == "me/prompts"
    assert capsys.readouterr().err.startswith("fetching 1 file, ")
    assert online.fetched == ["prompts.safetensors"]
    online.asked.clear()
    assert open_model("me/prompts", batch_size=8).fingerprint == mine.fingerprint
    assert online.asked == []


def test_a_repository_without_prompts(online, model):
    assert prompt_files.find_prompts("me/model") is None
    assert online.fetched == []
    with pytest.raises(FileNotFoundError, match=r"no prompts\.safetensors in me/model"):
        prompt_files.load_prompts("me/model")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (23_456_789, "23.5 MB"), (2.13e9, "2.13 GB")],
)
def test_sizes_read_well(size, text):
    assert hub._readable(size) == text

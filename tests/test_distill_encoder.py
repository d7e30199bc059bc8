import numpy as np
import pytest

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from tools import distill_encoder, pretrain_toybox
from tools.distill_encoder import Recipe, borders, explained, framed


def test_borders_are_where_learned_frames_are():
    found = borders(np.random.default_rng(0), 400, 64, 0.5)
    assert (found[:, 2:-2, 2:-2] == 0).all()
    edges = found[:, 0]
    assert edges.std() == pytest.approx(0.5 * 2**0.5, rel=0.05)
    # Half of it is one colour for the whole of an image's border.
    assert edges.mean(axis=1).std() == pytest.approx(0.5, rel=0.1)


def test_a_share_of_the_images_is_framed_and_nothing_is_clipped():
    images = np.full((200, 16, 16, 3), 255, np.uint8)
    found = framed(images, Recipe(framed=0.25))
    changed = (found != 255).any(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(0.25, abs=0.1)
    assert found.max() > 300
    np.testing.assert_array_equal(found, framed(images, Recipe(framed=0.25)))


def test_share_of_the_variance():
    theirs = np.random.default_rng(0).normal(3, 2, (8, 4, 4, 2))
    means = np.broadcast_to(theirs.mean(axis=(0, 1, 2)), theirs.shape)
    assert explained(theirs, theirs) == 1.0
    assert explained(means, theirs) == pytest.approx(0.0, abs=1e-6)
    assert explained((theirs + means) / 2, theirs) == pytest.approx(0.75)


@pytest.mark.slow
def test_an_encoder_for_another_backbone(tiny_folder, tmp_path, monkeypatch, capsys):
    """A few steps on noise: a folder that loads, and figures of it."""
    images = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), np.uint8)
    monkeypatch.setattr(pretrain_toybox, "make_images", lambda *_: images)
    out = tmp_path / "encoder"
    words = ["--quick", "--backbone", tiny_folder, "--workdir", tmp_path / "work"]
    monkeypatch.setattr("sys.argv", ["distill", *map(str, words), "--out", str(out)])
    distill_encoder.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("own: ") and lines[1].startswith("tiny: ")
    assert lines[2].endswith("of the variance explained")
    backbone = load_backbone(tiny_folder, parts=("vae_encoder",), encoder=str(out))
    assert isinstance(backbone.backbone.vae, TinyAutoencoder)
    assert (out / "diffusion_pytorch_model.safetensors").stat().st_size < 200_000

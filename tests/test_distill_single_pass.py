import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.embedder import Embedder
from tools import distill_single_pass
from tools.distill_single_pass import Recipe, alike, student_loss, teacher


@pytest.fixture(scope="module")
def batch(tiny):
    rng = np.random.default_rng(0)
    latents, noise = rng.standard_normal((2, 3, *tiny.backbone.latent_shape(32)), "f")
    tokens = tiny.backbone.tokenize(["a red mug", "", "a hat"])
    states, taps = teacher(tiny, Recipe())(tiny.frozen, latents, noise, tokens)
    return {"latents": latents, "states": states, "taps": taps}


def test_the_loss_is_of_directions_alone():
    one, two = np.random.default_rng(0).normal(size=(2, 2, 3, 3, 8))
    assert float(alike({"a": one}, {"a": 5 * one})) == pytest.approx(0, abs=1e-5)
    assert float(alike({"a": one}, {"a": -one})) == pytest.approx(2, abs=1e-5)
    half = alike({"a": one, "b": one}, {"a": one, "b": -one})
    assert float(half) == pytest.approx(1, abs=1e-5)
    assert 0.5 < float(alike({"a": one}, {"a": two})) < 1.5


@pytest.mark.slow
def test_a_copy_that_sees_no_noise_learns_what_the_model_makes_of_it(tiny, batch):
    loss = jax.jit(jax.value_and_grad(student_loss(tiny.backbone, Recipe())))
    params, found = tiny.frozen["unet"], []
    for _ in range(4):
        value, gradient = loss(params, None, batch)
        found.append(float(value))
        params = jax.tree.map(lambda p, g: p - 0.02 * g, params, gradient)
    assert found[0] > 1e-2 and found[-1] < 0.95 * found[0]


@pytest.mark.slow
def test_what_is_asked_for_is_what_noised_latents_give(tiny, batch):
    """At a timestep with hardly any noise the copy has nothing to learn."""
    recipe = Recipe(timestep=0)
    latents = jnp.asarray(batch["latents"])
    quiet = teacher(tiny, recipe)(
        tiny.frozen, latents, 0 * latents, tiny.backbone.tokenize(["a hat"] * 3)
    )
    found = jax.jit(student_loss(tiny.backbone, recipe))(
        tiny.frozen["unet"],
        None,
        {"latents": latents, "states": quiet[0], "taps": quiet[1]},
    )
    assert float(found) < 1e-4


def test_the_file_is_read_without_noise(tiny, tiny_folder, tmp_path):
    """Over the other networks of the folder it lies in; once an image."""
    whole = load_backbone(tiny_folder)
    changed = jax.tree.map(lambda x: 1.5 * x, whole.frozen["unet"])
    distill_single_pass.save(tmp_path / "out", tiny_folder, changed)
    path = tmp_path / "out" / distill_single_pass.FILE
    loaded = load_backbone(path)
    assert loaded.backbone.reads_clean
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        loaded.frozen["unet"],
        changed,
    )
    assert load_backbone(tmp_path / "out").backbone.fingerprint == (
        whole.backbone.fingerprint
    )
    image = np.zeros((1, 32, 32, 3), np.uint8)
    assert Embedder.from_pretrained(str(path)).embed(image, "photo").shape[0] == 1


@pytest.mark.slow
def test_the_tool(tmp_path, monkeypatch, capsys):
    words = ["distill", "--quick", "--workdir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    distill_single_pass.main()
    path = tmp_path / "model" / distill_single_pass.FILE
    assert capsys.readouterr().out.strip().endswith(f"wrote {path}")
    assert load_backbone(path).backbone.reads_clean

"""A distilled encoder in the place of a backbone's own: loading, refusing, writing."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EARLY
from safetensors.numpy import load_file, save_file

from sbir_jax import experiment
from sbir_jax.adapters.prompt_files import load_prompts, save_prompts
from sbir_jax.backbones import distilled_encoder, loading, stable_diffusion_files
from sbir_jax.backbones.distilled_encoder import find_encoder, save_encoder
from sbir_jax.backbones.loading import load_backbone, random_backbone
from sbir_jax.config import Experiment, base
from sbir_jax.embedder import Embedder
from sbir_jax.models.configs import TinyAutoencoderConfig
from sbir_jax.models.kernels import winograd
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.runtime import checkpoint
from sbir_jax.search import cli, model
from sbir_jax.search.model import make_embedder, open_model

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
FILE = "diffusion_pytorch_model.safetensors"
ENCODER = ("vae_encoder",)


@pytest.fixture
def folder(tmp_path):
    """A copy of the recorded encoder, to be damaged."""
    return pathlib.Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "tiny"))


def load(folder, **kwargs):
    return load_backbone(
        GOLDEN / "sd1", **{"parts": ENCODER, "encoder": str(folder), **kwargs}
    )


def edit_tensors(folder, change):
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, {"format": "pt"})


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_it_takes_the_place_of_the_backbones_own(folder, tmp_path):
    """Whose weights are not read: here they are not even there."""
    own = pathlib.Path(shutil.copytree(GOLDEN / "sd1", tmp_path / "sd1"))
    (own / "vae" / FILE).unlink()
    parts = ("unet", *ENCODER, "text_encoder")
    backbone = load_backbone(own, taps=("mid.out",), parts=parts, encoder=str(folder))
    assert isinstance(
        backbone.backbone.vae, TinyAutoencoder
    ) and backbone.backbone.encoder == str(folder)
    assert set(backbone.frozen["vae"]) == {"encoder"}
    assert backbone.backbone.scaling_factor == 1.0 and backbone.backbone.vae_factor == 8
    assert backbone.backbone.image_size == 64
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)), "f")
    latents = backbone.backbone.encode_image(backbone.frozen, images)
    raw, _ = backbone.backbone.vae.apply(
        {"params": backbone.frozen["vae"]}, images, method="encode"
    )
    np.testing.assert_array_equal(latents, raw)
    assert latents.shape == (1, 8, 8, 4)


def test_fingerprint_is_of_what_is_used(folder):
    plain = load_backbone(GOLDEN / "sd1", parts=ENCODER)
    assert plain.backbone.encoder == ""
    first = load(folder).backbone.fingerprint
    assert first != plain.backbone.fingerprint
    elsewhere = load(GOLDEN / "tiny", dtype=jnp.bfloat16, parts=("text_encoder",))
    assert elsewhere.backbone.fingerprint == first

    def drop_decoder(tensors):
        for name in [name for name in tensors if name.startswith("decoder.")]:
            del tensors[name]

    edit_tensors(folder, drop_decoder)
    assert load(folder).backbone.fingerprint == first
    name = "encoder.layers.0.bias"
    edit_tensors(folder, lambda tensors: tensors.update({name: tensors[name] + 1}))
    second = load(folder).backbone.fingerprint
    edit_config(folder, scaling_factor=0.5)
    third = load(folder).backbone
    assert len({first, second, third.fingerprint}) == 3
    assert third.scaling_factor == 0.5


def test_it_computes_in_the_type_asked_for(folder):
    backbone = load(folder, dtype=jnp.bfloat16)
    latents, _ = jax.eval_shape(
        lambda images: backbone.backbone.vae.apply(
            {"params": backbone.frozen["vae"]}, images, method="encode"
        ),
        jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.bfloat16),
    )
    assert latents.dtype == jnp.bfloat16


def test_random_weights_keep_its_shape():
    backbone = load(GOLDEN / "tiny")
    drawn = random_backbone(backbone, 0)
    assert jax.tree.map(jnp.shape, drawn.frozen) == jax.tree.map(
        jnp.shape, backbone.frozen
    )
    assert drawn.backbone.encoder == backbone.backbone.encoder


def test_frozen_kernels_give_the_same_latents(monkeypatch):
    monkeypatch.setattr(winograd, "CHANNELS", 4)
    plain, frozen = load(GOLDEN / "tiny"), load(GOLDEN / "tiny", frozen=True)
    encoder = frozen.frozen["vae"]["encoder"]
    block, strided = encoder["layers_1"]["conv_2"], encoder["layers_2"]
    assert winograd.is_prepared(block["kernel"].shape)
    assert strided["kernel"].shape == (3, 3, 4, 4)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)), "f")
    ours, theirs = (
        backbone.backbone.encode_image(backbone.frozen, images)
        for backbone in (frozen, plain)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


NAME = "encoder.layers.4.conv.2.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), r"1 missing: encoder\.layers\.4\.conv\.2\.weight"),
        (lambda t: t.update({"lora": t[NAME]}), "1 not expected: lora"),
        (
            lambda t: t.update({NAME: t[NAME][:, :2]}),
            r"conv\.2\.weight \(4, 2, 3, 3\), not \(4, 4, 3, 3\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_config(folder, change, message):
    edit_tensors(folder, change)
    with pytest.raises(ValueError, match=f"(?s)tiny/{FILE} does not hold.*{message}"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_channels": 16}, "has latent_channels 16, but the backbone's own has"),
        (
            {"num_encoder_blocks": [1] * 3, "encoder_block_out_channels": [4] * 3},
            "has factor 4, but the backbone's own has 8: take one.*madebyollin/taesd",
        ),
        ({"in_channels": 4}, "has in_channels 4, but the backbone's own has 3"),
        ({"_class_name": "AutoencoderKL"}, "only 'AutoencoderTiny'"),
    ],
)
def test_encoders_for_other_models(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_pickles_are_never_opened(folder):
    (folder / FILE).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only pickles \['diff.*\.bin'\]"):
        load(folder)


def test_what_is_not_there(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*madebyollin"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"'tiny' is no encoder for .*sd1\. Give"):
        load("tiny")
    with pytest.raises(ValueError, match=r"leave 'vae_decoder' out of parts"):
        load(folder, parts=loading.PARTS)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*tiny/config\.json"):
        load(folder)
    monkeypatch.setattr(distilled_encoder, "TOYBOX_TINY", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"lacks Toybox's tiny.*distill"):
        find_encoder("tiny", distilled_encoder.TOYBOX)


def test_written_and_read_again(tmp_path):
    before = load(GOLDEN / "tiny")
    config = json.loads((GOLDEN / "tiny" / "config.json").read_text())
    save_encoder(tmp_path / "new", config, before.frozen["vae"])
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    again = load(tmp_path / "new")
    # float16 in both files
    assert again.backbone.fingerprint == before.backbone.fingerprint
    jax.tree.map(np.testing.assert_array_equal, again.frozen, before.frozen)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """An encoder of random weights for the tiny model: 4 channels, 4 pixels a side."""
    config = {
        "_class_name": "AutoencoderTiny",
        "encoder_block_out_channels": [4, 4, 4],
        "num_encoder_blocks": [0, 0, 1],
        "latent_channels": 4,
    }
    network = TinyAutoencoder(TinyAutoencoderConfig.from_json(config))
    folder = tmp_path_factory.mktemp("encoder") / "distilled"
    save_encoder(
        folder, config, stable_diffusion_files.init_params(network, jax.random.key(0))
    )
    return folder


@pytest.fixture(scope="module")
def embedder(tiny_folder, distilled):
    return Embedder.from_pretrained(
        str(tiny_folder), batch_size=8, encoder=str(distilled)
    )


def test_an_embedder_can_be_made_again(embedder, tiny_folder, distilled, monkeypatch):
    own = Embedder.from_pretrained(str(tiny_folder), batch_size=8)
    assert own.fingerprint != embedder.fingerprint
    monkeypatch.chdir(distilled.parent)
    near = Embedder.from_pretrained(str(tiny_folder), batch_size=8, encoder="distilled")
    assert near.source == embedder.source  # absolute, for another working directory
    again = make_embedder(near.source, "INDEX", 8)
    assert again.fingerprint == embedder.fingerprint
    assert own.source is not None and own.source["encoder"] == ""
    old = {key: value for key, value in own.source.items() if key != "encoder"}
    assert make_embedder(old, "INDEX", 8).fingerprint == own.fingerprint


def test_shared_prompts_carry_it(embedder, distilled, tmp_path):
    embedder = embedder.with_prompts(embedder.prompts)  # as if they were learned
    save_prompts(embedder, tmp_path / "prompts")
    assert str(distilled) in (tmp_path / "prompts" / "README.md").read_text()
    loaded = load_prompts(tmp_path / "prompts", batch_size=8)
    assert loaded.fingerprint == embedder.fingerprint
    moved = shutil.move(distilled, tmp_path / "moved")
    try:
        with pytest.raises(FileNotFoundError, match=r"distilled, .*encoder=\.\.\.\)"):
            load_prompts(tmp_path / "prompts")
        loaded = load_prompts(tmp_path / "prompts", batch_size=8, encoder=str(moved))
        assert make_embedder(loaded.source, "INDEX").fingerprint == loaded.fingerprint
        assert loaded.fingerprint == embedder.fingerprint
    finally:
        shutil.move(moved, distilled)
    with pytest.raises(ValueError, match="leave the encoder 'other' out"):
        open_model(str(tmp_path / "prompts"), encoder="other")


def test_the_shell_takes_one(tmp_path, monkeypatch):
    asked = []

    def refuse(*given):
        asked.append(given)
        raise ValueError("enough")

    monkeypatch.setattr(model, "open_model", refuse)
    words = ["index", "photos", "--out", str(tmp_path), "--encoder", "tiny"]
    assert cli.main(words) == 2
    assert asked == [("toybox", None, 0, "tiny")]


class Stopped(Exception):
    """Instead of training."""


def test_a_run_records_it(
    embedder, tiny_folder, distilled, shapes_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiment, "train", lambda *_, **__: _stop())
    monkeypatch.setattr(checkpoint, "load_trained", lambda *_: vars(embedder.prompts))
    config = base("category")
    config.backbone, config.encoder = str(tiny_folder), str(distilled)
    config.val_classes, config.recipe.taps = 0, EARLY
    data = {"name": "folder", "root": str(shapes_root), "unseen": "gem,ring"}
    config.data = {**data, "cache_dir": str(tmp_path / "prepared")}

    def run():
        experiment.open(Experiment.from_config(config), tmp_path / "run").go()

    with pytest.raises(Stopped):
        run()
    backbone = Embedder.from_run(tmp_path / "run", 8).backbone
    assert backbone.encoder == str(distilled)
    assert isinstance(backbone.vae, TinyAutoencoder)
    # The same encoder may lie elsewhere; another one makes another run.
    config.encoder = str(shutil.copytree(distilled, tmp_path / "copy"))
    with pytest.raises(Stopped):
        run()
    config.encoder = ""
    with pytest.raises(ValueError, match=r"(?s)belongs to another run.*\n  backbone: "):
        run()


def _stop():
    raise Stopped


def test_toyboxs_own_gives_nearly_its_latents():
    """On a picture that no training had: a ring, a bar and a shade."""
    own, tiny = (
        load_backbone("toybox", parts=ENCODER, encoder=encoder)
        for encoder in ("", "tiny")
    )
    y, x = np.mgrid[-1:1:64j, -1:1:64j].astype(np.float32)
    ring = np.abs(np.hypot(x, y) - 0.6) < 0.15
    bar = np.abs(x + y) < 0.1
    image = np.stack([0.5 + 0.3 * y, np.where(ring, -0.6, 0.6), 0.8 - 1.5 * bar], -1)
    theirs, ours = (
        np.asarray(
            backbone.backbone.encode_image(backbone.frozen, jnp.asarray(image[None]))
        )
        for backbone in (own, tiny)
    )
    error = np.square(ours - theirs).mean() / np.var(theirs, axis=(0, 1, 2)).mean()
    assert error < 0.15
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(b.frozen)) for b in (own, tiny)]
    assert sizes[0] > 7 * sizes[1]

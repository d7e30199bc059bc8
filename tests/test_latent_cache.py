import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EARLY
from retrieval_task import retrieval

from sbir_jax import data, features, train
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import text_states
from sbir_jax.data import triplets
from sbir_jax.features import Recipe
from sbir_jax.runtime import row_cache
from sbir_jax.tasks.retrieval import latent_cache
from sbir_jax.tasks.retrieval.objective import objective
from sbir_jax.tasks.retrieval.setup import TripletConfig

DRAWING = {"seed": 1, "steps": 6, "batch_size": 8, "task": "category", "size": 32}
HOST = {"host": 0, "hosts": 1}


@pytest.fixture(scope="module")
def dataset(shapes_root, tmp_path_factory):
    cache = tmp_path_factory.mktemp("prepared")
    return data.load("folder", str(shapes_root), unseen="gem,ring", cache_dir=cache)


@pytest.fixture(scope="module")
def encode(tiny):
    run = jax.jit(lambda params, images: tiny.backbone.encode_image(params, images))
    return lambda images: np.asarray(run(tiny.frozen, images))


def prompts_in(space, tiny):
    """Frames that are not zero, so that they count."""
    states, shape = text_states(tiny, [""])[0], tiny.backbone.latent_shape(32)
    prompts = init_prompts(PromptConfig(space=space), 32, states, shape)
    moved = jax.tree.map(lambda x: x + 0.2, prompts)
    return moved.replace(text=prompts.text)  # pyright: ignore


def reader(
    tiny, dataset, folder, space="latent", scale=2.0, dtype=jnp.float32, **changes
):
    given = DRAWING | HOST | changes
    prompts = prompts_in(space, tiny)
    described = tiny.backbone
    vae, unet = (part.clone(dtype=dtype) for part in (described.vae, described.unet))
    described = dataclasses.replace(described, vae=vae, unet=unet)
    backbone = dataclasses.replace(tiny, backbone=described)
    return latent_cache.reader(backbone, prompts, scale, dataset, folder, 1, **given)


@pytest.mark.parametrize("task", triplets.TASKS)
def test_batches_are_the_latents_of_the_images(tiny, dataset, encode, tmp_path, task):
    plain = DRAWING | HOST | {"task": task}
    read = reader(tiny, dataset, tmp_path, task=task)
    for images, found in zip(
        triplets.triplet_batches(dataset, start_step=0, **plain),
        triplets.triplet_batches(dataset, start_step=0, read=read, **plain),
        strict=True,
    ):
        for name, rows in images.items():
            wanted = encode(rows)
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], wanted, rtol=1e-3, atol=1e-5)


def test_frames_in_pixels_are_in_the_latents(tiny, dataset, tmp_path):
    plain, framed = (
        reader(tiny, dataset, tmp_path / s, s) for s in ("latent", "pixel")
    )
    table = triplets.triplet_table(dataset, "category")
    (drawn, mirrored) = triplets.draw(1, 0, 0, 1, 8, table)
    prompts = prompts_in("pixel", tiny)
    pixels = triplets.pixel_reader(dataset, 32)("photo", drawn["positive"], mirrored)
    wanted = jax.jit(
        lambda params: features.encode_prompted(
            tiny.backbone, params, prompts, jnp.asarray(pixels), "photo", 2.0
        )
    )(tiny.frozen)
    found = framed("photo", drawn["positive"], mirrored)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert np.abs(found - plain("photo", drawn["positive"], mirrored)).max() > 1e-3


def rows_made(monkeypatch, limit=10**9):
    """A list of the batches that `keep` asks for; after `limit` it is interrupted."""
    made, keep = [], row_cache.keep

    def counted(path, whose, shape, make, desc):
        def one(rows):
            if len(made) == limit:
                raise KeyboardInterrupt
            made.append(rows)
            return make(rows)

        return keep(path, whose, shape, one, desc)

    monkeypatch.setattr(row_cache, "keep", counted)
    return made


def test_each_image_is_encoded_once_and_a_stopped_run_goes_on(
    tiny, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(row_cache, "BATCH", 8)
    read = reader(tiny, dataset, tmp_path / "whole")

    def contents(folder):  # but for when they were written
        files = [path for path in folder.iterdir() if path.suffix != ".checked"]
        return {path.name: path.read_bytes() for path in files}

    wanted = contents(tmp_path / "whole")
    shape = json.loads(wanted["photo-0.json"])
    assert shape["size"] == 32 and shape["backbone"] == tiny.backbone.fingerprint
    # 16 seen photos and their mirror images at most, of 6 * 16 that are drawn.
    assert len(wanted["photo-0.bin"]) <= 32 * 8 * 8 * 4 * 2

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        rows_made(patch, limit=2)
        reader(tiny, dataset, folder)
    with (folder / "sketch-0.bin").open("ab") as file:
        file.write(b"part of a row")
    made = rows_made(monkeypatch)
    again = reader(tiny, dataset, folder)
    assert made[0].start == 16
    assert contents(folder) == wanted
    made.clear()
    reader(tiny, dataset, folder)
    assert not made
    indices, mirrored = triplets.draw(1, 3, 0, 1, 8, triplets.triplet_table(dataset))
    arguments = "sketch", indices["sketch"], mirrored
    np.testing.assert_array_equal(read(*arguments), again(*arguments))


PIXEL = {"space": "pixel"}


@pytest.mark.parametrize(
    ("first", "change"),
    [
        ({}, {"seed": 2}),
        ({}, PIXEL),
        ({}, {"steps": 2}),
        ({}, {"dtype": jnp.bfloat16}),
        (PIXEL, PIXEL | {"scale": 1.0}),
    ],
)
def test_latents_of_another_run_are_made_anew(
    tiny, dataset, tmp_path, monkeypatch, first, change
):
    reader(tiny, dataset, tmp_path, **first)
    made = rows_made(monkeypatch)
    reader(tiny, dataset, tmp_path, **change)
    assert made[0].start == 0
    made.clear()
    reader(tiny, dataset, tmp_path, **change)
    assert not made


def test_hosts_keep_what_each_of_them_draws(tiny, dataset, encode, tmp_path):
    hosts = [{"host": host, "hosts": 2} for host in (0, 1)]
    reads = [reader(tiny, dataset, tmp_path, steps=2, **host) for host in hosts]
    table = triplets.triplet_table(dataset)
    for host, read in enumerate(reads):
        indices, mirrored = triplets.draw(1, 1, host, 2, 8, table)
        row = "photo", indices["negative"], mirrored
        wanted = encode(triplets.pixel_reader(dataset, 32)(*row))
        np.testing.assert_allclose(read(*row), wanted, rtol=1e-3, atol=1e-5)


def test_images_that_devices_cannot_share_are_filled_up(tiny, encode):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype("f")
    encoder = latent_cache.encoder(
        tiny, prompts_in("latent", tiny), 2.0, 1, batch_size=3
    )
    np.testing.assert_allclose(encoder(images, "photo"), encode(images), atol=1e-5)


def learn(tiny, dataset, workdir, space, parts):
    task = retrieval(
        tiny,
        dataset,
        workdir,
        TripletConfig(steps=4, batch_size=8, parts=parts, save_every=4),
        Recipe(EARLY, pooling="mean"),  # the place of a maximum could jump
        prompts=prompts_in(space, tiny),
        scale=2.0,
    )
    task.parts = task.config.trained(task.start)
    learned, step = train.train(task, workdir)
    assert step == 4 and not (workdir / "latents").exists()
    return learned


@pytest.mark.slow
def test_training_on_latents_is_training_on_images(
    tiny, dataset, encode, tmp_path, monkeypatch
):
    """Text only, where both ways are there: up to the float16 of the latents."""
    found = learn(tiny, dataset, tmp_path / "latents", "pixel", ("text",))
    monkeypatch.setattr(TripletConfig, "reads_latents", lambda self, prompts: False)
    wanted = learn(tiny, dataset, tmp_path / "images", "pixel", ("text",))
    moved = np.abs(wanted.text - prompts_in("pixel", tiny).text).max()
    assert moved > 0.01
    np.testing.assert_allclose(found.text, wanted.text, atol=moved / 100)


def test_frames_in_latent_space_learn_from_latents_kept_or_not(
    tiny, dataset, encode, tmp_path, monkeypatch
):
    both = ("visual", "text")
    found = learn(tiny, dataset, tmp_path / "kept", "latent", both)

    def encoding(backbone, prompts, scale, dataset, *args, size, **drawing):
        pixels = triplets.pixel_reader(dataset, size)
        return lambda *row: encode(pixels(*row))

    monkeypatch.setattr(latent_cache, "reader", encoding)
    wanted = learn(tiny, dataset, tmp_path / "not", "latent", both)
    start = prompts_in("latent", tiny)
    for a, b, c in zip(*map(jax.tree.leaves, (found, wanted, start)), strict=True):
        moved = np.abs(b - c).max()
        assert moved > 1e-3
        np.testing.assert_allclose(a, b, atol=moved / 50)


def test_a_step_on_latents_needs_no_autoencoder(tiny):
    prompts = prompts_in("latent", tiny)
    rows = jax.random.normal(jax.random.key(0), (3, 4, 8, 8, 4))
    batch = dict(zip(triplets.MODALITY, rows, strict=True))

    loss = functools.partial(
        objective,
        backbone=tiny.backbone,
        recipe=Recipe(EARLY),
        margin=0.3,
        visual_scale=1.0,
        encoded=True,
    )
    # Traced alone: other networks would be missed.
    params, key = {"unet": tiny.frozen["unet"]}, jax.random.key(0)
    found, figures = jax.eval_shape(loss, prompts, params, batch, key)
    assert found.shape == figures["active"].shape == ()

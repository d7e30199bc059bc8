import dataclasses
import hashlib
import json
import re
import time
import tracemalloc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EARLY
from PIL import Image

from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import load_frozen, text_states
from sbir_jax.data import BadImage
from sbir_jax.data import images as images_lib
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.runtime import hardware
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.runtime.sharding import make_mesh
from sbir_jax.search.model import make_embedder

RECIPE = Recipe(EARLY, copies=2)


@pytest.fixture(scope="module")
def prompts(tiny):
    return init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])


@pytest.fixture(scope="module")
def embedder(tiny, prompts):
    return Embedder(tiny, prompts, RECIPE, 32, batch_size=8)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (11, 32, 32, 3)).astype(np.float32)


def test_descriptor_is_the_same_alone_and_in_any_batch(embedder, images):
    whole = embedder.embed_arrays(images, "photo")
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1.0, atol=1e-5)
    for i in (0, 4, 10):
        alone = embedder.embed_arrays(images[i : i + 1], "photo")
        # Bitwise on one device; a row may land on another of the fake ones.
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-6)


def test_descriptor_does_not_depend_on_batch_size_or_devices(
    tiny, prompts, embedder, images
):
    whole = embedder.embed_arrays(images, "sketch")
    assert embedder.batch_size == 8 == jax.device_count()
    wide = Embedder(tiny, prompts, RECIPE, 32, batch_size=24)
    np.testing.assert_allclose(wide.embed_arrays(images, "sketch"), whole, atol=2e-6)
    alone = make_mesh(devices=jax.devices()[:1])
    one = Embedder(tiny, prompts, RECIPE, 32, batch_size=8, mesh=alone)
    np.testing.assert_allclose(one.embed_arrays(images, "sketch"), whole, atol=2e-6)


def test_takes_paths_bytes_pil_and_arrays(embedder, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = tmp_path / "cup.png"
    Image.fromarray(pixels).save(path)
    found = embedder.embed(
        [path, str(path), path.read_bytes(), Image.open(path), pixels], "photo"
    )
    assert found.shape == (5, embedder.dim) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.repeat(found[:1], 5, axis=0), atol=1e-6)


@pytest.mark.slow
def test_any_number_of_images_takes_the_memory_of_a_few(embedder):
    """2,000 of them would be 25 MB."""
    rng, alive, most = np.random.default_rng(4), set(), 0
    few = rng.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)

    def pictures(count):
        nonlocal most
        for i in range(count):
            picture = Image.fromarray(few[i % 7])
            alive.add(i)
            weakref.finalize(picture, alive.discard, i)
            most = max(most, len(alive))
            yield picture

    first = embedder.embed(pictures(16), "photo")  # compiles
    tracemalloc.start()
    found = embedder.embed(pictures(2000), "photo")
    peak = tracemalloc.get_traced_memory()[1] - found.nbytes
    tracemalloc.stop()
    assert found.shape == (2000, embedder.dim)
    np.testing.assert_allclose(found[:16], first, atol=1e-6)
    np.testing.assert_allclose(found[7 * 280], found[0], atol=1e-6)
    assert most <= 6 * embedder.batch_size and peak < 5e6, (most, peak)


def test_images_are_decoded_ahead_of_the_device(embedder, monkeypatch):
    log, start, decode = [], Embedder.start, images_lib.decode_batch

    def started(self, *args):
        # The second is decoded while the first one waits here to be started.
        until = time.monotonic() + 30
        while log.count("decode") < 2 and time.monotonic() < until:
            time.sleep(0.01)
        log.append("start")
        return start(self, *args)

    def decoded(*args):
        log.append("decode")
        return decode(*args)

    monkeypatch.setattr(Embedder, "start", started)
    monkeypatch.setattr(images_lib, "decode_batch", decoded)
    pixels = np.zeros((40, 32, 32, 3), np.uint8)
    embedder.embed(iter(pixels), "photo")
    assert log.count("decode") == log.count("start") == 5
    assert log[:2] == ["decode"] * 2


def test_an_iterator_with_a_text_each(embedder, images):
    pixels = ((images + 1) * 127.5).astype(np.uint8)
    texts = [f"word {'abc'[i % 3]}" for i in range(11)]
    found = embedder.embed(iter(pixels), "sketch", text=texts)
    np.testing.assert_allclose(
        found, embedder.embed(pixels, "sketch", text=texts), atol=1e-6
    )
    for count in (9, 12):
        with pytest.raises(ValueError, match=f"{count} texts for 1"):
            embedder.embed(iter(pixels), "sketch", text=(texts * 2)[:count])


def test_words_beside_the_drawing_change_the_descriptor(embedder, images):
    pixels = ((images[:2] + 1) * 127.5).astype(np.uint8)
    plain = embedder.embed(pixels, "sketch")
    one = embedder.embed(pixels, "sketch", text="a red mug")
    each = embedder.embed(pixels, "sketch", text=["a red mug", "a blue chair"])
    assert np.abs(one - plain).max() > 1e-4
    np.testing.assert_allclose(each[0], one[0], atol=1e-6)
    assert np.abs(each[1] - one[1]).max() > 1e-4
    with pytest.raises(ValueError, match="3 texts for 2 images"):
        embedder.embed(pixels, "sketch", text=["a"] * 3)


def test_words_can_be_mixed_with_the_text_prompt(embedder, images):
    pixels = ((images[:2] + 1) * 127.5).astype(np.uint8)

    def embed(**words):
        return embedder.embed(pixels, "sketch", **words)

    text = "a red cup"
    np.testing.assert_allclose(embed(text=text, text_weight=0.0), embed(), atol=1e-6)
    half = embed(text=text, text_weight=0.5)
    assert np.abs(half - embed()).max() > 1e-4
    assert np.abs(half - embed(text=text)).max() > 1e-4
    with pytest.raises(ValueError, match=r"text_weight is 2.0; give 0"):
        embed(text=text, text_weight=2.0)


class Drawn:
    """Images in memory in a data set's place."""

    def __init__(self, images):
        self.all = images

    def images(self, indices, size):
        return self.all[indices]


def test_items_are_the_same_as_batch_by_batch(tiny, prompts, images):
    embedder = Embedder(tiny, prompts, RECIPE, 32, batch_size=8)
    order = np.random.default_rng(2).permutation(np.arange(44) % 11)
    found = embedder.embed_items(Drawn(images), order, "photo")
    one_by_one = [
        embedder.start(images[order[i : i + 8]], "photo")() for i in range(0, 44, 8)
    ]
    np.testing.assert_array_equal(found, np.concatenate(one_by_one))
    np.testing.assert_array_equal(found, embedder.embed_arrays(images[order], "photo"))
    none = embedder.embed_items(Drawn(images), np.arange(0), "photo")
    assert none.shape == (0, embedder.dim)


def test_the_next_batch_is_started_before_one_is_fetched(embedder, images, monkeypatch):
    log, start = [], Embedder.start

    def logged(self, batch, modality, context=None):
        number = sum(entry[0] == "start" for entry in log)
        log.append(("start", number))
        fetch = start(self, batch, modality, context)
        return lambda: log.append(("fetch", number)) or fetch()

    monkeypatch.setattr(Embedder, "start", logged)
    wanted = [("start", 0), ("start", 1), ("fetch", 0), ("start", 2)]
    embedder.embed_items(Drawn(images), np.arange(24) % 11, "photo")
    assert log[:4] == wanted and len(log) == 6
    log.clear()
    embedder.embed_arrays(images[np.arange(24) % 11], "photo")
    assert log[:4] == wanted and len(log) == 6


class Slow(Drawn):
    def images(self, indices, size):
        time.sleep(0.5)
        return super().images(indices, size)


def test_waiting_for_images_is_measured(tiny, prompts, images, capfd):
    embedder = Embedder(tiny, prompts, RECIPE, 32, batch_size=8)
    embedder.embed_items(Drawn(images), np.arange(8), "photo")  # compiles
    shares = {}
    for kind in (Drawn, Slow):
        embedder.waiting = Waiting()
        model = embedder.with_prompts(prompts)  # counts for both
        model.embed_items(kind(images), np.arange(48) % 11, "photo")
        shares[kind] = embedder.waiting.share
    assert shares[Drawn] < 0.5 < shares[Slow] < 1.0, shares
    # The bar shows it a moment before the end.
    shown = re.findall(r"waiting (\d+)%", capfd.readouterr().err)
    assert int(shown[-1]) == pytest.approx(100 * shares[Slow], abs=3)


def test_an_item_that_cannot_be_read_is_named(embedder, images):
    class Broken(Drawn):
        def images(self, indices, size):
            if 9 in indices:
                raise BadImage("nine.png", "empty file")
            return super().images(indices, size)

    with pytest.raises(BadImage, match=r"nine\.png: empty file"):
        embedder.embed_items(Broken(images), np.arange(11), "photo")


def test_without_a_number_what_fits_goes_through_together(
    tiny, prompts, images, monkeypatch
):
    monkeypatch.setattr(hardware, "MOST_ON_CPU", 4)
    found = Embedder(tiny, prompts, RECIPE, 32)
    assert found.batch_size == 4 * jax.device_count()
    program = found._describe.lower(*found._arguments(32), modality="photo").compile()
    needed = program.memory_analysis().temp_size_in_bytes
    assert needed > 10**5
    # Less than that is free on each device.
    monkeypatch.setattr(hardware, "free_bytes", lambda devices: needed)
    less = Embedder(tiny, prompts, RECIPE, 32)
    copy = less.with_prompts(prompts)
    assert copy.batch_size == less.batch_size < found.batch_size
    assert less.batch_size % jax.device_count() == 0
    np.testing.assert_allclose(
        less.embed_arrays(images, "photo"),
        found.embed_arrays(images, "photo"),
        atol=2e-6,
    )
    assert less.fingerprint == found.fingerprint
    with pytest.raises(ValueError, match="batch_size is -1; give 1 or more"):
        Embedder(tiny, prompts, RECIPE, 32, batch_size=-1)


def test_items_keep_their_words_across_batches(tiny, prompts, images):
    embedder = Embedder(tiny, prompts, RECIPE, 32, batch_size=8)
    many = np.repeat(np.asarray(images[:1]), 11, axis=0)
    texts = [f"word {'abc'[i % 3]}" for i in range(11)]
    found = embedder.embed_items(Drawn(many), np.arange(11), "sketch", texts)
    for i in (0, 8, 10):
        again = embedder.embed_items(Drawn(many), np.array([i]), "sketch", [texts[i]])
        np.testing.assert_allclose(found[i], again[0], atol=1e-6)
    assert np.abs(found[8] - found[0]).max() > 1e-4


def test_fingerprint_follows_everything_that_counts(tiny, prompts, embedder):
    same = Embedder(tiny, prompts, RECIPE, 32, batch_size=16)
    assert same.fingerprint == embedder.fingerprint
    moved = jax.tree.map(lambda x: x + 1e-3, prompts)
    others = [
        embedder.with_prompts(moved),
        Embedder(tiny, prompts, Recipe(EARLY, copies=3), 32),
        Embedder(tiny, prompts, RECIPE, 32, visual_scale=2.0),
    ]
    assert len({e.fingerprint for e in [embedder, *others]}) == 4
    pixels = np.full((1, 32, 32, 3), 0.2, np.float32)
    rebuilt = Embedder(tiny, moved, RECIPE, 32, batch_size=8)
    np.testing.assert_array_equal(
        others[0].embed_arrays(pixels, "photo"), rebuilt.embed_arrays(pixels, "photo")
    )


def test_a_frozen_backbone_has_one_fingerprint_on_all_processors(tiny_folder):
    """The last digits of text states hang on the processor that encodes the words."""
    made = [
        Embedder.from_pretrained(str(tiny_folder), text=text, batch_size=1)
        for text in ("a mug", "a mug", "a hat")
    ]
    states = made[1].prompts.text
    made[1].prompts = made[1].prompts.replace(text=states * (1 + 1e-6))
    assert made[1].former_fingerprint != made[0].former_fingerprint
    assert made[1].fingerprint == made[0].fingerprint != made[2].fingerprint
    # What is learned counts, be it near to where it started.
    learned = made[0].with_prompts(made[1].prompts)
    again = made[0].with_prompts(made[0].prompts)
    assert len({x.fingerprint for x in (made[0], learned, again)}) == 3


def test_bfloat16_is_near_and_has_a_fingerprint_of_its_own(
    tiny_folder, embedder, images
):
    half = load_frozen(tiny_folder, RECIPE.taps, make_mesh(), "bfloat16")
    leaves = jax.tree.leaves(half.frozen)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}
    model = Embedder(half, embedder.prompts, RECIPE, 32, batch_size=8)
    assert (embedder.dtype, model.dtype) == ("float32", "bfloat16")
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(model.prompts))
    found = model.embed_arrays(images, "photo")
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    wanted = embedder.embed_arrays(images, "photo")
    assert np.abs(found - wanted).max() > 1e-4  # it is another computation
    assert np.sum(found * wanted, axis=1).min() > 0.999
    assert model.fingerprint != embedder.fingerprint


def test_float32_has_the_fingerprint_it_had_before_there_was_a_choice(embedder):
    head = [embedder.backbone.fingerprint, dataclasses.asdict(RECIPE), 32, 1.0]
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for leaf in jax.tree.leaves(embedder.prompts):
        digest.update(np.asarray(leaf).tobytes())
    assert embedder.fingerprint == digest.hexdigest()


def test_the_type_is_kept_with_how_to_make_it_again(tiny_folder):
    model = Embedder.from_pretrained(str(tiny_folder), dtype="bfloat16", batch_size=8)
    assert model.source is not None and model.source["dtype"] == "bfloat16"
    again = make_embedder(model.source, "INDEX")
    assert again.dtype == "bfloat16" and again.fingerprint == model.fingerprint
    old = {k: v for k, v in model.source.items() if k != "dtype"}
    assert make_embedder(old, "INDEX").dtype == "float32"
    with pytest.raises(ValueError, match="dtype is 'float64'; give float32 or bfl"):
        Embedder.from_pretrained(str(tiny_folder), dtype="float64")


def test_bad_input_is_named(embedder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    with pytest.raises(BadImage, match=r"broken\.png"):
        embedder.embed([broken], "photo")
    with pytest.raises(ValueError, match="modality is 'drawing'"):
        embedder.embed([], "drawing")
    assert embedder.embed([], "photo").shape == (0, embedder.dim)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"config\.json\. .* is not a run folder"
    ):
        Embedder.from_run(tmp_path)

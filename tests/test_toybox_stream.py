"""Training data of the embedded model: what a step draws, and what is kept."""

import numpy as np
import pytest

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import pretraining
from sbir_jax.data.toybox.scenes.spoken import OF_THINGS
from tools import toybox_stream
from tools.toybox_stream import NOTHING, Stream, most_frequent

SIZE = 16
NAMES = world.SEEN[:4]


@pytest.fixture
def drawn(monkeypatch):
    """Stands in for rendering; the numbers of the chunks that were made."""
    made = []

    def chunk(seed, number, size):
        made.append(number)
        count = 4
        rng = np.random.default_rng(number)
        photos = np.full((world.LOOKS * count, size, size, 3), number, np.uint8)
        sketches = np.full((world.HANDS * count, size, size, 3), 100, np.uint8)
        names = [f"a {NAMES[i // world.LOOKS]}" for i in range(len(photos))]
        drawings = [f"s a {NAMES[i // world.HANDS]}" for i in range(len(sketches))]
        maps = np.stack([np.full((4, 4, 17), i) for i in range(count)])
        labels = rng.integers(48, size=count)
        return world.Chunk(photos, names, sketches, drawings, labels, maps)

    monkeypatch.setattr(world, "pretraining_chunk", chunk)
    monkeypatch.setattr(toybox_stream, "SCENES_EVERY", 1000)
    return made


def stream(folder, **changes):
    def encode(images):
        return images[:, ::4, ::4, :1].astype(np.float32)

    def tokenize(texts):
        numbers = [world.CATEGORIES.index(text.split()[-1]) for text in texts]
        return np.stack([numbers, numbers], 1)

    given = {"size": SIZE, "first": 5, "ready": 2, "every": 10, "tokenize": tokenize}
    return Stream(folder, encode, **given | changes)


def test_pictures_come_with_what_is_of_them(tmp_path, drawn):
    found = stream(tmp_path).batch(0, 200, 0.25)
    latents, things = found["latents"], found["geometry"][:, 0, 0, 0].astype(int)
    own = np.array([world.CATEGORIES.index(NAMES[thing]) for thing in things])
    np.testing.assert_array_equal(found["tokens"][:, 1], own)
    for number in (5, 6):
        rows = latents[:, 0, 0, 0] == number
        assert rows.any()
        expected = np.random.default_rng(number).integers(48, size=4)[things[rows]]
        np.testing.assert_array_equal(found["categories"][rows][:, 3, 0], expected)
    # The cover is the first map of geometry, here the number of the thing.
    np.testing.assert_array_equal(found["things"][:, 0, 2, 1], things)
    assert not found["things"][:, 1:].any() and not found["false"].any()
    drawings = latents[:, 0, 0, 0] == 100
    assert 0.3 < drawings.mean() < 0.5  # two of five pictures
    assert 0.15 < found["dropped"].mean() < 0.35
    name = 1 + drawings + 1  # after the start token, the "s" of a drawing, and "a"
    np.testing.assert_array_equal(
        found["spoken"][np.arange(200), name], np.full(200, OF_THINGS | 1)
    )


def test_some_captions_are_false_and_say_so(tmp_path, drawn):
    found = stream(tmp_path).batch(0, 300, 0.25, lies=0.4)
    false = found["false"]
    assert not (false & found["dropped"]).any()
    assert 0.3 < false[~found["dropped"]].mean() < 0.5
    things = found["geometry"][:, 0, 0, 0].astype(int)
    own = np.array([world.CATEGORIES.index(NAMES[thing]) for thing in things])
    np.testing.assert_array_equal(found["tokens"][:, 1] != own, false)
    named = found["spoken"].max(1)
    np.testing.assert_array_equal(named, np.where(false, OF_THINGS, OF_THINGS | 1))
    novel = [world.CATEGORIES.index(name) for name in world.NOVEL]
    assert not np.isin(found["tokens"][:, 1], novel).any()


def test_one_more_chunk_joins_after_some_steps(tmp_path, drawn):
    found = stream(tmp_path)
    assert [list(found.numbers(step)) for step in (0, 9, 10, 25)] == [
        [5, 6],
        [5, 6],
        [5, 6, 7],
        [5, 6, 7, 8],
    ]
    assert found.numbers(10_000) == range(1007 - toybox_stream.WINDOW, 1007)


def test_a_stopped_run_goes_on_alike_and_renders_nothing_twice(tmp_path, drawn):
    whole = [stream(tmp_path / "a").batch(step, 8, 0.5) for step in range(30)]
    first = stream(tmp_path / "b")
    halves = [first.batch(step, 8, 0.5) for step in range(15)]
    before = len(drawn)
    again = stream(tmp_path / "b")
    halves += [again.batch(step, 8, 0.5) for step in range(15, 30)]
    for one, other in zip(whole, halves, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert drawn[before:] == [8]  # the only one that was not there
    assert not list((tmp_path / "b").glob("*.part.npz"))


def test_memory_holds_one_window(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(toybox_stream, "WINDOW", 3)
    found = stream(tmp_path, ready=3, every=1)
    for step in range(20):
        found.batch(step, 16, 0.0)
    assert len(found._kept) == 3


def test_a_place_shows_what_most_of_its_pixels_do():
    wall, floor, first = 0, 1, 2
    places = np.full((1, 4, 8), wall)
    places[0, :2, :2] = [[floor, floor], [floor, first + 3]]
    places[0, :2, 2:4] = [[first + 7, first + 5], [first + 7, floor]]
    found = most_frequent(places, 2)
    expected = [[3, 7, NOTHING, NOTHING], [NOTHING] * 4]
    np.testing.assert_array_equal(found, [expected])


def test_scenes_come_between_things(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "SCENES", 2)
    monkeypatch.setattr(world, "CHUNK", 2)
    found = stream(tmp_path, tokenize=lambda texts: np.zeros((len(texts), 77)))
    scenes, things = found.chunk(5), found.chunk(6)
    for chunk in (scenes, things):
        images = 2 * (pretraining.LOOKS + pretraining.HANDS)
        assert len(chunk.latents) == len(chunk.subject) == images
        np.testing.assert_array_equal(chunk.subject[:6], [0, 0, 0, 1, 1, 1])
        assert chunk.geometry.shape == (2, 4, 4, 17)
        assert np.isfinite(chunk.geometry).all()
        assert chunk.categories.shape == (2, 4, 4)
        assert chunk.things.shape == (2, len(toybox_stream.SHOWN), 4, 4)
        # All things together are what the cover is, but for the pixels' rounding.
        cover = chunk.things[:, :-2].astype(float).sum(1)
        assert np.abs(cover - chunk.geometry[..., 0]).max() < 0.3
        assert chunk.spoken.shape == (2, images, 77)
    np.testing.assert_allclose(scenes.things.astype(float).sum(1), 1)
    assert not things.things[:, 1:].any()
    covered = scenes.geometry[..., 0] > 0.6
    assert covered.any()
    assert (scenes.categories[covered] != NOTHING).all()
    assert (scenes.categories[scenes.geometry[..., 0] == 0] == NOTHING).all()

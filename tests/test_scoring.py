import dataclasses
import json

import numpy as np
import pytest
from hand_made import items
from miniature import picture

from sbir_jax.adapters.prompts import Prompts
from sbir_jax.data import DataError, images, published
from sbir_jax.data.dataset import Dataset, Records
from sbir_jax.embedder import Embedder
from sbir_jax.tasks.retrieval import (
    descriptor_cache,
    protocols,
    query_texts,
    scored_set,
)
from sbir_jax.tasks.retrieval.query_texts import Beside
from sbir_jax.tasks.retrieval.setup import Scoring
from sbir_jax.tasks.retrieval.task import validator


@pytest.fixture
def dataset():
    return Dataset(
        name="hand-made",
        classes=("red_cup", "dog"),
        seen=(),
        unseen=("red_cup", "dog"),
        sketches=items("sketch", [0, 1, 1], [11, 20, 20], ("a drawing",) * 3),
        photos=items("photo", [0, 0, 1], [10, 11, 20], ("ten", "eleven", "twenty")),
        skipped=(),
        fingerprint="",
    )


def beside(dataset, **score):
    protocol = protocols.make_protocol(dataset, dataset.unseen, "fine_grained")
    return query_texts.words_beside(Scoring(**score), dataset, protocol)


def test_no_words_by_default(dataset):
    assert beside(dataset) is None


class Files(list):
    """A data source of tfds, as far as `Records` asks."""

    def __getitems__(self, rows):
        return [{"image": self[row]} for row in rows]


@pytest.fixture
def chalk(dataset):
    """White on black, small in a corner; one sketch of the second class is empty."""
    drawn = np.zeros((120, 120, 3), np.uint8)
    drawn[60:80, 90:94] = drawn[60:64, 90:110] = 255
    files = [images.encode_png(picture) for picture in (drawn, drawn, 0 * drawn)]
    records = Records(Files(files), np.arange(3))
    return dataclasses.replace(
        dataset,
        sketches=dataclasses.replace(dataset.sketches, source=records),
        photos=dataclasses.replace(dataset.photos, source=records),
    )


def test_sketches_are_scored_as_they_are_unless_asked(chalk):
    scored, _ = scored_set.scored_on(Scoring(), chalk, "fine_grained")
    assert scored.fingerprint == chalk.fingerprint and scored.notes == chalk.notes
    found = scored.sketches.pixels([0, 2], 64)
    assert found[0].mean() < 30 and found[1, 20:40].max() == 0


def test_sketches_are_prepared_where_it_is_asked(chalk):
    asked = Scoring(prepare=True)
    scored, unseen = scored_set.scored_on(asked, chalk, "fine_grained")
    plain = chalk.sketches.pixels(range(3), 64)
    # Dark on white, in the middle; an empty sheet, which benchmarks may hold, stays.
    found = scored.sketches.pixels(range(3), 64)
    columns = np.flatnonzero((found[0, ..., 0] < 128).any(0))
    assert np.median(found[0]) == 255 and columns.mean() == pytest.approx(32, abs=2)
    np.testing.assert_array_equal(found[2], plain[2])
    # Photos are what an index holds, and labels are the same.
    photos = (items.photos.pixels([0], 64) for items in (chalk, scored))
    np.testing.assert_array_equal(*photos)
    assert unseen == chalk.unseen and scored.sketches.labels is chalk.sketches.labels
    # Descriptors that are kept, and reports, tell the two apart.
    assert scored.fingerprint != chalk.fingerprint
    assert scored.notes == ("sketches were made dark, centred and large first",)
    # A part of it is prepared, too.
    part = scored.subset(["dog"]).sketches
    np.testing.assert_array_equal(part.pixels([0], 64), found[1:2])


@pytest.mark.parametrize(
    ("task", "photos", "count"),
    [("category", "", 2), ("fine_grained", "", 1), ("fine_grained", "both", 3)],
)
def test_on_sketchy_a_task_ranks_the_photos_of_its_config(
    dataset, tmp_path, monkeypatch, task, photos, count
):
    monkeypatch.setenv("SBIR_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "sketchy"
    for name in published.split("sketchy", "21").unseen:
        picture(root / "sketch" / name / "drawn-1.png")
        picture(root / "photo" / name / "drawn.jpg")
        picture(root / "extended_photo" / name / "drawn.jpg")
        picture(root / "extended_photo" / name / "other.jpg")
    score = Scoring("sketchy", str(root), photos=photos)
    found, unseen = scored_set.scored_on(score, dataset, task)
    assert len(unseen) == 21 and len(found.photos) == count * 21


def test_photos_of_no_sketchy_are_refused(dataset, tmp_path):
    picture(tmp_path / "sketch" / "cup" / "drawn-1.png")
    picture(tmp_path / "photo" / "cup" / "drawn.jpg")
    score = Scoring("folder", str(tmp_path), photos="basic")
    with pytest.raises(DataError, match="folder takes no option photos"):
        scored_set.scored_on(score, dataset, "category")
    for key in ("photos", "split", "root"):
        message = rf"score\.{key} is 'x' and score\.name is empty.*set data\.{key}"
        with pytest.raises(ValueError, match=message):
            Scoring(**{key: "x"})


def test_words_are_those_of_the_query(dataset):
    dog = "a photo of a dog"
    found = beside(dataset, words="class")
    assert found == Beside(["a photo of a red cup", dog, dog], "picture", 0.5)
    # The photo's caption, not the sketch's.
    found = beside(dataset, words="caption", words_as="prompt", text_weight=1.0)
    assert found == Beside(["eleven", "twenty", "twenty"], "prompt", 1.0)


def test_captions_that_are_not_there_are_an_error(dataset):
    silent = dataclasses.replace(dataset.photos, captions=("ten", "", "twenty"))
    with pytest.raises(ValueError, match="1 of 3 sketches have no photo with a cap"):
        beside(dataclasses.replace(dataset, photos=silent), words="caption")


def test_other_words_are_refused():
    with pytest.raises(ValueError, match=r"words is 'label'; give class or"):
        Scoring(words="label")
    with pytest.raises(ValueError, match=r"words_as is 'sound'; give picture or"):
        Scoring(words_as="sound")


def test_every_protocol_has_a_folder_of_its_own():
    assert Scoring().folder == "."
    assert Scoring(cutoffs=(5,)).folder == "."
    found = Scoring(name="sketchy", generalised="gallery", words="class").folder
    assert found == "scores/sketchy-gallery-class-picture-0.5"
    found = Scoring(words="caption", words_as="prompt", text_weight=1.0).folder
    assert found == "scores/caption-prompt-1"
    assert Scoring(name="sketchy", photos="both").folder == "scores/sketchy-both"
    assert Scoring(name="sketchy", split="25").folder == "scores/sketchy-25"


class Counting(Embedder):
    """How often was it asked?"""

    fingerprint = "f"  # pyright: ignore

    def __init__(self):
        self.calls = 0

    def embed_items(self, items, indices, modality, texts=None, text_weight=1.0):
        self.calls += 1
        return np.eye(3, dtype=np.float32)[indices % 3]

    def embed_words(self, texts):
        return np.ones((len(texts), 3), np.float32)


def test_descriptors_are_kept_for_the_same_question_only(dataset, tmp_path):
    model = Counting()
    whole = protocols.make_protocol(dataset, dataset.unseen, "fine_grained")
    part = protocols.make_protocol(dataset, ("dog",), "fine_grained")

    def asked(protocol, *words):
        before = model.calls
        descriptor_cache.cached_embed(
            model, dataset, protocol, tmp_path, "frozen", *words
        )
        return model.calls > before

    assert asked(whole)
    assert not asked(whole)
    assert asked(part)
    assert asked(whole) and not asked(whole)
    assert asked(whole, Beside(["a"] * 3, "prompt", 1.0))
    assert not asked(whole, Beside(["a"] * 3, "prompt", 1.0))
    assert asked(whole, Beside(["b"] * 3, "prompt", 1.0))
    assert asked(whole, Beside(["b"] * 3, "prompt", 0.5))
    assert asked(whole, Beside(["b"] * 3, "picture", 0.5))
    assert not asked(whole, Beside(["b"] * 3, "picture", 0.5))


def _reverse(path):
    np.save(path, np.load(path)[::-1].copy())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: _reverse(folder / "learned_photo.npy"),
        lambda folder: np.save(folder / "learned_sketch.npy", np.zeros((3, 3))),
        lambda folder: (folder / "learned_photo.npy").unlink(),
        lambda folder: (folder / "learned.json").write_text('"from before"'),
        lambda folder: (folder / "learned.json").write_text("{"),
        lambda folder: (folder / "learned.json").write_text('{"of": 1, "files": 2}'),
    ],
)
def test_kept_descriptors_that_changed_are_made_again(dataset, tmp_path, spoil):
    model = Counting()
    protocol = protocols.make_protocol(dataset, dataset.unseen, "fine_grained")

    def ask():
        given = model, dataset, protocol, tmp_path, "learned"
        return descriptor_cache.cached_embed(*given)

    before, calls = ask(), model.calls
    spoil(tmp_path)
    for found, wanted in zip(ask(), before, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert model.calls > calls
    calls = model.calls
    ask()
    assert model.calls == calls


class Saying(Embedder):
    """A drawing is east, and so is what is said but for "twenty", which is north, or
    in a prompt south."""

    def __init__(self):
        self.said = []

    def embed_items(self, items, indices, modality, texts=None, text_weight=1.0):
        where = np.tile([1.0, 0.0], (len(indices), 1)).astype(np.float32)
        if texts is not None:
            where[:, 1] = [-text_weight * (text == "twenty") for text in texts]
        return where

    def embed_words(self, texts):
        self.said.append(texts)
        return np.eye(2, dtype=np.float32)[[int(text == "twenty") for text in texts]]


def test_words_move_the_queries_and_no_photo(dataset):
    model = Saying()
    protocol = protocols.make_protocol(dataset, dataset.unseen, "fine_grained")

    def embed(way, share):
        words = Beside(["eleven", "twenty", "twenty"], way, share)
        queries, gallery = descriptor_cache.embed(model, dataset, protocol, words)
        assert gallery.tolist() == [[1, 0]] * 3
        return queries

    side = np.sqrt(0.5)
    np.testing.assert_allclose(
        embed("picture", 0.5), [[1, 0], [side, side], [side, side]], atol=1e-5
    )
    assert model.said == [["eleven", "twenty"]]  # each once
    np.testing.assert_allclose(embed("picture", 1.0)[1:], [[0, 1], [0, 1]], atol=1e-5)
    assert embed("prompt", 0.5).tolist() == [[1, 0], [1, -0.5], [1, -0.5]]
    assert len(model.said) == 2


@pytest.mark.parametrize("task", ["category", "fine_grained"])
def test_prompts_are_chosen_on_held_out_seen_classes_only(task):
    labels = np.repeat(np.arange(4), 3)
    instances = np.arange(12)
    whole = Dataset(
        name="hand-made",
        classes=("red_cup", "dog", "car", "hat"),
        seen=("red_cup", "hat"),
        unseen=("dog",),
        val=("car",),
        sketches=items("sketch", labels, instances),
        photos=items("photo", labels, instances),
        skipped=(),
        fingerprint="",
    )
    asked = []
    descriptors = np.hstack([np.eye(4)[labels], 0.1 * np.eye(12)]).astype(np.float32)

    class Watched(Counting):
        def with_prompts(self, prompts):
            return self

        def embed_items(self, items, indices, modality, texts=None, text_weight=1.0):
            asked.extend(items.labels[indices])
            return descriptors[indices]

    figures = validator(Watched(), whole, task)(Prompts())
    assert set(asked) == {whole.classes.index("car")} and len(asked) == 6
    assert figures == {"mAP@all" if task == "category" else "Acc@1": 1.0}


def test_scorings_that_differ_in_root_or_cutoffs_only_have_folders_of_their_own(
    tmp_path,
):
    def folder(**score):
        return scored_set.folder(tmp_path, Scoring(**score))

    def report(where, **score):
        config = {"score": dataclasses.asdict(Scoring(**score))}
        path = tmp_path / where / "report.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"config": config}))

    assert folder() == "."
    report(".", cutoffs=(5,))
    assert folder(cutoffs=(5,)) == "."
    other = folder(cutoffs=(7,))
    assert other.startswith("scores/own-") and other != folder(cutoffs=(8,))
    one = {"name": "folder", "root": str(tmp_path / "one")}
    assert folder(**one) == "scores/folder"
    report("scores/folder", **one)
    assert folder(**one) == "scores/folder"
    two = folder(name="folder", root=str(tmp_path / "two"))
    assert two.startswith("scores/folder-")
    assert two != folder(**one, unseen="a,b")

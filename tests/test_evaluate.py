import dataclasses

import numpy as np
import pytest
import pytrec_eval
from hand_made import items

from sbir_jax.data.dataset import Dataset
from sbir_jax.metrics import ranking
from sbir_jax.tasks.retrieval import evaluation, protocols


@pytest.fixture
def dataset():
    classes = ("cup", "dog", "car", "hat")
    return Dataset(
        name="hand-made",
        classes=classes,
        seen=(),
        unseen=classes,
        sketches=items("sketch", [0, 0, 1, 1, 2, 3], [10, 11, 20, -1, 30, 40]),
        photos=items("photo", [0, 0, 0, 1, 1, 2], [10, 11, 12, 20, 21, 30]),
        skipped=(),
        fingerprint="",
    )


def test_protocol_takes_only_the_classes_asked_for(dataset):
    protocol = protocols.make_protocol(dataset, ("cup", "dog"), "category")
    np.testing.assert_array_equal(protocol.queries, [0, 1, 2, 3])
    np.testing.assert_array_equal(protocol.gallery, [0, 1, 2, 3, 4])
    assert protocol.summary() == {
        "task": "category",
        "queries": 4,
        "gallery": 5,
        "classes": 2,
        "left_out": 0,
    }


def test_sketches_with_nothing_to_find_are_left_out_and_counted(dataset):
    # Class hat has no photo; sketch 3 has no instance.
    category = protocols.make_protocol(dataset, ("dog", "hat"), "category")
    assert (len(category.queries), category.left_out) == (2, 1)
    fine = protocols.make_protocol(dataset, ("dog", "hat"), "fine_grained")
    assert (len(fine.queries), fine.left_out) == (1, 2)
    with pytest.raises(ValueError, match="none of the 1 sketches"):
        protocols.make_protocol(dataset, ("hat",), "category")


def test_chunks_do_not_change_the_figures(dataset, monkeypatch):
    protocol = protocols.make_protocol(dataset, ("cup", "dog", "car"), "category", (2,))
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
    scores = evaluation.similarity(queries, gallery)
    whole = evaluation.score(protocol, scores)
    monkeypatch.setattr(evaluation, "CHUNK", 2)
    parts = evaluation.score(protocol, scores)
    assert whole[0] == pytest.approx(parts[0])
    assert whole[1] == pytest.approx(parts[1])


def test_category_figures_against_the_full_matrix(dataset):
    protocol = protocols.make_protocol(dataset, ("cup", "dog", "car"), "category")
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
    score_rows = evaluation.similarity(queries, gallery)
    found, per_class = evaluation.score(protocol, score_rows)
    right = protocol.query_labels[:, None] == protocol.gallery_labels[None]
    order = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")
    top = evaluation.top(protocol, score_rows, [3, 0], 4)
    np.testing.assert_array_equal(top, order[[3, 0], :4])
    each = ranking.average_precision(
        ranking.relevant_ranks(-order.argsort(axis=1).astype(float), right)
    )
    assert found["mAP@all"] == pytest.approx(each.mean())
    assert per_class[1] == pytest.approx(each[protocol.query_labels == 1].mean())


def test_fine_grained_ranks_within_the_class(dataset):
    protocol = protocols.make_protocol(dataset, ("cup", "dog", "car"), "fine_grained")
    # Every sketch is nearest to the car's photo and then to its own.
    own = protocol.right(slice(None)).astype(float)
    scores = own + 2 * (protocol.gallery_labels == 2)
    found, _ = evaluation.score(protocol, lambda rows: scores[rows])
    assert found["Acc@1"] == 1.0
    assert found["Acc@1 (whole gallery)"] == pytest.approx(1 / 4)
    assert found["Acc@5 (whole gallery)"] == 1.0
    top = evaluation.top(protocol, lambda rows: scores[rows], [0], 1)
    assert protocol.right(slice(0, 1))[0, top[0, 0]]


def test_chance_is_what_blind_ranking_expects():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10), 20)).astype(np.int32)
    protocol = protocols.Protocol(
        "category",
        np.arange(200),
        np.arange(200),
        labels,
        labels,
        labels,
        labels,
        0,
        (50,),
    )
    found = evaluation.chance(protocol)
    # Expected AP of a random order with R of N right, H the N-th harmonic number.
    n, r = 200, 20
    h = np.sum(1 / np.arange(1, n + 1))
    expected = (h + (r - 1) / (n - 1) * (n - h)) / n
    assert found["mAP@all"] == pytest.approx(expected, rel=0.02)
    assert found["P@50"] == pytest.approx(0.1, rel=0.05)


def same_size(classes, photos):
    """A gallery sorted by class, as files are; the queries are its labels too."""
    labels = np.repeat(np.arange(classes), photos).astype(np.int32)
    rows = np.arange(len(labels))
    return protocols.Protocol(
        "category", rows, rows, labels, labels, rows, rows, 0, (10,)
    )


@pytest.mark.parametrize("task", ["category", "fine_grained"])
def test_a_model_that_tells_nothing_apart_scores_as_chance(task):
    protocol = dataclasses.replace(same_size(16, 12), task=task)
    same = np.ones((192, 4), np.float32) / 2
    rows = evaluation.similarity(same, same)
    found, _ = evaluation.score(protocol, rows)
    blind = evaluation.chance(protocol)
    for name, value in found.items():
        assert value == pytest.approx(blind[name], abs=0.04), name
    # What is shown is what was scored: here of the first five sketches.
    few = dataclasses.replace(
        protocol,
        queries=np.arange(5),
        query_labels=protocol.query_labels[:5],
        query_instances=protocol.query_instances[:5],
    )
    name, k = ("P@10", 10) if task == "category" else ("Acc@5", 5)
    shown = evaluation.top(few, rows, range(5), k)
    hits = np.take_along_axis(few.right(slice(None)), shown, axis=1)
    figure = hits if task == "category" else hits.any(axis=1)
    assert evaluation.score(few, rows)[0][name] == pytest.approx(figure.mean())
    assert figure.mean() < 1  # as it were in the gallery's own order


def test_descriptors_that_are_no_numbers_are_refused():
    protocol = same_size(2, 2)
    good = np.eye(4, dtype=np.float32)
    bad = good.copy()
    bad[2, 1] = np.nan
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="NaN: the descriptors are broken"):
            evaluation.score(protocol, evaluation.similarity(*pair))


def test_one_sketch_and_one_photo():
    for task in ("category", "fine_grained"):
        protocol = dataclasses.replace(same_size(1, 1), task=task)
        one = np.ones((1, 4), np.float32)
        found, _ = evaluation.score(protocol, evaluation.similarity(one, one))
        assert found.pop("P@10", 0.1) == 0.1 and set(found.values()) == {1.0}


def test_cut_offs_count_from_one(dataset):
    with pytest.raises(ValueError, match=r"cutoffs are \(100, 0\)"):
        protocols.make_protocol(dataset, ("cup",), "category", (100, 0))


@pytest.mark.parametrize("seed", range(4))
def test_accuracies_are_those_of_trec_eval(seed):
    """Within the class and in the whole gallery, with every photo there once or twice.

    As with the basic photos of Sketchy, and with these and the extended ones.
    """
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.integers(0, 6, 60))
    copies = 1 + seed % 2
    labels, instances = np.tile(classes, copies), np.tile(np.arange(60), copies)
    own = rng.integers(0, 60, 600)
    scores = rng.integers(0, 30, (600, 60 * copies)) + 8.0 * (own[:, None] == instances)
    scores += 1e-3 * rng.permutation(60 * copies)  # no ties: theirs are by name
    protocol = protocols.Protocol(
        "fine_grained", np.arange(600), np.arange(len(labels)), classes[own], labels,
        own, instances, 0, (),
    )  # fmt: skip
    found, per_class = evaluation.score(protocol, lambda rows: scores[rows])
    right = {str(q): {str(g): 1 for g in np.flatnonzero(instances == own[q])}
             for q in range(600)}  # fmt: skip
    for suffix, shown in (
        ("", labels == classes[own][:, None]),
        (evaluation.WHOLE, np.ones(scores.shape, bool)),
    ):
        run = {
            str(q): {str(g): float(scores[q, g]) for g in np.flatnonzero(shown[q])}
            for q in range(600)
        }
        said = pytrec_eval.RelevanceEvaluator(right, {"success.1,5,10"}).evaluate(run)
        for k in (1, 5, 10):
            each = np.array([said[str(q)][f"success_{k}"] for q in range(600)])
            assert found[f"Acc@{k}{suffix}"] == pytest.approx(each.mean(), abs=1e-9)
            if (k, suffix) == (1, ""):
                for label, value in per_class.items():
                    mine = each[classes[own] == label].mean()
                    assert value == pytest.approx(mine, abs=1e-9)
    assert found["Acc@1"] > found["Acc@1 (whole gallery)"]


def test_generalised_gallery_adds_all_seen_photos_and_no_query(dataset):
    split = dataclasses.replace(dataset, seen=("cup",), val=("car",), unseen=("dog",))
    plain = protocols.make_protocol(split, split.unseen, "category")
    wide = protocols.make_protocol(
        split, split.unseen, "category", generalised="gallery"
    )
    np.testing.assert_array_equal(plain.gallery, [3, 4])
    np.testing.assert_array_equal(wide.gallery, [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(wide.queries, plain.queries)


def test_generalised_sample_adds_a_fifth_of_seen_sketches_and_photos():
    labels = np.repeat(np.arange(4), 10)
    names = ("a", "b", "c", "d")
    whole = Dataset(
        name="hand-made",
        classes=names,
        seen=("a", "b"),
        unseen=("c", "d"),
        sketches=items("sketch", labels, labels),
        photos=items("photo", labels, labels),
        skipped=(),
        fingerprint="",
    )
    found = protocols.make_protocol(
        whole, whole.unseen, "category", generalised="sampled"
    )
    for rows, of in (
        (found.queries, found.query_labels),
        (found.gallery, found.gallery_labels),
    ):
        assert len(rows) == 20 + 4 and np.sum(of < 2) == 4
        np.testing.assert_array_equal(rows, np.unique(rows))
        np.testing.assert_array_equal(of, labels[rows])
    # Queries and photos are drawn apart.
    assert not np.array_equal(found.queries, found.gallery)
    again = protocols.make_protocol(
        whole, whole.unseen, "category", generalised="sampled"
    )
    np.testing.assert_array_equal(again.queries, found.queries)


def test_unknown_rules_are_refused(dataset):
    with pytest.raises(ValueError, match="generalised is 'gzs'; give one of"):
        protocols.make_protocol(dataset, ("cup",), "category", generalised="gzs")


def test_subsample_keeps_pairs_together(dataset):
    protocol = protocols.make_protocol(dataset, ("cup", "dog", "car"), "fine_grained")
    small = protocols.subsample(protocol, 2)
    assert len(small.queries) <= 2
    assert np.isin(small.query_instances, small.gallery_instances).all()
    # Evenly spaced photos alone would lose instance 11 here.
    assert len(protocols.subsample(protocol, 3).queries) == 3
    same = protocols.subsample(protocol, 100)
    for field in dataclasses.fields(protocol):
        np.testing.assert_array_equal(
            getattr(same, field.name), getattr(protocol, field.name)
        )


@pytest.mark.parametrize(
    ("queries", "photos", "marked"), [(50, 50, False), (49, 90, True), (90, 49, True)]
)
def test_figures_of_few_pictures_are_marked(queries, photos, marked):
    numbers = [np.arange(n) for n in (queries, photos) * 3]
    protocol = protocols.Protocol("category", *numbers, left_out=0, cutoffs=(1,))
    notes = protocol.weakness()
    assert len(notes) == marked
    if marked:
        assert f"{queries} sketches over {photos} photos" in notes[0]

"""Token matching: losses, new orders, matches, and runs from config to report."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_backbone
from fake_embedder import FakeEmbedder
from hand_made import items

from sbir_jax import experiment
from sbir_jax.adapters import token_files
from sbir_jax.backbones import loading
from sbir_jax.config import Experiment, base, dataset
from sbir_jax.data.dataset import Dataset
from sbir_jax.models.token_relation import Related
from sbir_jax.report import correspondences
from sbir_jax.reranker import WEIGHT, Reranker, mixed, standardised
from sbir_jax.search import build
from sbir_jax.search.explain import explain
from sbir_jax.search.index import Index
from sbir_jax.tasks.retrieval import protocols, reranked
from sbir_jax.tasks.retrieval.setup import Scoring
from sbir_jax.tasks.token_matching.evaluation import enough
from sbir_jax.tasks.token_matching.objective import pair_losses
from sbir_jax.tasks.token_matching.setup import PairConfig, PairScoring, TokenSetup

TORCH = importlib.util.find_spec("torch") is not None


def related(rng, b=5, c=7):
    sketch, photo = rng.normal(size=(2, b, c)).astype(np.float32)
    logit, none = rng.normal(size=b).astype(np.float32), np.zeros((b, 1, 1, 1))
    given = sketch, photo, logit, none, none, none[:, 0]
    return Related(*(jnp.asarray(x, jnp.float32) for x in given))


@pytest.mark.skipif(not TORCH, reason="needs PyTorch")
def test_both_losses_are_pytorchs():
    import torch

    rng = np.random.default_rng(0)
    right, wrong = related(rng), related(rng)
    triplet, error = pair_losses(right, wrong, PairConfig())
    rows = [
        torch.from_numpy(np.array(x)) for x in (right.sketch, right.photo, wrong.photo)
    ]
    theirs = torch.nn.TripletMarginLoss(margin=1.0, p=2)(*rows)
    assert float(triplet) == pytest.approx(theirs.item(), rel=1e-5)
    logits = np.concatenate([right.logit, wrong.logit])
    targets = torch.tensor([0.99] * 5 + [0.01] * 5)
    mse = torch.nn.MSELoss()(torch.from_numpy(logits).sigmoid(), targets)
    assert float(error) == pytest.approx(mse.item(), rel=1e-5)


def test_losses_are_small_for_what_they_want():
    near, far = jnp.zeros((2, 3)), jnp.full((2, 3), 9.0)
    none = jnp.zeros((2, 1, 1, 1))

    def pair(photo, logit):
        rest = jnp.full(2, logit), none, none, none[:, 0]
        return Related(near, photo, *rest)

    good = pair_losses(pair(near, 4.6), pair(far, -4.6), PairConfig())
    bad = pair_losses(pair(far, -4.6), pair(near, 4.6), PairConfig())
    assert float(good[0]) == 0 and float(good[1]) < 1e-4
    assert float(bad[0]) > 10 and float(bad[1]) == pytest.approx(0.96, abs=0.01)


@pytest.fixture
def protocol():
    made = Dataset(
        name="hand-made",
        classes=("cup", "dog"),
        seen=(),
        unseen=("cup", "dog"),
        sketches=items("sketch", [0, 1, 1], [1, 2, 3]),
        photos=items("photo", [0, 0, 1, 1, 1, 0], [1, 2, 3, 4, 5, 6]),
        skipped=(),
        fingerprint="",
    )
    return protocols.make_protocol(made, made.unseen, "category", (2,))


@pytest.mark.parametrize("first", [1, 3, 6, 0])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_new_order_is_that_of_a_plain_sort(protocol, first, share):
    rng = np.random.default_rng(first)
    scores = rng.permuted(np.arange(18.0).reshape(3, 6), axis=1).astype(np.float32)
    told_all = rng.normal(size=(3, 6)).astype(np.float32)
    order = reranked.first_photos(lambda rows: scores[rows], protocol, first)
    told = np.take_along_axis(told_all, order, 1)
    shown = reranked.reordered(lambda rows: scores[rows], order, told, share)
    count = first or 6
    found = shown(slice(0, 3))
    for row, new, said in zip(scores, found, told_all, strict=True):
        before = sorted(range(6), key=lambda j: -row[j])
        head = before[:count]
        own, new_told = (np.array([v[j] for j in head], float) for v in (row, said))

        def scaled(values):
            spread = values.std()
            return (values - values.mean()) / spread if spread else 0 * values

        mix = share * scaled(new_told) + (1 - share) * scaled(own)
        wanted = [head[i] for i in np.argsort(-mix, kind="stable")] + before[count:]
        assert np.argsort(-new, kind="stable").tolist() == wanted
    assert shown(slice(1, 2)).tolist() == found[1:2].tolist()


def test_scores_of_two_scales_are_mixed_in_standard_deviations():
    told, own = np.array([100.0, 300.0]), np.array([0.2, 0.1])
    assert mixed(told, own, 0.75).tolist() == pytest.approx([-0.5, 0.5])
    assert standardised(np.ones(3)).tolist() == [0, 0, 0]
    assert standardised(np.zeros(0)).shape == (0,)


def test_how_many_photos_are_enough():
    assert enough({5: 0.5, 10: 0.8, 20: 0.795, 50: 0.805}) == 10
    assert enough({5: 0.8}) == 5


def seen(strength, side=4, ink=(5, 6)):
    """Two pictures of 32 px, with strokes in some places."""
    sketch = np.full((32, 32, 3), 255, np.uint8)
    for place in ink:
        y, x = divmod(place, side)
        sketch[8 * y + 3, 8 * x + 2 : 8 * x + 6] = 0
    m, n = strength.shape
    return correspondences.Seen(
        sketch,
        np.full((32, 32, 3), 90, np.uint8),
        correspondences.TEMPERATURE * np.log(strength),
        np.arange(m),
        np.arange(n),
        side,
        0.3,
    )


def test_places_with_strokes_are_answered_by_those_that_choose_them():
    strength = np.ones((16, 16))
    strength[5, 9], strength[6, 3], strength[0, 0] = 40, 80, 900
    found = correspondences.answers(seen(strength))
    # Nothing is drawn at 0, however sure the two corners are.
    pairs = [(one.sketch_patch, one.photo_patch) for one in found]
    assert pairs == [(6, 3), (5, 9)]
    assert found[0].sketch == (2.5 / 4, 1.5 / 4) and found[0].photo == (3.5 / 4, 0.125)
    assert found[0].strength > found[1].strength > 1


def test_tokens_that_were_left_out_keep_their_places():
    strength = np.ones((2, 3))
    strength[1, 2] = 50
    some = seen(strength)._replace(
        sketch_patches=np.array([4, 6]), photo_patches=np.array([1, 7, 15])
    )
    (found,) = correspondences.answers(some)
    assert (found.sketch_patch, found.photo_patch) == (6, 15)


def test_lines_are_of_places_that_do_not_touch():
    strength = np.ones((16, 16))
    for own, their in ((5, 0), (6, 10), (15, 12)):
        strength[own, their] = 50
    found = correspondences.answers(seen(strength, ink=(5, 6, 15)))
    chosen = correspondences.apart(found, 4)
    assert len(found) == 3 and len(chosen) == 2
    assert {one.sketch_patch for one in chosen} & {15} == {15}
    assert len(correspondences.apart(found, 4, count=1)) == 1


def test_matched_places_have_one_colour_on_both_pictures():
    strength = np.ones((16, 16))
    strength[5, 9] = strength[6, 3] = 60
    picture = correspondences.picture(seen(strength))
    edge, gap = correspondences.EDGE, correspondences.GAP
    assert picture.shape == (edge + 2 * gap, 2 * edge + 3 * gap, 3)

    def at(place, left):
        """Beside the line's end, which is in the middle."""
        y, x = divmod(place, 4)
        return picture[gap + 96 * y + 88, left + 96 * x + 88].astype(int)

    sketch, photo = gap, 2 * gap + edge
    tints = []
    for own, their in ((5, 9), (6, 3)):
        colour = np.array(correspondences.colour(correspondences._middle(own, 4)))
        tints.append(colour)
        paper, grey = (1 - correspondences.TINT) * np.array([[255], [90]])
        tinted = correspondences.TINT * colour
        np.testing.assert_allclose(at(own, sketch), paper + tinted, atol=2)
        np.testing.assert_allclose(at(their, photo), grey + tinted, atol=2)
    assert np.abs(tints[0] - tints[1]).max() > 60
    assert at(0, sketch).tolist() == [255] * 3


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (PairConfig, {"right": 0.0}, "train.right 0.0"),
        (PairConfig, {"triplet_weight": 0.0, "relation_weight": 0.0}, "one above 0"),
        (PairScoring, {"by": "sa"}, "score.by is 'sa'; give relation or retrieval"),
        (PairScoring, {"first": -1}, "score.first is -1"),
        (PairScoring, {"words": "class"}, "leave them out"),
        (Scoring, {"rerank": 20}, "give both"),
        (Scoring, {"rerank": 2, "reranker": "r", "rerank_weight": 2.0}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_is_told(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)
    with pytest.raises(ValueError, match="select_on is 'train'"):
        TokenSetup(task="tokens", data={}, select_on="train")
    with pytest.raises(ValueError, match="weights is empty"):
        TokenSetup(task="tokens", data={}, score_only=True)


SMALL = {"patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp": 24, "stem": (4, 6)}


def tokens_config(root, cache, **score):
    config = base("tokens")
    config.data = dataset("folder", root=str(root), cache_dir=str(cache))
    config.data.unseen = "gem,ring"
    config.image_size, config.val_classes = 32, 2
    config.vit.update(SMALL)
    config.relation.update({"heads": 2, "mlp": 16, "reduced": 8})
    config.train.update({"steps": 4, "batch_size": 8, "save_every": 2})
    config.train.update({"score_every": 2, "learning_rate": 1e-3})
    config.score.update({"cutoffs": (2,), **score})
    return config


def go(config, folder):
    opened = experiment.open(Experiment.from_config(config), folder)
    return opened, opened.go()


@pytest.fixture(scope="module")
def tokens_run(shapes_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("tokens")
    config = tokens_config(shapes_root, root / "cache")
    return config, root / "run", *go(config, root / "run")


def test_a_run_of_zse_from_config_to_report(tokens_run):
    config, folder, opened, summary = tokens_run
    found = {row["name"]: row["metrics"] for row in summary["results"]}
    rivals = ["hog", "pixels", "chance"]
    assert list(found) == ["frozen", "learned", "retrieval", *rivals]
    assert summary["protocol"]["selected on"] == "held-out seen classes"
    assert summary["protocol"]["pairs a query"] == 8
    assert summary["depth"]["photos"] == [5, 8]
    whole = found["learned"]["mAP@all"]
    assert summary["depth"]["value"][-1] == pytest.approx(whole)
    assert summary["cost"]["pairs_a_second"] > 0
    page = (folder / "report.html").read_text()
    for title in ("How many photos to re-rank", "What pairs cost"):
        assert f"<h2>{title}</h2>" in page
    assert "Which place answers which" in page

    # What was kept is what a re-ranker of the run scores with.
    model = Reranker.from_run(folder)
    assert model.fingerprint == summary["fingerprint"]
    protocol, data = opened.task.protocol, opened.task.scored
    sketch = data.sketches.pixels(protocol.queries[:1], 32)[0]
    photos = list(data.photos.pixels(protocol.gallery, 32))
    told = np.fromfile(folder / "features" / "learned_pairs.bin", np.float32)[:8]
    scores = np.sort(model.score(sketch, photos))
    np.testing.assert_allclose(scores, np.sort(told), atol=1e-2)  # of float16 tokens
    assert model.look(sketch, photos[0]).alike.shape == (16, 16)

    # Again: nothing is trained or scored once more.
    # What is kept has a stamp, written when it is made.
    kept = [p for p in (folder / "features").iterdir() if p.suffix == ".json"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    again = go(config, folder)[1]
    assert again["results"] == summary["results"]
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_published_weights_are_scored_without_training(
    tokens_run, shapes_root, tmp_path
):
    _, folder, _, summary = tokens_run
    model = Reranker.from_run(folder)
    token_files.save(tmp_path / "zse.safetensors", model.matcher)
    config = tokens_config(shapes_root, folder.parent / "cache")
    config.weights, config.score_only = str(tmp_path / "zse.safetensors"), True
    config.select_on, config.score.by = "test", "retrieval"
    again, found = go(config, tmp_path / "run")
    assert found["kept_step"] == 0 and not again.task.validates
    assert again.given.dataset.val == ()
    rows = {row["name"]: row["metrics"] for row in found["results"]}
    before = {row["name"]: row["metrics"] for row in summary["results"]}
    assert rows["learned"] == before["retrieval"] and "depth" not in found
    assert Reranker.from_run(tmp_path / "run").fingerprint == found["fingerprint"]
    assert found["protocol"]["selected on"].startswith("the test set itself")


def test_the_choice_of_tokens_begins_where_a_run_that_kept_all_ended(
    tokens_run, shapes_root, tmp_path
):
    config, folder = tokens_config(shapes_root, tmp_path / "cache"), tokens_run[1]
    config.weights, config.relation.reduced = str(folder), 0
    config.vit.update({"keep": 0.5, "selects": (1,)})
    setup = Experiment.from_config(config)
    opened = experiment.open(setup, tmp_path / "run")
    began = opened.task.init(jax.random.key(1))
    kept = jax.device_get(Reranker.from_run(folder).matcher.source)
    assert jax.tree.all(jax.tree.map(np.array_equal, began.source, kept))
    opened.go()
    assert "keep=0.5" in Reranker.from_run(tmp_path / "run").source.identity

    config.vit.mlp += 8
    opened = experiment.open(Experiment.from_config(config), tmp_path / "other")
    with pytest.raises(ValueError, match=r"of another size; set vit\.\*"):
        opened.task.init(jax.random.key(1))


@pytest.fixture
def rerank_config(monkeypatch, shapes_root, tmp_path):
    monkeypatch.setitem(loading.FAMILIES, "ToyPipeline", toy_backbone.load)
    config = base("reranking")
    config.data = dataset("folder", root=str(shapes_root), unseen="gem,ring")
    config.data.cache_dir = str(tmp_path / "cache")
    config.backbone = str(toy_backbone.save(tmp_path / "toy"))
    config.recipe.update({"taps": ("mixed", "out"), "copies": 2})
    config.reader.update({"width": 12, "grid": 4})
    config.relation.update({"heads": 2, "mlp": 16, "reduced": 8})
    config.val_classes = 2
    config.train.update({"steps": 4, "batch_size": 8, "score_every": 2})
    config.score.update({"cutoffs": (2,), "first": 6, "weight": 0.5})
    return config


def test_frozen_tokens_re_rank_descriptors(rerank_config, tmp_path):
    folder = tmp_path / "run"
    _, summary = go(rerank_config, folder)
    found = {row["name"]: row["metrics"] for row in summary["results"]}
    rows = ["frozen", "learned", "untrained", "relation", "hog", "pixels", "chance"]
    assert list(found) == rows
    assert summary["depth"]["photos"] == [5, 6]
    assert (folder / "tokens" / "sketch-0.bin").stat().st_size > 0
    model = Reranker.from_run(folder)
    assert model.fingerprint == summary["fingerprint"]
    assert model.source.raw == (4, 4, 2 * toy_backbone.WIDTH)

    # The descriptors are those of retrieval, whose own re-ranking gives the same row.
    config = base("category")
    config.data, config.backbone = rerank_config.data, rerank_config.backbone
    config.recipe, config.val_classes = rerank_config.recipe, 2
    config.train.update({"steps": 1, "batch_size": 8, "learning_rate": 1e-9})
    config.score.update({"cutoffs": (2,), "rerank": 6, "reranker": str(folder)})
    config.score.rerank_weight = 0.5
    again = go(config, tmp_path / "retrieval")[1]
    theirs = {row["name"]: row["metrics"] for row in again["results"]}
    assert theirs["frozen"] == found["frozen"]
    assert theirs["reranked"]["mAP@all"] == pytest.approx(found["learned"]["mAP@all"])
    assert again["page"].endswith("scores/reranked6-0.5/report.html")


def test_a_run_of_another_task_or_another_network_is_no_re_ranker(tokens_run, tmp_path):
    _, folder, *_ = tokens_run
    with pytest.raises(FileNotFoundError, match="task=reranking"):
        Reranker.from_run(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"task": "category"}, "of the task category; a re-ranker is one of the task"),
        ({"relation": {**config["relation"], "mlp": 8}}, "is damaged: its relation"),
    ):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        for name in ("checkpoints", "owner.json"):
            if not (other / name).exists():
                (other / name).symlink_to(folder / name)
        (other / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            Reranker.from_run(other)


def test_tokens_are_the_same_on_one_device_and_on_eight(tokens_run):
    from sbir_jax.runtime import sharding

    _, folder, *_ = tokens_run
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (5, 32, 32, 3), np.uint8)
    one, eight = (
        Reranker.from_run(folder, sharding.make_mesh(devices=jax.local_devices()[:n]))
        for n in (1, 8)
    )
    scores = one.score(pixels[0], list(pixels[1:]))
    np.testing.assert_allclose(
        eight.score(pixels[0], list(pixels[1:])), scores, atol=1e-5
    )


def test_a_search_is_re_ranked_by_a_run(tokens_run, shapes_root, tmp_path):
    _, folder, *_ = tokens_run
    photos = shapes_root / "photo"
    build.build([str(photos)], tmp_path / "index", FakeEmbedder(), progress=False)
    given = {"embedder": FakeEmbedder(), "reranker": str(folder)}
    sketch = str(shapes_root / "sketch" / "box" / "box0-1.png")
    with Index.open(tmp_path / "index", **given) as index:
        plain = index.search(sketch, k=24, prepare=False)
        found = index.search(sketch, k=24, prepare=False, rerank=10)
        told = index.reranker.score(sketch, [hit.path for hit in plain[:10]])
        wanted = np.argsort(
            -mixed(told, np.array([hit.score for hit in plain[:10]]), WEIGHT)
        )
        assert [hit.path for hit in found[:10]] == [plain[i].path for i in wanted]
        assert found[10:] == plain[10:] and index.info()["reranker"]
        told = explain(index.reranker, sketch, found[0].path)
        assert 0 < told.score < 1 and told.matches

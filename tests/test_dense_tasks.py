"""Dense tasks from a config to a report, and what their runs are good for."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dense_miniature import miniature, picture
from PIL import Image

from sbir_jax import config, experiment
from sbir_jax.data import dense as dense_data
from sbir_jax.dense.depth_estimator import DepthEstimator
from sbir_jax.dense.model import DenseModel
from sbir_jax.dense.segmenter import Segmenter
from sbir_jax.tasks.dense.depth import silog
from sbir_jax.tasks.dense.setup import DenseTrainConfig

# Minutes of compiling: `make test-all` runs it.
pytestmark = pytest.mark.slow


@pytest.fixture
def opened(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setattr(dense_data, "load", lambda task, **_: miniature(task))

    def open(task, folder="run", **more):
        made = config.base(task)
        made.backbone = str(tiny_folder)
        made.width, made.val_examples = 16, 4
        made.train.update({"steps": 4, "batch_size": 8, "learning_rate": 0.02})
        made.train.update({"score_every": 2, "save_every": 2, "log_every": 1})
        made.train.update(more.pop("train", {}))
        made.update(more)
        setup = config.Experiment.from_config(made)
        return experiment.open(setup, tmp_path / folder)

    return open


def figures(report, name):
    return next(r["metrics"] for r in report["results"] if r["name"] == name)


def test_segmentation_runs_to_a_report_and_segments_photos(opened, tmp_path):
    run = opened("segmentation", training_free=False, augment="flip")
    report = run.go()
    names = [result["name"] for result in report["results"]]
    assert names == ["learned", "per place", "chance"]
    learned = figures(report, "learned")
    assert {"mIoU", "pixel accuracy", "mIoU of groups", "mIoU, far"} <= set(learned)
    # All ground: the block's IoU is 0, and the ground's its share.
    share = np.mean([1 - picture(i)[1].mean() for i in range(4)])
    assert figures(report, "chance")["mIoU"] == pytest.approx(share / 2, abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Pictures of near" in page
    assert "Learned heads" in page
    assert not (tmp_path / "run" / "inputs").exists()

    segmenter = Segmenter.from_run(tmp_path / "run")
    photo = Image.fromarray(np.tile(picture(0)[0], (1, 2, 1))[:27, :50])
    found = segmenter.segment(photo, ["block"])
    assert found.labels.shape == (27, 50)
    assert found.mask("block").mean() == pytest.approx(found.shares["block"])
    with pytest.raises(ValueError, match="this run knows no mug; it knows ground"):
        segmenter.segment(photo, ["mug"])
    with pytest.raises(ValueError, match="task=segmentation; give one of depth"):
        DepthEstimator.from_run(tmp_path / "run")


def test_depth_on_kept_levels_and_its_estimator(opened, tmp_path):
    run = opened("depth", adapter=False)
    assert run.task.setup.keeps_levels
    report = run.go()
    constant, place = figures(report, "chance"), figures(report, "per place")
    train = miniature("depth").train.held_out(4)[0]
    mean = np.mean([e.target for e in train])
    errors = [
        np.sqrt(np.mean((e.target - mean) ** 2))
        for e in run.given.dataset.tests["near"]
    ]
    assert constant["RMSE"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert place["RMSE"] != constant["RMSE"]
    assert report["metrics"]["RMSE"] == {"better": "lower", "unit": "m"}
    assert (
        json.loads((tmp_path / "run" / "report.json").read_text())["primary"] == "RMSE"
    )

    estimator = DepthEstimator.from_run(tmp_path / "run")
    assert estimator.places == ("hall", "kitchen")
    photo, depth = estimator.estimate(Image.fromarray(picture(0)[0][:, :20]), "hall")
    assert photo.shape[:2] == depth.shape == (32, 20)
    assert 0 < depth.min() <= depth.max() < 10
    with pytest.raises(ValueError, match="this run knows hall, kitchen"):
        estimator.estimate(photo, "attic")


def test_referring_learns_the_adapter_and_takes_expressions(opened, tmp_path):
    run = opened("referring", training_free=False, text_length=8)
    start = run.task.init(jax.random.key(0))
    report = run.go()
    assert figures(report, "chance")["P@0.5"] == 0
    masks = [picture(i)[1] for i in range(4)]
    whole = sum(m.sum() for m in masks) / sum(m.size for m in masks)
    assert figures(report, "chance")["oIoU"] == pytest.approx(whole)
    learned = figures(report, "learned")
    assert {"oIoU", "mIoU of expressions", "P@0.9"} <= set(learned)
    segmenter = Segmenter.from_run(tmp_path / "run")
    model = segmenter._learned._model
    moved = jnp.abs(model.adapter.gamma - start.adapter.gamma).max()
    assert float(moved) > 0
    found = segmenter.segment(picture(0)[0], ["the bright block", "something else"])
    assert found.labels.shape == (32, 32)


def test_kept_levels_train_as_levels_read_anew(opened):
    """A step on cached features is the step without the cache."""
    run = opened("depth", adapter=False)
    task = run.task
    batch = next(iter(task.batches(0)))
    drawn, flips = task_rows(task)
    images = np.stack([task.train[int(i)].image for i in drawn])
    assert not flips.any()
    found = task.levels(
        DenseModel(), task.here, jnp.asarray(images / 127.5 - 1, jnp.float32),
        jnp.asarray(batch["text"]),
    )  # fmt: skip
    for kept, fresh in zip(batch["inputs"], found, strict=True):
        np.testing.assert_allclose(kept, fresh, atol=0.02, rtol=0.01)  # float16


def task_rows(task):
    from sbir_jax.tasks.dense.inputs import Drawing

    drawing = Drawing(task.setup, task.data, task.train, task.given.size, task.text_of)
    return drawing.rows(0)


def test_unet_rate_trains_the_denoiser_slowly(opened):
    rate = 0.1
    run = opened("depth", train={"unet_rate": rate, "steps": 1}, adapter=False)
    assert run.task.parts == ("head", "unet")
    start = run.task.init(jax.random.key(0))
    grads = jax.tree.map(jnp.ones_like, start)
    optimiser = DenseTrainConfig(
        learning_rate=0.5, warmup=0.0, unet_rate=rate
    ).optimiser()
    state = optimiser.init(start)
    updates, state = optimiser.update(grads, state, start)
    updates, _ = optimiser.update(grads, state, start)  # the warm-up's first step is 0
    moved = [
        float(jnp.abs(jax.tree.leaves(part)[0]).max())
        for part in (updates.unet, updates.head)
    ]
    assert moved[0] == pytest.approx(rate * moved[1], rel=1e-3)
    frozen = DenseTrainConfig(learning_rate=0.5).optimiser()
    assert isinstance(frozen, optax.GradientTransformation)


def test_silog_is_the_published_formula():
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 5, (2, 6, 6)).astype("f")
    truth[0, 0] = 0
    found = rng.uniform(1, 5, truth.shape).astype("f")
    known = truth > 0
    d = np.log(truth[known]) - np.log(found[known])
    wanted = np.sqrt((d**2).mean() - 0.5 * d.mean() ** 2)
    assert float(silog(jnp.asarray(found), jnp.asarray(truth))) == pytest.approx(wanted)
    gradient = jax.grad(silog)(jnp.asarray(truth), jnp.asarray(truth))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"augment": "flip"}, "left and right"),
        ({"features": "edges"}, "features is 'edges'; give backbone or colour"),
        ({"features": "colour"}, "give read.maps=False"),
        ({"rows_at_once": 3}, "rows_at_once is 3"),
        ({"train": {"unet_rate": 2.0}}, "train.unet_rate is 2.0"),
        ({"train": {"batch_size": 6}}, "must be multiples of 8"),
        ({"val_examples": 16}, "val_examples is 16"),
    ],
)
def test_settings_that_cannot_work_are_refused(opened, more, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        opened("referring", **more)

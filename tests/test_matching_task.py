"""The matching task from its config to its report, on a backbone that is quick."""

import dataclasses
import json

import coloured_sheets
import numpy as np
import pytest
import toy_backbone

from sbir_jax import experiment
from sbir_jax.backbones import loading
from sbir_jax.config import Experiment, base
from sbir_jax.data import matching
from sbir_jax.tasks.matching import evaluation, rivals, scores
from sbir_jax.tasks.matching.matcher import Matcher
from sbir_jax.tasks.matching.setup import ShotsConfig

# Minutes of compiling: `make test-all` runs it.
pytestmark = pytest.mark.slow


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.setitem(matching.SETS, "sheets", coloured_sheets.load)
    monkeypatch.setitem(loading.FAMILIES, "ToyPipeline", toy_backbone.load)
    config = base("matching")
    config.backbone = str(toy_backbone.save(tmp_path / "toy"))
    config.data = {"name": "sheets", "count": 12}
    config.train.update({"steps": 12, "save_every": 6, "shots": 8.0, "candidates": 3})
    config.recipe.timesteps = 4
    return config


def run(config, folder):
    opened = experiment.open(Experiment.from_config(config), folder)
    return opened, opened.go()


def test_a_run_from_config_to_report(config, tmp_path):
    folder = tmp_path / "run"
    opened, summary = run(config, folder)
    found = {row["name"]: row["metrics"] for row in summary["results"]}
    rivals = ["diffusion_itm", "diffusion_classifier"]
    assert list(found) == ["frozen", "learned", *rivals, "chance"]
    assert summary["primary"] == "Acc (kinds)"
    assert set(found["learned"]) == set(found["chance"]) == {
        "Acc (kinds)", "Acc (one)", "Acc (two)", "Acc", "R@2"
    }  # fmt: skip
    assert summary["protocol"]["shots"] == 8 and summary["kept_step"] == 12
    errors = summary["errors"]["learned"]["Acc (one)"]
    assert errors["value"] == found["learned"]["Acc (one)"] and errors["count"] == 12
    assert 0 <= errors["error"] < 0.2
    curve = summary["cost"]["learned"]
    assert curve["passes"] == [1, 2, 4]
    assert curve["value"][-1] == found["learned"]["Acc (kinds)"]
    page = (folder / "report.html").read_text()
    for title in ("By kind of candidate", "What it costs", "Where the words are"):
        assert f"<h2>{title}</h2>" in page
    assert "passes a pair" in page and "Training-free" in page

    # What was learned is what a matcher of the run scores with.
    matcher = Matcher.from_run(folder)
    assert matcher.adapter.temperature != 0
    assert matcher.fingerprint == summary["fingerprint"]
    test = opened.given.dataset.test
    every = matcher.score(test.images, opened.task.pairs.texts)
    pairs = opened.task.pairs
    figures = evaluation.figures(test, pairs, every[pairs.images, pairs.rows])
    assert figures["Acc"].value == found["learned"]["Acc"]

    # Again: nothing is trained or scored once more.
    files = sorted((folder / "scores").iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    _, again = run(config, folder)
    assert again["results"] == summary["results"]
    assert [path.stat().st_mtime_ns for path in files] == before
    (folder / "scores" / "learned.npz").unlink()
    assert run(config, folder)[1]["results"] == summary["results"]


def test_a_gain_is_learned_and_read_back(config, tmp_path):
    config.adapter.gain, config.rivals = True, False
    _, summary = run(config, tmp_path / "run")
    matcher = Matcher.from_run(tmp_path / "run")
    assert matcher.adapter.gain is not None and float(matcher.adapter.gain) != 0
    assert matcher.fingerprint == summary["fingerprint"]


def test_linear_scores_are_read_once_and_mean_the_same(config, tmp_path, monkeypatch):
    config.adapter.update({"temperature": False, "gain": True})
    config.rivals = False
    reads = []
    read = Matcher.pair_parts
    monkeypatch.setattr(
        Matcher, "pair_parts", lambda *given, **k: reads.append(1) or read(*given, **k)
    )
    opened, summary = run(config, tmp_path / "run")
    found = {row["name"]: row["metrics"] for row in summary["results"]}
    # Of the shots, of one pair to compile, and of the test.
    assert len(reads) == 3
    assert [file.name for file in (tmp_path / "run/scores").iterdir()] == ["parts.npz"]
    matcher = Matcher.from_run(tmp_path / "run")
    assert matcher.adapter.temperature == 0 and float(matcher.adapter.gain) != 0
    test, pairs = opened.given.dataset.test, opened.task.pairs
    for name, model in (
        ("learned", matcher),
        ("frozen", Matcher.from_pretrained(config.backbone, matcher.recipe)),
    ):
        every = model.score(test.images, pairs.texts)
        figures = evaluation.figures(test, pairs, every[pairs.images, pairs.rows])
        assert figures["Acc"].value == found[name]["Acc"]
    # A question's loss is that of its candidates' whole scores.
    batch = next(iter(opened.task.shots.batches(0)))
    few = opened.task.few
    row = opened.task.shots.read["parts"][0]
    item = opened.task.shots.candidates(0, np.random.default_rng((0, 0)))
    whole = matcher.score([few.images[item.images[0]]], item.texts)[0]
    summed = scores.summed(matcher.adapter, row).mean(-1)
    # A gain is in thousandths of numbers near 1, so much of their digits is gone.
    np.testing.assert_allclose(summed, whole, atol=2e-3)
    assert set(batch) == {"parts", "real"}


def test_without_shots_nothing_is_trained(config, tmp_path):
    config.train.shots, config.rivals = 0.0, False
    _, summary = run(config, tmp_path / "run")
    assert [row["name"] for row in summary["results"]] == ["frozen", "chance"]
    matcher = Matcher.from_run(tmp_path / "run")
    plain = Matcher.from_pretrained(config.backbone, matcher.recipe)
    assert matcher.fingerprint == plain.fingerprint


def test_training_lowers_the_loss(config, tmp_path):
    """The scale alone can: where the right text is what the toy itself prefers."""
    config.train.update({"steps": 40, "shots": 16.0, "learning_rate": 0.1})
    opened = experiment.open(Experiment.from_config(config), tmp_path / "run")
    task = opened.task
    texts = sorted({t for item in task.few.items for t in item.texts})
    liked = task.matcher.score(task.few.images, texts)

    def best_first(item):
        row = liked[item.images[0]]
        ordered = sorted(item.texts, key=lambda text: -row[texts.index(text)])
        return dataclasses.replace(item, texts=tuple(ordered))

    items = [best_first(item) for item in task.few.items]
    task.few = dataclasses.replace(task.few, items=items)
    opened.go()
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.9 * losses[0]


def test_weights_by_importance_are_fixed(config, tmp_path):
    config.adapter.weights = "importance"
    opened, _ = run(config, tmp_path / "run")
    assert "heads" not in opened.task.parts
    heads = Matcher.from_run(tmp_path / "run").adapter.heads
    np.testing.assert_allclose(heads, np.log([1.0]), atol=1e-6)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("train.shots", -1.0, "train.shots is -1"),
        ("train.shots", 2.5, "give whole pairs"),
        ("train.loss", "soft", "give one of softmax, hinge"),
        ("train.candidates", 1, "train.candidates is 1"),
        ("questions_at_once", 3, "give a divisor of train.batch_size"),
        ("recipe.layers", ("left",), "no cross-attention layer"),
        ("recipe.last", 5000, "last timestep is 999"),
        ("train.shots", 300.0, "300 shots of 16 pairs"),
        ("data.name", "sheet", "known are"),
    ],
)
def test_runs_that_cannot_work_end_before_they_begin(
    config, tmp_path, key, value, words
):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=words):
        experiment.open(Experiment.from_config(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_importance_needs_shots():
    setup = Experiment.from_config
    config = base("matching")
    config.train.shots, config.adapter.weights = 0.0, "importance"
    with pytest.raises(ValueError, match=r"give some, or adapter\.weights=plain"):
        setup(config)
    assert ShotsConfig().shots == 64


def test_a_matcher_needs_a_run_of_its_task(tmp_path):
    with pytest.raises(FileNotFoundError, match="task=matching --workdir"):
        Matcher.from_run(tmp_path)
    (tmp_path / "config.json").write_text('{"task": "category"}')
    with pytest.raises(ValueError, match="a run of the task category"):
        rivals.open_scorer(str(tmp_path))

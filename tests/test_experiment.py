"""The whole path on a tiny backbone and polygons, as a user starts it."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from absl import flags
from conftest import EARLY

from sbir_jax import experiment
from sbir_jax.adapters.prompts import PromptConfig, Prompts, init_prompts
from sbir_jax.backbones import loading
from sbir_jax.backbones.frozen import PARTS, text_states
from sbir_jax.config import Experiment, base
from sbir_jax.embedder import Embedder
from sbir_jax.runtime import checkpoint
from sbir_jax.tasks import base as base_task
from sbir_jax.tasks.retrieval import objective, task
from sbir_jax.train_step import Step

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

REPO = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def make_config(tiny_folder, shapes_root, tmp_path_factory):
    cache = tmp_path_factory.mktemp("prepared")

    def make(task="category", **train):
        config = base(task)
        config.backbone = str(tiny_folder)
        config.val_classes = 2
        config.score.cutoffs = (2,)
        config.recipe.copies = 2
        config.recipe.taps = EARLY
        config.embed_batch_size = 8
        config.data = {
            "name": "folder",
            "root": str(shapes_root),
            "unseen": "gem,ring",
            "cache_dir": str(cache),
        }
        values = {"steps": 4, "batch_size": 8, "log_every": 1, "save_every": 2}
        config.train.update(values | {"score_every": 4} | train)
        return config

    return make


@pytest.fixture(scope="session")
def finished(make_config, tmp_path_factory):
    """A finished run: its folder, the summary it returned, the backbone it used."""
    workdir = tmp_path_factory.mktemp("run") / "shapes"
    used, load = [], base_task.load_frozen

    def remember(*args, **kwargs):
        used.append(load(*args, **kwargs))
        return used[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_task, "load_frozen", remember)
        summary = experiment.open(Experiment.from_config(make_config()), workdir).go()
    return workdir, summary, used[0]


def prompts_of(workdir):
    return Prompts(**state_of(workdir)["prompts"])


def state_of(workdir):
    with checkpoint.manager(workdir) as manager:
        return manager.restore(manager.latest_step())


def test_report_has_the_documented_layout(finished):
    workdir, summary, _ = finished
    report = json.loads((workdir / "report.json").read_text())
    names = [result["name"] for result in report["results"]]
    assert names == ["frozen", "learned", "hog", "pixels", "chance"]
    sure = report["uncertainty"]
    assert set(sure["intervals"]) == {"frozen", "learned", "hog", "pixels"}
    for low, high in [*sure["intervals"].values(), sure["gain"]]:
        assert -1 <= low <= high <= 1
    assert "How sure they are" in (workdir / "report.html").read_text()
    for result in report["results"]:
        assert set(result["metrics"]) <= set(report["definitions"])
        assert 0 <= result["metrics"]["mAP@all"] <= 1
    assert report["benchmark"] == "folder" and report["primary"] == "mAP@all"
    assert report["protocol"]["queries"] == 8 and report["protocol"]["gallery"] == 8
    timing = report["timing"]
    assert timing["total_seconds"] > 0
    assert 0 < timing["train_waiting_share"] < 1
    assert 0 < timing["embed_waiting_share"] < 1
    last = (workdir / "metrics.jsonl").read_text().splitlines()[-2]
    assert 0 < json.loads(last)["waiting_share"] < 1
    assert report["fingerprint"] == summary["fingerprint"]
    for name in ("report.html", "config.json", "metrics.jsonl", "checkpoints"):
        assert (workdir / name).exists()
    table = (workdir / "literature.md").read_text()
    assert table.startswith("Not set beside published figures: ")
    assert list(workdir.glob("events.out.tfevents.*"))


def test_cached_descriptors_are_float16_with_a_table(finished):
    import pyarrow.parquet as pq

    workdir, _, _ = finished
    for modality, name in (("sketch", "learned"), ("photo", "frozen")):
        found = np.load(workdir / "features" / f"{name}_{modality}.npy")
        table = pq.read_table(workdir / "features" / f"{name}_{modality}.parquet")
        assert found.dtype == np.float16 and len(found) == table.num_rows == 8
        assert set(table.column("class").to_pylist()) == {"gem", "ring"}


def test_every_prompt_leaf_moves(finished):
    workdir, _, used = finished
    fresh = loading.load_backbone(used.backbone.source, taps=EARLY, parts=PARTS)
    start = init_prompts(PromptConfig(), 32, text_states(fresh, [""])[0])
    moved = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()),
        start,
        prompts_of(workdir),
    )
    assert all(value > 0 for value in jax.tree.leaves(moved)), moved


def test_running_again_only_scores_again(finished, make_config, monkeypatch):
    workdir, summary, _ = finished
    lines = (workdir / "metrics.jsonl").read_text()

    def never(*args, **kwargs):
        raise AssertionError("embedded or trained again")

    monkeypatch.setattr(Embedder, "embed_items", never)
    monkeypatch.setattr(Step, "__call__", never)
    again = experiment.open(Experiment.from_config(make_config()), workdir).go()
    assert again["results"] == summary["results"]
    assert (workdir / "metrics.jsonl").read_text() == lines


@pytest.mark.slow
def test_a_run_keeps_the_type_and_the_space_it_was_begun_with(make_config, tmp_path):
    config = make_config(steps=2, score_every=2)
    config.dtype, config.prompt.space = "bfloat16", "latent"
    summary = experiment.open(Experiment.from_config(config), tmp_path).go()
    state = state_of(tmp_path)
    held = {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim}
    assert held == {np.dtype(np.float32)}
    # On this CPU a new run would be float32; this one goes on in its own type.
    config.dtype = ""
    again = experiment.open(Experiment.from_config(config), tmp_path).go()
    assert again["config"]["dtype"] == "bfloat16"
    assert again["fingerprint"] == summary["fingerprint"]
    model = Embedder.from_run(tmp_path, batch_size=8)
    assert model.dtype == "bfloat16" and model.fingerprint == summary["fingerprint"]
    config.dtype = "float32"
    with pytest.raises(
        ValueError, match="dtype: 'bfloat16' in the folder, 'float32' now"
    ):
        experiment.open(Experiment.from_config(config), tmp_path).go()
    # The last ones: those of step 0, without any frame, may be the best.
    last = state["prompts"]["latent"]
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(last))
    assert not (tmp_path / "latents").exists()
    config.dtype, config.prompt.space = "bfloat16", "pixel"
    with pytest.raises(ValueError, match=r"prompt: .*'latent'.* in the folder"):
        experiment.open(Experiment.from_config(config), tmp_path).go()


def test_runs_from_before_there_was_a_choice_are_float32(finished, make_config):
    workdir, summary, _ = finished
    assert summary["config"]["dtype"] == "float32"
    owner = json.loads((workdir / checkpoint.OWNER).read_text())
    del owner["dtype"]
    checkpoint.write_json(workdir / checkpoint.OWNER, owner)
    config = json.loads((workdir / "config.json").read_text())
    del config["dtype"]
    checkpoint.write_json(workdir / "config.json", config)
    assert Embedder.from_run(workdir, batch_size=8).dtype == "float32"
    again = experiment.open(Experiment.from_config(make_config()), workdir).go()
    assert again["fingerprint"] == summary["fingerprint"]
    config = make_config()
    config.dtype = "bfloat16"
    with pytest.raises(
        ValueError, match="dtype: 'float32' in the folder, 'bfloat16' now"
    ):
        experiment.open(Experiment.from_config(config), workdir).go()
    config.dtype = "half"
    with pytest.raises(ValueError, match="dtype is 'half'"):
        experiment.open(Experiment.from_config(config), workdir).go()


def test_other_protocols_are_scored_beside_the_runs_own(finished, make_config):
    workdir, summary, _ = finished
    before = (workdir / "report.json").read_text()
    config = make_config()
    config.score.generalised = "gallery"
    wide = experiment.open(Experiment.from_config(config), workdir).go()
    assert wide["protocol"]["gallery"] > summary["protocol"]["gallery"]
    assert wide["protocol"]["queries"] == summary["protocol"]["queries"]
    assert "seen" in wide["protocol"]["rule"]
    assert wide["fingerprint"] == summary["fingerprint"]
    assert (workdir / "scores" / "gallery" / "report.html").exists()
    assert (workdir / "report.json").read_text() == before


@pytest.mark.slow
def test_words_beside_the_sketches_leave_the_photos_as_they_were(finished, make_config):
    workdir, _, _ = finished
    config = make_config()
    config.score.words = "class"
    found = experiment.open(Experiment.from_config(config), workdir).go()
    assert found["protocol"]["words"] == "class as picture, weight 0.5"
    out = workdir / "scores" / "class-picture-0.5"
    assert (out / "report.json").exists()
    for modality, same in (("photo", True), ("sketch", False)):
        name = f"features/learned_{modality}.npy"
        assert np.array_equal(np.load(workdir / name), np.load(out / name)) == same


def test_scoring_on_another_folder_leaves_out_what_training_saw(
    finished, make_config, tmp_path
):
    """All of its other classes are asked; nothing in it was trained on."""
    workdir, _, _ = finished
    config = make_config()
    root = shutil.copytree(config.data.root, tmp_path / "other")
    for modality in ("sketch", "photo"):
        (root / modality / "box").rename(root / modality / "b-ox")  # it was trained on
    config.score.name, config.score.root = "folder", str(root)
    found = experiment.open(Experiment.from_config(config), workdir).go()
    assert found["split"] == "2 unseen of 6 classes"
    assert set(found["per_class"]["frozen"]) == {"gem", "ring"}
    assert found["page"].endswith("scores/folder/report.html")
    for unseen, words in (
        ("b-ox", "all 1 unseen classes of"),
        ("gem", "gem is the on"),
    ):
        config.score.unseen = unseen
        with pytest.raises(ValueError, match=words):
            experiment.open(Experiment.from_config(config), workdir)


def test_embedder_from_the_run(finished):
    workdir, summary, _ = finished
    embedder = Embedder.from_run(workdir)
    assert embedder.fingerprint == summary["fingerprint"]


def test_another_backbone_is_refused(finished, make_config):
    workdir, _, _ = finished
    config = make_config()
    config.random_weights = True
    with pytest.raises(ValueError, match="belongs to another run") as error:
        experiment.open(Experiment.from_config(config), workdir).go()
    assert "backbone" in str(error.value) and "--workdir" in str(error.value)
    with pytest.raises(ValueError, match="trained on backbone"):
        checkpoint.load_trained(workdir, "0" * 64)


def test_nan_loss_stops_before_it_is_saved(make_config, tmp_path, monkeypatch):
    whole = objective.triplet_loss
    monkeypatch.setattr(objective, "triplet_loss", lambda *a: whole(*a) * float("nan"))
    with pytest.raises(
        FloatingPointError,
        match=r"the loss and .* of step 1 are .* Lower",
    ):
        experiment.open(Experiment.from_config(make_config()), tmp_path).go()
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_the_prompts_of_the_best_held_out_score_are_kept(
    make_config, tmp_path, monkeypatch
):
    """Also where the run was stopped after the best step, and when run again."""
    scores, seen = {0: 0.3, 1: 0.2, 2: 0.9, 3: 0.5, 4: 0.9}, []

    def validator(model, dataset, task):
        assert dataset.val and not set(dataset.val) & set(dataset.unseen)

        def validate(prompts):
            seen.append(jax.tree.map(np.array, prompts))
            if len(seen) == 4:
                raise KeyboardInterrupt
            step = len(seen) - 1 - (len(seen) > 4)  # step 3 is scored twice
            return {"mAP@all": scores[step]}

        return validate

    monkeypatch.setattr(task, "validator", validator)
    setup = Experiment.from_config(make_config(score_every=1))
    with pytest.raises(KeyboardInterrupt):
        experiment.open(setup, tmp_path).go()
    for _ in range(2):
        summary = experiment.open(setup, tmp_path).go()
        assert len(seen) == 6
        assert summary["kept_step"] == 2 and "step 2 of 4, best" in summary["notes"][-1]
    kept = Embedder.from_run(tmp_path).prompts
    jax.tree.map(np.testing.assert_array_equal, kept, seen[2])
    assert np.abs(seen[2].text - seen[5].text).max() > 0


def test_what_training_does_not_improve_is_kept_as_it_was(
    make_config, tmp_path, monkeypatch
):
    """Prompts that change nothing: the learned figures are the frozen ones."""
    scores, begun = iter((0.5, 0.4, 0.5)), []

    def validate(prompts):
        begun.append(jax.tree.map(np.array, prompts))
        return {"mAP@all": next(scores)}

    monkeypatch.setattr(task, "validator", lambda *_: validate)
    setup = Experiment.from_config(make_config(steps=2, score_every=1))
    summary = experiment.open(setup, tmp_path).go()
    assert summary["kept_step"] == 0
    kept = Embedder.from_run(tmp_path).prompts
    jax.tree.map(np.testing.assert_array_equal, kept, begun[0])
    frozen, learned = (r["metrics"] for r in summary["results"][:2])
    assert frozen == learned


@pytest.mark.slow
def test_without_held_out_classes_the_last_prompts_are_kept(make_config, tmp_path):
    config = make_config(steps=2)
    config.val_classes = 0
    summary = experiment.open(Experiment.from_config(config), tmp_path).go()
    assert summary["kept_step"] == 2 and summary["notes"][-1].endswith("step 2 of 2")
    kept = Embedder.from_run(tmp_path).prompts
    jax.tree.map(np.testing.assert_array_equal, kept, prompts_of(tmp_path))


def test_runs_from_before_latent_space_are_gone_on_with(tmp_path):
    checkpoint.claim(tmp_path, {"prompt": {"border": 0}})
    checkpoint.claim(tmp_path, {"prompt": {"border": 0, "space": "pixel"}})
    with pytest.raises(ValueError, match=r"'space': 'pixel'.* 'latent'.* now"):
        checkpoint.claim(tmp_path, {"prompt": {"border": 0, "space": "latent"}})


def test_fine_grained_run(make_config, tmp_path):
    summary = experiment.open(
        Experiment.from_config(make_config("fine_grained", steps=1)), tmp_path
    ).go()
    metrics = summary["results"][1]["metrics"]
    assert summary["protocol"]["task"] == "fine_grained"
    assert set(metrics) >= {"Acc@1", "Acc@5", "Acc@1 (whole gallery)"}
    chance = summary["results"][-1]["metrics"]["Acc@1"]
    assert chance == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"task": "instance"}, "task is 'instance'; give category or fine_grained"),
        ({"recipe.pooling": "median"}, "recipe.pooling is 'median'"),
        ({"train.steps": 0}, "train.steps is 0"),
        ({"random_weights": True, "score.words": "class"}, "weights cannot draw"),
    ],
)
def test_impossible_configs_are_refused(make_config, change, words):
    config = make_config()
    with config.unlocked():
        for key, value in change.items():
            config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=words):
        Experiment.from_config(config)


def test_misspelt_keys_are_refused(make_config):
    config = make_config()
    config.train["learning_rat"] = 0.1
    with pytest.raises(ValueError, match=r"learning_rat is no .*train\.learning_rate"):
        Experiment.from_config(config)


def command(workdir, tiny_folder, shapes_root, cache, steps=30):
    return [
        sys.executable,
        "-m",
        "sbir_jax.main",
        "--config=configs/folder.py",
        f"--workdir={workdir}",
        f"--config.backbone={tiny_folder}",
        f"--config.data.root={shapes_root}",
        "--config.data.unseen=gem,ring",
        f"--config.train.steps={steps}",
        "--config.train.batch_size=4",
        "--config.train.save_every=3",
        "--config.train.score_every=4",
        "--config.val_classes=2",
        "--config.recipe.copies=1",
        f"--config.recipe.taps={EARLY}",
        "--config.embed_batch_size=4",
    ]


def environment(cache):
    return {**os.environ, "SBIR_CACHE": str(cache)}


def test_killed_run_ends_with_the_same_prompts(tiny_folder, shapes_root, tmp_path):
    """SIGKILL at a random step, started again: bitwise what one left alone has."""
    names, cache = ("alone", "killed"), tmp_path / "cache"
    commands = {
        name: command(tmp_path / name, tiny_folder, shapes_root, cache)
        for name in names
    }
    subprocess.run(
        commands["alone"], cwd=REPO, env=environment(cache), check=True, timeout=300
    )
    # Anywhere in the run: the seed of this choice is the time itself.
    wanted = 3 + time.time_ns() % 24
    process = subprocess.Popen(commands["killed"], cwd=REPO, env=environment(cache))
    log, deadline = tmp_path / "killed" / "metrics.jsonl", time.time() + 300
    while time.time() < deadline and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) * 3 >= wanted:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "report.json").exists(), "killed too late"
    subprocess.run(
        commands["killed"], cwd=REPO, env=environment(cache), check=True, timeout=300
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        *(state_of(tmp_path / name) for name in names),
    )
    rows = map(json.loads, (tmp_path / "killed/metrics.jsonl").read_text().splitlines())
    steps = [(row["step"], "loss" not in row) for row in rows]
    assert steps == sorted(set(steps))


def test_missing_weights_say_where_to_get_them(shapes_root, tmp_path):
    found = subprocess.run(
        command(tmp_path / "run", tmp_path / "absent", shapes_root, tmp_path),
        cwd=REPO,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 1
    assert "toybox" in found.stderr and "Traceback" not in found.stderr


def test_a_broken_gradient_stops_before_it_is_saved(make_config, tmp_path, monkeypatch):
    """Its loss is finite: the square root of zero has no slope."""
    whole = objective.triplet_loss

    def loss(sketch, *rest):
        return whole(sketch, *rest) + 0.0 * (sketch - sketch).sum() ** 0.5

    monkeypatch.setattr(objective, "triplet_loss", loss)
    message = r"gradient and the parameters of step 1 are not finite \(loss 0\.\d+\)"
    with pytest.raises(FloatingPointError, match=message):
        experiment.open(Experiment.from_config(make_config()), tmp_path).go()
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image_size": 100}, "image_size is 100; give a multiple of 32, such as 96"),
        ({"recipe.timestep": 1000}, "recipe.timestep is 1000; give 0 to 999"),
        ({"val_classes": 99}, "val_classes is 99, of 4 seen classes"),
        ({"val_classes": 1}, "val_classes is 1: .* give 2 or more, or 0"),
        ({"train.learning_rate": -1.0}, "train.learning_rate is -1.0; give a number"),
        ({"train.warmup": 2.0}, "train.warmup is 2.0"),
        ({"score.generalised": "yes"}, "score.generalised is 'yes'; give one of"),
        ({"score.cutoffs": (0,)}, "score.cutoffs are .0,.; give whole numbers"),
        ({"score.name": "nowhere"}, "score.name is 'nowhere'; give one of toybox"),
        ({"score.name": "folder", "score.root": "/absent"}, "score.name=folder: "),
        ({"score.words": "caption"}, "8 of 8 sketches have no photo with a caption"),
        ({"data.unseen": "gem"}, "gem is the only unseen class"),
        (
            {"data.unseen": "lens,wedge,box,tent,gem,ring"},
            "no seen class with sketches",
        ),
        ({"triplets_at_once": 3}, "triplets_at_once is 3; give a divisor"),
    ],
)
def test_mistakes_are_found_before_a_run_trains_or_claims_its_folder(
    make_config, tmp_path, change, words
):
    config = make_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=words):
        experiment.open(Experiment.from_config(config), tmp_path / "run").go()
    assert not (tmp_path / "run").exists()


def test_a_folder_is_for_one_run_at_a_time(finished, make_config):
    workdir, _, _ = finished
    run = experiment.open(Experiment.from_config(make_config()), workdir)
    with experiment.locked(workdir):
        with pytest.raises(ValueError, match=r"another run is at work in .*--workdir"):
            run.go()
    run.go()


def test_a_relative_backbone_is_kept_as_an_absolute_path(
    make_config, tiny_folder, monkeypatch
):
    monkeypatch.chdir(tiny_folder.parent)
    config = make_config()
    config.backbone = tiny_folder.name
    run = experiment.open(Experiment.from_config(config))
    assert run.setup.backbone == str(tiny_folder)
    with pytest.raises(ValueError, match="opened without a folder"):
        run.go()

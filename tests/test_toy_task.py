"""A new task costs new files and one line: a run of one, from `main` to the report."""

import json

import numpy as np
import pytest
from absl import flags

from sbir_jax import experiment, main, tasks
from sbir_jax.config import Experiment
from sbir_jax.runtime import checkpoint


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "tell_apart", "toy_task:TellApart")


@pytest.fixture
def run_main(monkeypatch):
    """`main` with these flags, as from a shell."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["main", *arguments])
        monkeypatch.setattr("sbir_jax.runtime.hardware.keep_programs", lambda: None)
        flags.FLAGS.unparse_flags()
        try:
            main.main(main.parse_flags(["main", *arguments]))
        finally:
            flags.FLAGS.mark_as_parsed()

    return run


def test_a_task_in_new_files_runs_through_main(
    registered, run_main, tmp_path, capsys, monkeypatch
):
    cache, folder = tmp_path / "cache", tmp_path / "run"
    monkeypatch.setenv("SBIR_CACHE", str(cache))
    given = ("--config=tests/toy_config.py", f"--workdir={folder}")
    run_main(*given, "--config.channels=6")
    printed = capsys.readouterr().out
    assert "told apart: " in printed and "error: learned 0." in printed
    report = json.loads((folder / "report.json").read_text())
    learned, chance = (result["metrics"]["error"] for result in report["results"])
    assert learned < 0.7 * chance
    assert report["metrics"] == {"error": {"better": "lower", "unit": ""}}
    assert report["config"]["channels"] == 6
    # The lowest error on what is held out is kept, not the highest.
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    scores = {row["step"]: row["val/error"] for row in rows if "val/error" in row}
    assert sorted(scores) == [0, 20, 40, 60]
    assert scores[report["kept_step"]] == min(scores.values()) == learned
    logged = next(row for row in rows if "loss" in row)
    assert {"right", "grad_norm", "learning_rate", "waiting_share"} <= set(logged)
    page = (folder / "report.html").read_text()
    assert "Learned heads name photos with error" in page
    for title in ("Mix-ups", "What is what", "How training went"):
        assert f"<h2>{title}</h2>" in page
    assert "best in error on every fourth photo" in page
    with checkpoint.manager(folder) as manager:
        state = manager.restore(60)
    assert set(state) == {"step", "trained", "opt_state", "best"}
    assert np.asarray(state["trained"]["weight"]).shape[0] == 16 * 6
    # A finished run is only evaluated again.
    from toy_config import get_config

    config = get_config()
    config.channels = 6
    experiment.open(Experiment.from_config(config), folder).go()
    again = json.loads((folder / "report.json").read_text())
    assert again["results"] == report["results"]


def test_an_average_can_be_what_is_kept(registered, tmp_path, monkeypatch):
    """As whole networks are trained; it too is saved and gone on with."""
    from toy_config import get_config

    from sbir_jax.train import train

    monkeypatch.setenv("SBIR_CACHE", str(tmp_path / "cache"))
    config = get_config()
    config.train.update({"steps": 8, "score_every": 8, "save_every": 4})
    task = experiment.open(Experiment.from_config(config)).task
    task.validates = False
    plain, _ = train(task, tmp_path / "plain")
    mean, step = train(task, tmp_path / "mean", ema=0.9)
    assert step == 8 and np.abs(mean.weight - plain.weight).max() > 1e-3
    with checkpoint.manager(tmp_path / "mean") as manager:
        manager.delete(8)
    again, _ = train(task, tmp_path / "mean", ema=0.9)
    np.testing.assert_array_equal(again.weight, mean.weight)


@pytest.mark.parametrize(
    "file", [("--config=tests/toy_config.py",), ("--config", "tests/toy_config.py")]
)
@pytest.mark.parametrize(
    "override, words",
    [
        ("--config.train.learning_rat=1", "did you mean train.learning_rate"),
        ("--config.chanels=1", "did you mean channels"),
        ("--config.data.cache_dri=x", "did you mean data.cache_dir"),
        ("--config.train.steps.more=1", "train.steps.more is no setting"),
    ],
)
def test_a_mistyped_override_names_the_nearest_key(
    registered, run_main, tmp_path, override, words, file
):
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match=words) as stopped:
        run_main(*file, f"--workdir={folder}", override)
    assert "There are" in str(stopped.value) or "more" in override
    assert not folder.exists()


def test_an_unknown_task_names_the_nearest(registered):
    with pytest.raises(ValueError, match=r"give category or .*mean fine_grained\?"):
        tasks.find("fine-grained")

"""The synthesis task: which pairs it trains on, its loss, and a whole run."""

import json

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from sbir_jax import data, experiment
from sbir_jax.config import Experiment, base
from sbir_jax.search import cli
from sbir_jax.tasks.synthesis import evaluation
from sbir_jax.tasks.synthesis.imaginer import Imaginer
from sbir_jax.tasks.synthesis.pairs import groups

# Minutes of compiling: `make test-all` runs it.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setup(tiny_folder, shapes_root, tmp_path_factory):
    config = base("synthesis")
    config.backbone = str(tiny_folder)
    config.data = {
        "name": "folder",
        "root": str(shapes_root),
        "unseen": "gem,ring",
        "cache_dir": str(tmp_path_factory.mktemp("prepared")),
    }
    config.held_out = 3
    config.sampling.steps = "2"
    config.score.update({"sketches": 4, "seeds": 2})
    config.train.update({"steps": 4, "batch_size": 8, "score_every": 2})
    config.train.update({"save_every": 2, "log_every": 1, "learning_rate": 0.02})
    return Experiment.from_config(config)


def test_pairs_are_of_one_thing_and_no_group_shares_a_photo(setup):
    dataset = data.load(**setup.data)
    found = groups(dataset, 3)
    for pairs in (found.train, found.seen, found.unseen):
        np.testing.assert_array_equal(
            dataset.sketches.instances[pairs.sketches],
            dataset.photos.instances[pairs.photos],
        )
    photos = [set(x.photos.tolist()) for x in (found.train, found.seen, found.unseen)]
    assert not photos[0] & photos[1] and not photos[0] & photos[2]
    assert sum(map(len, photos)) == len(dataset.photos)
    unseen = [dataset.classes.index(name) for name in ("gem", "ring")]
    assert set(dataset.photos.labels[found.unseen.photos]) == set(unseen)
    assert len(found.seen.some(2)) == 2 and len(found.seen.some(99)) == len(found.seen)
    with pytest.raises(ValueError, match="no pairs for 'train'"):
        groups(dataset, 1)


def test_the_loss_falls_as_the_adapter_learns(setup):
    run = experiment.open(setup)
    task, trained = run.task, run.task.init(jax.random.key(0))
    batch = next(iter(task.batches(0)))
    assert batch["photo"].shape == batch["sketch"].shape == (8, 32, 32, 3)
    again = next(iter(task.batches(0)))
    jax.tree.map(np.testing.assert_array_equal, batch, again)
    key, frozen = jax.random.key(1), task.loaded.frozen

    def loss(trained, batch):
        def total(trained):
            found, guides = task.loss(trained, frozen, batch, key)
            return found, {**guides, "loss": found - sum(guides.values())}

        (_, errors), slope = jax.value_and_grad(total, has_aux=True)(trained)
        return slope, errors

    @jax.jit
    def step(trained, state, batch):
        slope, errors = loss(trained, batch)
        updates, state = optimiser.update(slope, state)
        return optax.apply_updates(trained, updates), state, errors

    optimiser, found = optax.adam(0.01), []
    state = optimiser.init(trained)
    for _ in range(16):
        trained, state, errors = step(trained, state, batch)
        found.append({name: float(value) for name, value in errors.items()})
    assert set(found[0]) == {"loss", "lgp", "classifier", "distance"}
    for name in found[0]:
        assert found[-1][name] < found[0][name], name


def test_a_run_from_config_to_report_and_to_pictures(setup, tmp_path):
    report = experiment.open(setup, tmp_path).go()
    found = {result["name"]: result["metrics"] for result in report["results"]}
    assert list(found) == list(evaluation.ROWS)
    assert all(0 <= row["edge F"] <= 1 for row in found.values())
    page = (tmp_path / "report.html").read_text()
    assert "What is made of a drawing" in page and "Unseen classes" in page
    assert json.loads((tmp_path / "report.json").read_text())["queries"] == 4
    shell_draws(tmp_path, tmp_path / "drawn")


def shell_draws(run, folder):
    """What `sbir imagine` makes of a run: pictures, edited ones, a strip."""
    folder.mkdir()
    sketch = np.full((64, 64, 3), 255, np.uint8)
    sketch[8:56, 8:12] = sketch[8:12, 8:56] = 0
    Image.fromarray(sketch).save(folder / "box.png")
    sketch[52:56, 8:56] = 0
    Image.fromarray(sketch).save(folder / "tray.png")
    given = ["imagine", str(folder / "box.png"), "--run", str(run), "-n", "2"]
    given += ["--steps", "2", "--as-drawn", "--text", "a box", "--lgp", "0.2", "--out"]
    assert (
        cli.main([*given, str(folder / "a"), "--edit", str(folder / "tray.png")]) == 0
    )
    names = ["box-1.png", "box-2.png", "box-edited-1.png", "box-edited-2.png"]
    assert sorted(path.name for path in (folder / "a").iterdir()) == names
    with Image.open(folder / "a" / "box-1.png") as picture:
        assert picture.size == (32, 32)
        told = json.loads(picture.text["sbir_jax"])
    assert told["text"] == "a box" and told["sampling"]["steps"] == "2"
    assert told["sampling"]["lgp"] == 0.2 and told["sampling"]["distance"] == 0
    given += [str(folder / "b"), "--between", str(folder / "tray.png")]
    assert cli.main(given) == 0
    with Image.open(folder / "b" / "box-between.png") as strip:
        assert strip.size == (64, 32)
    assert cli.main([*given, "-n", "1"]) == 2


def test_runs_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="task=synthesis"):
        Imaginer.from_run(tmp_path)
    (tmp_path / "config.json").write_text('{"task": "category"}')
    with pytest.raises(ValueError, match="a run of task=category"):
        Imaginer.from_run(tmp_path)

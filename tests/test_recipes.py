"""The table of cheaper recipes: which runs it makes, what it times, how it reads."""

import json
import types

import pytest
from conftest import EARLY

from configs import toybox
from sbir_jax import data
from sbir_jax.adapters.prompts import Prompts
from sbir_jax.config import Experiment, base
from tools import recipes


def test_every_recipe_is_a_config_that_can_be():
    config = toybox.get_config()
    setups = [
        Experiment.from_config(recipes.changed(config, changes))
        for changes in recipes.RECIPES.values()
    ]
    assert setups[0] == Experiment.from_config(config)
    assert all(setup != setups[0] for setup in setups[1:])


def test_recipes_that_differ_in_copies_share_a_run_and_a_pass(tmp_path, monkeypatch):
    ran, scored = [], []

    def run(setup, workdir):
        ran.append((workdir.name, setup.prompt.space, setup.recipe.copies))

    def open_bench(setup, folder, classes, run):
        assert folder == tmp_path and classes == "unseen"
        protocol = types.SimpleNamespace(primary="mAP@all")
        return types.SimpleNamespace(run=run, protocol=protocol)

    def sweep(bench, asked):
        scored.append((bench.run and bench.run.name, [r.copies for r in asked]))
        for recipe in asked:
            value = recipe.copies / 10 + (bench.run is not None)
            yield {"recipe": vars(recipe), "metrics": {"mAP@all": value}}

    def opened(setup, workdir):
        return types.SimpleNamespace(go=lambda: run(setup, workdir))

    monkeypatch.setattr(recipes.experiment, "open", opened)
    monkeypatch.setattr(recipes.study_sweep, "open_bench", open_bench)
    monkeypatch.setattr(recipes.study_sweep, "sweep", sweep)
    config = toybox.get_config()
    plain = recipes.figures(config, {}, 1, tmp_path)
    assert plain == {"frozen": 0.6, "learned": 1.6}
    assert ran == [("category-plain-1", "pixel", 1)]
    fewer = {"prompt.space": "latent", "recipe.copies": 2}
    found = recipes.figures(config, fewer, 1, tmp_path)
    assert found == {"frozen": 0.2, "learned": 1.2}
    assert ran[1:] == [("category-latent-1", "latent", 1)]
    assert scored[2:] == [(None, [1, 2, 6]), ("category-latent-1", [1, 2, 6])]


@pytest.mark.slow
def test_costs_of_training_on_images_and_on_latents(tiny_folder, shapes_root, tmp_path):
    config = base("category")
    config.backbone = str(tiny_folder)
    config.data = {
        "name": "folder",
        "root": str(shapes_root),
        "unseen": "gem,ring",
        "cache_dir": str(tmp_path),
    }
    config.val_classes, config.score.cutoffs = 2, (2,)
    config.recipe.taps, config.recipe.copies = EARLY, 1
    config.train.steps, config.train.batch_size = 2, 8
    dataset = data.load(
        "folder", str(shapes_root), unseen="gem,ring", cache_dir=str(tmp_path)
    )
    changes = {"pixel": {}, "latent": {"prompt.space": "latent"}}
    setups = {
        name: Experiment.from_config(recipes.changed(config, change))
        for name, change in changes.items()
    }
    found = recipes.costs(setups, dataset, rounds=1)
    assert min(min(cell.values()) for cell in found.values()) > 0
    assert found["latent"]["step_bytes"] < 0.7 * found["pixel"]["step_bytes"]
    # Of each triplet's three images some were drawn before.
    assert 1 < recipes.encoded_share(setups["latent"], dataset) < 3


def test_costs_by_hand(monkeypatch):
    made = []

    def program(kind, *seconds):
        """Takes so long in each round, and in the first one it is compiled."""
        made.append(kind)
        times = iter((99.0, *seconds))
        return lambda: next(times)

    class Model:
        def __init__(self, setup):
            space = {"pixel": "visual"}.get(setup.prompt.space, setup.prompt.space)
            self.prompts = Prompts(text=0, **{space: 0})

        def extract(self):
            return program("extract", 16.0, 8.0, 80.0)

        def encode(self):
            return program("encode", 4.0, 4.0, 4.0)

        def step(self):
            return program("step", 24.0, 24.0, 24.0), 1000

    def timed(run):
        seconds = run()
        return {"seconds": seconds, "cpu_seconds": 2 * seconds}

    monkeypatch.setattr(recipes, "Model", Model)
    monkeypatch.setattr(recipes, "timed", timed)
    monkeypatch.setattr(recipes, "encoded_share", lambda *given: 2.0)
    names = ("as in the paper", "frame in latent space", "text prompt only")
    setups = {
        name: Experiment.from_config(
            recipes.changed(toybox.get_config(), recipes.RECIPES[name])
        )
        for name in (*names, "2 noise copies")
    }
    found = recipes.costs(setups, None, rounds=3)  # pyright: ignore
    plain = {"triplet": 6.0, "image": 4.0, "wall_triplet": 3.0, "wall_image": 2.0}
    assert found[names[0]] == {**plain, "step_bytes": 1000}
    assert found["2 noise copies"] == found[names[0]]
    for name in names[1:]:  # each triplet has two images encoded
        assert found[name] == found[names[0]] | {"triplet": 8.0, "wall_triplet": 4.0}
    # Copies count in extraction only, what is trained in training only.
    assert {kind: made.count(kind) for kind in made} == {
        "extract": 3,
        "step": 3,
        "encode": 2,
    }


def test_the_table_by_hand():
    cells = {
        "dear": {"triplet": 0.2, "step_bytes": 3e8, "image": 0.02},
        "cheap": {"triplet": 0.05, "step_bytes": 1e8, "image": 0.01},
    }
    cells["dear"] |= {"frozen": [0.25, 0.25], "learned": [0.39, 0.41]}
    cells["cheap"] |= {"frozen": [0.25], "learned": [0.3]}
    head, _, dear, cheap = recipes.markdown(cells, "mAP@all").splitlines()
    assert "mAP@all, learned" in head and head.count("|") == cheap.count("|")
    assert dear == (
        "| dear | 200 (/ 1.00) | 300 (/ 1.00) | 20 (/ 1.00) | 0.250 ± 0.000 | "
        "0.400 ± 0.014 | 100.0% |"
    )
    assert cheap == (
        "| cheap | 50 (/ 4.00) | 100 (/ 3.00) | 10 (/ 2.00) | 0.250 | 0.300 | 75.0% |"
    )


def test_the_command_keeps_what_it_has(tmp_path, monkeypatch, capsys):
    calls = []

    def costs(setups, dataset, rounds):
        assert dataset == "all but 4 classes"
        calls.append("costs")
        cost = {"triplet": 1.0, "step_bytes": 1.0, "image": 1.0}
        return {name: dict(cost) for name in setups}

    def figures(config, changes, seed, folder):
        calls.append(seed)
        return {"frozen": 0.2, "learned": 0.3 + 0.01 * seed}

    loaded = types.SimpleNamespace(hold_out=lambda n, seed: f"all but {n} classes")
    monkeypatch.setattr(recipes.data, "load", lambda **given: loaded)
    monkeypatch.setattr(recipes, "costs", costs)
    monkeypatch.setattr(recipes, "figures", figures)
    command = ["recipes", "--workdir", str(tmp_path), "--seeds", "0,2"]
    monkeypatch.setattr("sys.argv", command)
    for _ in range(2):
        recipes.main()
    assert calls.count("costs") == 1 and calls.count(2) == 2 * len(recipes.RECIPES)
    assert "| 1 noise copy | 1e+03 (/ 1.00) |" in capsys.readouterr().out
    assert (tmp_path / "recipes-category.json").exists()
    # Another recipe than there were: all are timed again, side by side.
    path = tmp_path / "costs-category.json"
    cells = json.loads(path.read_text())
    cells.pop("1 noise copy")
    path.write_text(json.dumps(cells))
    recipes.main()
    assert calls.count("costs") == 2

"""A run folder that was changed: one line that names the file, the key and the rule."""

import json
import shutil

import pytest
from test_experiment import finished, make_config  # noqa: F401

from sbir_jax.dense.learned import Learned
from sbir_jax.embedder import Embedder
from sbir_jax.reranker import Reranker
from sbir_jax.tasks.matching.matcher import Matcher
from sbir_jax.tasks.synthesis import adapter_files


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("recipe", None, "recipe is None"),
        ("recipe.taps", [], "recipe.taps is empty"),
        ("recipe.taps", ["up.77.out"], r"up\.77\.out"),
        ("recipe.copies", 10**9, "recipe.copies is 1000000000; give 1 to 1000"),
        ("recipe.grid", -1, "recipe.grid is -1"),
        ("recipe.invented", 1, "invented"),
        ("prompt.visual_scale", "much", "prompt.visual_scale is 'much'"),
        ("image_size", 31, "image_size is 31; give a multiple of"),
        ("image_size", 64, "has shape .* images of 64 px"),
        ("dtype", "int8", "dtype is 'int8'"),
        ("train.seed", 1.5, "train.seed is 1.5"),
        ("backbone", {}, "backbone is {}"),
        ("", "[" * 10**5, r"config\.json is not valid"),
        ("", "7", r"config\.json holds a int, not an object"),
        ("", "{}", r"config\.json: backbone is missing"),
    ],
)
def test_changed_runs_are_refused_in_one_line(finished, tmp_path, key, value, words):  # noqa: F811
    folder = shutil.copytree(finished[0], tmp_path / "run")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    place, parts = config, key.split(".")
    for part in parts[:-1]:
        place = place[part]
    place[parts[-1]] = value
    path.write_text(json.dumps(config) if key else value)
    with pytest.raises(ValueError, match=words) as error:
        Embedder.from_run(folder)
    assert "\n" not in str(error.value)


SOUND = {"features": "backbone", "backbone": "toybox", "random_weights": False}
SOUND |= {"image_size": 64, "train": {"seed": 0, "shots": 1}, "read": {}}
SOUND |= {"text_length": 77, "width": 0, "adapter": {}}
SOUND |= {"relation": {}, "reader": {}, "vit": {}, "dtype": "float32"}


@pytest.mark.parametrize(
    ("task", "open_run", "key"),
    [
        *[("depth", Learned.from_run, key) for key in ("backbone", "text_length")],
        *[("matching", Matcher.from_run, key) for key in ("backbone", "adapter")],
        *[("reranking", Reranker.from_run, key) for key in ("relation", "reader")],
        ("tokens", Reranker.from_run, "vit"),
        *[("synthesis", adapter_files.from_run, key) for key in ("train", "backbone")],
    ],
)
@pytest.mark.parametrize("how", ["gone", "a list", "another"])
def test_runs_of_every_task_tell_what_their_config_lacks(
    tmp_path, task, open_run, key, how
):
    recipe = {"taps": ["out"]} if task == "reranking" else {}
    values = {**SOUND, "task": task, "recipe": recipe}
    values |= {"a list": {key: [1]}, "another": {key: 10**30}}.get(how, {})
    if how == "gone":
        del values[key]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"config.json: {key} .*copy") as caught:
        open_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("told", ["[]", "{}", '{"classes": 1}', "[" * 100_000])
def test_a_dense_run_tells_what_its_owner_lacks(tmp_path, told):
    (tmp_path / "config.json").write_text(json.dumps({**SOUND, "task": "depth"}))
    (tmp_path / "owner.json").write_text(told)
    with pytest.raises(ValueError, match=r"owner\.json"):
        Learned.from_run(tmp_path)

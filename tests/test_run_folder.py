"""A run folder that was changed: one line that names the file, the key and the rule."""

import json
import shutil

import pytest
from test_experiment import finished, make_config  # noqa: F401

from sbir_jax.embedder import Embedder


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
        ("", "{}", r"config\.json: task is {}, but field required"),
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

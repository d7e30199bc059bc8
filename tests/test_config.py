import importlib
import json

import pytest

from sbir_jax.config import Experiment, base, parse_arg
from sbir_jax.features import TAPS


def test_argument_values_take_the_types_of_their_defaults():
    assert parse_arg("split=25,task=fine_grained", split=21, task="category") == {
        "split": 25,
        "task": "fine_grained",
    }
    assert parse_arg(None, split=21) == parse_arg("", split=21) == {"split": 21}


@pytest.mark.parametrize("arg", ["spilt=25", "split", "25"])
def test_unknown_arguments_are_refused(arg):
    with pytest.raises(ValueError, match=r"known, with their defaults: split=21"):
        parse_arg(arg, split=21)


def test_base_is_the_defaults_of_its_classes():
    config = base("category")
    config.data = {"name": "toybox"}
    setup = Experiment.from_config(config)
    assert setup.recipe.taps == TAPS["category"]
    assert setup.recipe.timestep == 273 and setup.recipe.copies == 6
    again = json.loads(json.dumps(setup.to_json()))
    assert again["train"]["margin"] == setup.train.margin


@pytest.mark.parametrize("name", ["toybox", "sketchy", "folder"])
def test_every_config_file_makes_an_experiment_for_both_tasks(name):
    get_config = importlib.import_module(f"configs.{name}").get_config
    for task, taps in TAPS.items():
        setup = Experiment.from_config(get_config(f"task={task}"))
        if (name, task) == ("toybox", "fine_grained"):  # chosen for its small net
            taps = ("up.1.res.1",)
        assert setup.task == task and setup.recipe.taps == taps
        assert setup.data["name"] == name


def test_sketchys_split_comes_from_the_colon():
    from configs.sketchy import get_config

    assert get_config("split=25").data.split == "25"
    assert get_config().data.split == "21"

"""Runs begun by an earlier version of the package are opened and gone on with.

`old_runs` holds two that were stopped after 2 of 4 steps, and what that version had
after the fourth: "both" trains frames and text, "text" the text alone, whose optimiser
then kept moments of the frames too.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
from test_experiment import make_config  # noqa: F401

from sbir_jax import experiment
from sbir_jax.config import Experiment
from sbir_jax.runtime import checkpoint

OLD = pathlib.Path(__file__).parent / "old_runs"
PARTS = {"both": ("visual", "text"), "text": ("text",)}


@pytest.mark.parametrize("name", PARTS)
def test_an_earlier_run_goes_on_where_it_stopped(name, make_config, tmp_path):  # noqa: F811
    folder = shutil.copytree(OLD / name, tmp_path / "run")
    config = make_config(parts=PARTS[name], save_every=2, score_every=2)
    run = experiment.open(Experiment.from_config(config), folder)
    # The test's images and weights are drawn here, so their fingerprints may be others.
    owner = json.loads((folder / checkpoint.OWNER).read_text())
    owner["backbone"] = run.given.loaded.backbone.fingerprint
    checkpoint.write_json(folder / checkpoint.OWNER, owner | run.task.identity())
    run.go()
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert {row["step"] for row in rows} == {3, 4}
    with checkpoint.manager(folder) as manager:
        state = manager.restore(4)
    found = checkpoint.named(state["prompts"])
    with np.load(folder / "at_step_4.npz") as file:
        wanted = {key.strip("."): file[key] for key in file}
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)
    moments = checkpoint.named(state["opt_state"])
    framed = [key for key in moments if ".mu.visual." in key]
    assert len(framed) == (8 if name == "both" else 0)

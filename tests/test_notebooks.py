"""The notebooks, run from top to bottom with smaller settings."""

import json
import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import pytest
from conftest import EARLY

from sbir_jax.adapters.prompt_files import save_prompts
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
NAMES = ("search_with_a_drawing.ipynb", "train_prompts.ipynb")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a notebook, with other values in its cell of settings, and
    gives what each cell of code printed and showed."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("SBIR_CACHE", str(tmp_path / "prepared"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # Little is computed: compiling is most of the time.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

    def run(name, **settings):
        notebook = nbformat.read(FOLDER / name, as_version=4)
        (cell,) = (
            c for c in notebook.cells if c.metadata.get("tags") == ["parameters"]
        )
        for key, value in settings.items():
            assert f"\n{key} = " in cell.source  # what is set here, a reader can set
            cell.source += f"\n{key} = {value!r}"
        resources = {"metadata": {"path": FOLDER}}
        nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
        return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]

    return run


def printed(outputs):
    return "".join(o.text for o in outputs if o.output_type == "stream")


def pictures(outputs):
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(scope="module")
def early(tiny, tmp_path_factory):
    """A folder of shared prompts that read one early layer."""
    folder = tmp_path_factory.mktemp("early") / "prompts"
    prompts = init_prompts(PromptConfig(), 32, jnp.zeros((77, 16)))
    save_prompts(Embedder(tiny, prompts, Recipe(EARLY, copies=1), 32), folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["early", "toybox"])
def test_search_with_a_drawing(run, tmp_path, model, early):
    work = tmp_path / "work"
    cells = run(
        "search_with_a_drawing.ipynb",
        MODEL=early if model == "early" else model,
        WORK=str(work),
        CLASSES="mug,fork",
        INSTANCES=2,
    )
    every = [output for outputs in cells for output in outputs]
    assert "4 files" in printed(every) and "12 files" in printed(every)
    assert "embedded=4" in printed(every) and "(4, " in printed(every)
    assert pictures(every) == 4  # two searches, one with words, and why
    assert (work / "why.png").exists() and (work / "photos.index").is_dir()


@pytest.mark.slow
def test_train_prompts(run, tmp_path, tiny_folder, shapes_root):
    work = tmp_path / "run"
    flags = {
        "backbone": tiny_folder,
        "data.root": shapes_root,
        "data.unseen": "gem,ring",
        "train.steps": 2,
        "train.batch_size": 8,
        "recipe.taps": EARLY,
        "recipe.copies": 2,
        "score.cutoffs": "(2,)",
    }
    cells = run(
        "train_prompts.ipynb",
        CONFIG="configs/folder.py",
        WORKDIR=str(work),
        FLAGS=[f"--config.{name}={value}" for name, value in flags.items()],
    )
    *_, figures, page, shared = cells
    assert [line.split()[0] for line in printed(figures).splitlines()] == [
        "frozen",
        "learned",
        "hog",
        "pixels",
        "chance",
    ]
    (shown,) = page
    assert "<iframe srcdoc=" in shown.data["text/html"]
    assert "&lt;html" in shown.data["text/html"]
    assert str(work / "prompts" / "prompts.safetensors") in printed(shared)


def test_they_are_kept_without_outputs():
    assert sorted(path.name for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)
    for name in NAMES:
        for cell in json.loads((FOLDER / name).read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), name


@pytest.mark.parametrize("name", NAMES)
def test_outside_a_clone_it_asks_where_to_clone_from(name, tmp_path, monkeypatch):
    """The cell that installs, as it runs in Colab."""
    cells = json.loads((FOLDER / name).read_text())["cells"]
    settings, install = ["".join(c["source"]) for c in cells if "outputs" in c][:2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    values = {}
    exec(settings, values)
    with pytest.raises(FileNotFoundError, match=r"not in a clone .* REPOSITORY"):
        exec(install, values)
    subprocess.run(["git", "init", "-q", "mine"], check=True)
    values["REPOSITORY"] = str(tmp_path / "mine")
    exec(install, values)
    assert pathlib.Path.cwd() == tmp_path / "sbir_jax"
    assert sys.path[0] == str(tmp_path / "sbir_jax")

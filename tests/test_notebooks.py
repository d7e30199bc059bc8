"""The notebooks, run from top to bottom with smaller settings."""

import json
import os
import pathlib

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

pytestmark = pytest.mark.skipif(
    not os.environ.get("SBIR_SLOW"), reason="minutes: set SBIR_SLOW=1 to run them"
)
ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a notebook, with other values in its cell of settings, and
    gives what each cell of code printed and showed."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("SBIR_CACHE", str(tmp_path / "prepared"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

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


def test_search_with_a_drawing(run, tmp_path):
    work = tmp_path / "work"
    cells = run(
        "search_with_a_drawing.ipynb", WORK=str(work), CLASSES="mug,fork", INSTANCES=2
    )
    every = [output for outputs in cells for output in outputs]
    assert "4 files" in printed(every) and "12 files" in printed(every)
    assert "embedded=4" in printed(every) and "(4, 336)" in printed(every)
    assert pictures(every) == 4  # two searches, one with words, and why
    assert (work / "why.png").exists() and (work / "photos.index").is_dir()


def test_train_prompts(run, tmp_path, tiny_folder, shapes_root):
    work = tmp_path / "run"
    flags = {
        "backbone": tiny_folder,
        "data.root": shapes_root,
        "data.unseen": "gem,ring",
        "train.steps": 2,
        "train.batch_size": 8,
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
        "chance",
    ]
    (shown,) = page
    assert "<iframe srcdoc=" in shown.data["text/html"]
    assert "&lt;html" in shown.data["text/html"]
    assert str(work / "prompts" / "prompts.safetensors") in printed(shared)


def test_they_are_kept_without_outputs():
    paths = sorted(FOLDER.glob("*.ipynb"))
    assert len(paths) == 2
    for path in paths:
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path

"""Two processes on this machine, started as a user would, are one run."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import EARLY

from sbir_jax.embedder import Embedder
from sbir_jax.runtime import checkpoint, multiprocess

REPO = pathlib.Path(__file__).resolve().parent.parent


def start(workdir, tiny_folder, shapes_root, distributed=""):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sbir_jax.main",
            "--config=configs/folder.py",
            f"--workdir={workdir}",
            f"--distributed={distributed}",
            f"--config.backbone={tiny_folder}",
            f"--config.data.root={shapes_root}",
            "--config.data.unseen=gem,ring",
            "--config.val_classes=2",
            "--config.train.steps=6",
            "--config.train.batch_size=4",
            "--config.train.log_every=3",
            "--config.train.save_every=3",
            "--config.train.score_every=3",
            "--config.recipe.copies=1",
            f"--config.recipe.taps={EARLY}",
            "--config.embed_batch_size=4",
        ],
        cwd=REPO,
        env={
            **os.environ,
            "SBIR_CACHE": str(workdir.parent / "cache"),
            # Compiling is most of the work of so small a run.
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
            "--xla_llvm_disable_expensive_passes=true",
        },
        # Into files: one waits for the other, and may not wait for a full pipe as well.
        stdout=open(f"{workdir}{distributed[-2:]}.out", "w"),
        stderr=open(f"{workdir}{distributed[-2:]}.err", "w"),
    )


@pytest.fixture(scope="module")
def runs(tiny_folder, shapes_root, tmp_path_factory):
    """Folders of the same run by one process and by two, and what those printed."""
    root = tmp_path_factory.mktemp("runs")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    given = tiny_folder, shapes_root
    hows = [f"localhost:{port},2,{i}" for i in range(2)]
    multiprocess = [start(root / "two", *given, how) for how in hows]
    try:
        assert [p.wait(timeout=600) for p in multiprocess] == [0, 0], errors(root)
        multiprocess.append(start(root / "one", *given))
        assert multiprocess[-1].wait(timeout=600) == 0, errors(root)
    finally:
        for process in multiprocess:
            process.kill()
    printed = [(root / f"two,{i}.out").read_text() for i in range(2)]
    return root / "one", root / "two", printed


def errors(root) -> str:
    return "\n".join(path.read_text()[-2000:] for path in sorted(root.glob("*.err")))


def test_two_processes_train_what_one_does(runs):
    one, two, _ = runs
    owner = json.loads((one / checkpoint.OWNER).read_text())
    assert owner == json.loads((two / checkpoint.OWNER).read_text())
    learned = [checkpoint.load_trained(w, owner["backbone"]) for w in (one, two)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0), *learned
    )
    lines = [(w / "metrics.jsonl").read_text().splitlines() for w in (one, two)]
    rows = [[json.loads(line) for line in part] for part in lines]
    assert [row["step"] for row in rows[0]] == [0, 3, 3, 6, 6]
    for a, b in zip(*rows, strict=True):
        a.pop("waiting_share", None), b.pop("waiting_share", None)
        assert a == pytest.approx(b, abs=1e-4)


def test_two_processes_extract_what_one_does(runs):
    one, two, _ = runs
    for name in ("frozen_photo", "frozen_sketch", "learned_photo", "learned_sketch"):
        a, b = (np.load(w / "features" / f"{name}.npy") for w in (one, two))
        assert len(a) == 8
        # Float16: one unit in the last place at most.
        np.testing.assert_allclose(a, b, atol=5e-4, rtol=0)
    reports = [json.loads((w / "report.json").read_text()) for w in (one, two)]
    a, b = ([r["metrics"] for r in report["results"]] for report in reports)
    assert a == b
    # What two processes saved opens on other devices.
    Embedder.from_run(two, batch_size=8)


def test_the_first_process_alone_reports(runs):
    _, two, printed = runs
    assert "mAP@all: frozen" in printed[0] and "mAP@all" not in printed[1]
    assert len(list(two.glob("events.out.tfevents.*"))) == 1
    report = json.loads((two / "report.json").read_text())
    assert report["hardware"].endswith(" x2")


def test_the_first_processs_word_is_needed_for_one_only():
    assert multiprocess.is_first() and multiprocess.part(7) == slice(0, 7)
    assert multiprocess.as_first_says(True) and not multiprocess.as_first_says(False)
    rows = np.ones((3, 2))
    assert multiprocess.join(rows, 3) is rows


@pytest.mark.parametrize("how", ["yes", "host:1,2", "host:1,2,2", "host,2,0"])
def test_impossible_ways_to_start_are_refused(how):
    with pytest.raises(ValueError, match="HOST:PORT,PROCESSES,INDEX"):
        multiprocess.start(how)

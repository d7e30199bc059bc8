"""The bench counts right, makes loadable weights, and reports what its sides say."""

import argparse
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.models.kernels import winograd
from sbir_jax.models.kernels.convolutions import Conv
from tools import bench, bench_weights
from tools.bench_common import Case, inputs, timed
from tools.bench_jax import operations

CASE = Case("extract", "category", 64, 2, 6, "float32")


def counted(function, *arguments):
    return operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_products_and_convolutions_are_counted_by_hand():
    x, kernel = jnp.zeros((2, 8, 6, 3)), jnp.zeros((3, 3, 3, 5))
    params = {"params": {"kernel": kernel, "bias": jnp.zeros(5)}}
    conv = 2 * (2 * 8 * 6 * 5) * (9 * 3)
    assert counted(Conv(5).apply, params, x) == conv
    assert counted(jax.jit(jax.checkpoint(Conv(5).apply)), params, x) == conv
    a, b = jnp.zeros((4, 7, 3)), jnp.zeros((4, 3, 9))
    assert counted(jnp.matmul, a, b) == 2 * 4 * 7 * 9 * 3
    assert counted(lambda a: jax.lax.map(lambda m: m @ m.T, a), a) == 4 * 2 * 7 * 7 * 3


def test_a_transformed_kernel_counts_as_the_plain_one():
    assert winograd.plain_shape((4, 4, 64, 32)) == (3, 3, 64, 32)
    assert winograd.plain_shape((3, 3, 64, 32)) == (3, 3, 64, 32)
    assert winograd.plain_shape((4, 4)) == (4, 4)


def test_random_weights_load_and_are_kept(tmp_path):
    folder = bench_weights.make(tmp_path, "tiny")
    backbone = load_backbone(folder, taps=("up.1.out",))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    before = [path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")]
    assert bench_weights.make(tmp_path, "tiny") == folder
    after = [path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")]
    assert before == after and before
    scale = backbone.frozen["unet"]["mid_block"]["resnets_0"]["conv1"]["kernel"]
    assert float(jnp.std(scale)) == pytest.approx((9 * 16) ** -0.5, rel=0.1)


def test_both_sides_get_the_same_inputs():
    one, two = (inputs(CASE, 4, 8, 16) for _ in "ab")
    assert {name: value.shape for name, value in one.items()} == {
        "images": (2, 64, 64, 3),
        "context": (77, 16),
        "noise": (6, 8, 8, 4),
    }
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    train = Case("train", "category", 64, 2, 1, "float32")
    assert len(inputs(train, 4, 8, 16)["images"]) == 6
    assert CASE.name == "extract, category, 64 px, batch 2, K = 6, float32"


def test_time_of_the_processor_is_not_that_of_waiting():
    found = timed(lambda: time.sleep(0.05))
    assert found["seconds"] >= 0.05 > found["cpu_seconds"]


class FakeSide:
    """Answers in a process's place, twice as fast as the peer in each run."""

    def __init__(self, factor):
        self.factor, self.slow = factor, iter([1.0, 5.0, 2.0])

    def ask(self, do, **_):
        if do == "run":
            seconds = self.factor * next(self.slow)
            return {"seconds": seconds, "cpu_seconds": seconds}
        return {
            "load": {"load_seconds": 1.0, "device": "cpu", "platform": "cpu"},
            "prepare": {"operations": 100, "first_seconds": 9.0, "check": [0.5, 0.25]},
            "product": {"seconds": 50.0, "cpu_seconds": 50.0},
            "peak": {"peak_bytes": int(1e9 * self.factor)},
        }[do]


def test_figures_are_medians_of_runs_side_by_side():
    args = argparse.Namespace(runs=3, product=8, model="tiny", peer="cut")
    sides = {"ours": FakeSide(1), "peer": FakeSide(2)}
    loaded = {name: side.ask("load") for name, side in sides.items()}
    row = bench._measure(CASE, args, sides, loaded)
    assert row["seconds"] == 2.0 and row["peer_seconds"] == 4.0
    assert row["images_per_second"] == 1.0 and row["compile_seconds"] == 7.0
    assert row["share"] == 100 / 2.0 / 50.0
    assert row["speedup_seconds"] == 2.0 and row["memory_ratio"] == 0.5
    assert row["largest_difference"] == 0.0
    head, _, line = bench.table([row]).splitlines()
    assert head.count("|") == line.count("|") and "| 2.00 |" in line
    alone = bench._measure(CASE, args, {"ours": FakeSide(1)}, loaded)
    assert "peer" not in alone and bench.table([alone]).splitlines()[2].endswith("|  |")


def test_each_case_is_measured_once_and_recipes_apart():
    args = argparse.Namespace(
        kinds="extract,train,encode",
        tasks="category,fine_grained",
        sizes=[64],
        batches=[1, 2],
        copies=[1, 6],
        dtype="float32",
    )
    one, two = bench.cases(args)
    assert [len(one), len(two)] == [4 + 2 + 2, 4 + 2]  # encoding knows no recipe
    assert {case.task for case in two} == {"fine_grained"}


def test_what_fails_on_a_side_is_said(tmp_path):
    side = bench.Side(sys.executable, "tools.bench_jax")
    try:
        with pytest.raises(RuntimeError, match="nowhere"):
            side.ask("load", folder=str(tmp_path / "nowhere"), case=vars(CASE))
    finally:
        side.close()


@pytest.mark.slow
def test_the_quick_bench(tmp_path):
    command = [sys.executable, "-m", "tools.bench", "--quick", "--workdir", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in run.stdout.splitlines() if line[:1] == "{"]
    assert [row["case"].split(",")[0] for row in rows] == ["extract", "train", "encode"]
    assert all(row["operations"] > 1e6 and row["seconds"] > 0 for row in rows)
    # Forward and back of three images, which share the embedding of their timestep.
    times = rows[1]["operations"] / rows[0]["operations"]
    assert 5.9 < times < 6

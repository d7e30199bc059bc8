"""Whole networks by the package's loop: rate, what a step costs, and its bench."""

import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.runtime import metric_writer
from tools import bench_pretrain, fit, toybox_configs, toybox_sheets


def loss_fn(params, key, batch):
    return jnp.square(params["x"] - batch.mean()).sum()


def batches(step):
    return np.ones(8, np.float32)


def run(tmp_path, batches=batches):
    return fit.fit(
        "unet",
        loss_fn,
        {"x": jnp.zeros(2)},
        batches,
        steps=60,
        learning_rate=0.1,
        ema=0.5,
        workdir=tmp_path,
    )


def test_the_rate_rises_and_falls_with_the_share_done():
    fractions = [0.0, fit.WARM_UP / 2, fit.WARM_UP, 0.5, 1.0, 1.5]
    rates = [float(fit.rate(jnp.float32(progress), 2.0)) for progress in fractions]
    assert rates[:3] == pytest.approx([0.0, 1.0, 2.0], abs=1e-5)
    assert 0.04 < rates[3] < 2.0
    assert rates[4:] == pytest.approx([0.04, 0.04], abs=1e-5)


def test_the_optimiser_follows_the_share():
    """Adam's first step is as long as the rate, less decay."""
    params, how = {"x": jnp.ones(2)}, fit.optimiser(2.0)
    for progress in (fit.WARM_UP / 2, fit.WARM_UP, 0.6):
        grads = {"x": jnp.full(2, 1e-3)}
        moved, _ = how.update(grads, how.init(params), params, progress=progress)
        wanted = -float(fit.rate(progress, 2.0)) * (1 + 0.01)
        np.testing.assert_allclose(moved["x"], wanted, rtol=1e-4)


def test_it_learns_and_a_finished_stage_is_kept(tmp_path, capsys):
    found = run(tmp_path)
    np.testing.assert_allclose(found["x"], 1.0, atol=0.1)
    assert "GFLOP a step" in capsys.readouterr().err
    rows = metric_writer.read(tmp_path / "unet")
    assert [row["step"] for row in rows] == [50, 60]
    assert rows[0]["loss"] > rows[1]["loss"]
    toybox_sheets.curves(tmp_path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000

    def never(step):
        raise AssertionError("the stage was finished")

    again = run(tmp_path, never)
    np.testing.assert_array_equal(found["x"], again["x"])


@pytest.mark.slow
def test_the_bench_of_a_tiny_net():
    unet = {
        **toybox_configs.CONFIGS["unet"],
        "sample_size": 8,
        "block_out_channels": [8, 16],
        "attention_head_dim": [1, 2],
        "norm_num_groups": 4,
        "cross_attention_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }
    text = {
        **toybox_configs.CONFIGS["text_encoder"],
        "vocab_size": 20,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 8,
        "bos_token_id": 18,
        "eos_token_id": 19,
    }
    configs = {**toybox_configs.CONFIGS, "unet": unet, "text_encoder": text}
    found = bench_pretrain.measure(configs, batch=2, runs=2, product=64)
    assert found["operations"] > 1e7
    assert found["images_per_second"] == pytest.approx(2 / found["seconds"])
    rate = found["operations"] / found["seconds"]
    assert found["share"] == pytest.approx(rate / found["product_rate"])

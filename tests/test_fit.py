"""The training loop: its rate, its bounds, its stops, and the bench of its step."""

import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from tools import bench_pretrain, fit, toybox_configs


def loss_fn(params, key, batch):
    return jnp.square(params["x"] - batch.mean()).sum()


def batches(step):
    return np.ones(8, np.float32)


def run(tmp_path, batches=batches, **bounds):
    bounds = {"steps": 60, **bounds}
    return fit.fit(
        "stage",
        loss_fn,
        {"x": jnp.zeros(2)},
        batches,
        learning_rate=0.1,
        ema=0.5,
        workdir=tmp_path,
        log=fit.Log(tmp_path / "log.jsonl"),
        **bounds,
    )


def test_the_rate_rises_and_falls_with_the_share_done():
    shares = [0.0, fit.WARM_UP / 2, fit.WARM_UP, 0.5, 1.0, 1.5]
    rates = [float(fit.rate(jnp.float32(share), 2.0)) for share in shares]
    assert rates[:3] == pytest.approx([0.0, 1.0, 2.0], abs=1e-5)
    assert 0.04 < rates[3] < 2.0
    assert rates[4:] == pytest.approx([0.04, 0.04], abs=1e-5)


def test_it_learns_and_a_finished_stage_is_kept(tmp_path, capsys):
    found = run(tmp_path)
    np.testing.assert_allclose(found["x"], 1.0, atol=0.1)
    assert "GFLOP a step" in capsys.readouterr().err

    def never(step):
        raise AssertionError("the stage was finished")

    again = run(tmp_path, never)
    np.testing.assert_array_equal(found["x"], again["x"])


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_stage_is_saved_and_goes_on(tmp_path, kind):
    seen, before = [], signal.getsignal(kind)

    def stops(step):
        seen.append(step)
        if step == 7:
            os.kill(os.getpid(), kind)
        return batches(step)

    with pytest.raises(SystemExit, match="saved at step 8; the same command goes on"):
        run(tmp_path / "cut", stops)
    assert signal.getsignal(kind) == before
    assert run(tmp_path / "cut", lambda step: stops(step + 1000)) is not None
    assert seen == [*range(8), *range(1008, 1060)]
    whole = run(tmp_path / "whole")
    cut = run(tmp_path / "cut")
    np.testing.assert_allclose(cut["x"], whole["x"], rtol=1e-6)


def test_minutes_bound_all_runs_together(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(fit.time, "monotonic", lambda: now[0])

    def slow(step):
        now[0] += 1.0
        if step == 4 and now[0] < 6:
            os.kill(os.getpid(), signal.SIGTERM)
        seen.append(step)
        return batches(step)

    seen = []
    with pytest.raises(SystemExit):
        run(tmp_path, slow, minutes=10 / 60)
    run(tmp_path, slow, minutes=10 / 60)
    assert seen == list(range(10))


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

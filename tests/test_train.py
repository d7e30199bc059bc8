"""One training step on its own, and how the loop ends."""

import errno
import functools
import json
import logging
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EARLY
from retrieval_task import retrieval

from sbir_jax import data
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import text_states
from sbir_jax.config import TrainConfig
from sbir_jax.features import Recipe
from sbir_jax.runtime import hardware, sharding, stops
from sbir_jax.runtime.sharding import make_mesh
from sbir_jax.tasks.retrieval.objective import objective
from sbir_jax.tasks.retrieval.setup import TripletConfig
from sbir_jax.train import train
from sbir_jax.train_step import Step, new_state

RECIPE = Recipe(EARLY)
BATCH = 4


@pytest.fixture(scope="module")
def prompts(tiny):
    return init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])


def test_a_step_is_traced_for_the_devices_that_hold_its_state():
    seen, optimiser = [], TrainConfig(warmup=0.0).optimiser()

    def loss(trained, frozen, batch, key):
        seen.append(hardware.device())
        return (trained["x"] * batch["y"]).mean(), {}

    mesh = make_mesh(devices=jax.devices()[2:4])
    out = sharding.replicated(mesh)
    state = new_state({"x": jnp.ones(3)}, optimiser, -np.inf, average=False)
    Step(loss, optimiser, seed=0, out=out)(
        jax.device_put(state, out), None, None, [{"y": np.ones(3, np.float32)}]
    )
    assert seen[-1] == jax.devices()[2]  # the first trace only asks for shapes


def test_a_step_over_groups_is_the_step_over_all_in_less_memory(tiny, prompts):
    config = TrainConfig(batch_size=BATCH, warmup=0.0)
    loss = functools.partial(
        objective,
        backbone=tiny.backbone,
        recipe=RECIPE,
        margin=0.3,
        visual_scale=1.0,
        encoded=False,
    )
    optimiser = config.optimiser()
    step = Step(loss, optimiser, seed=0)
    images = np.random.default_rng(0).uniform(-1, 1, (3, BATCH, 32, 32, 3))
    names = ("sketch", "positive", "negative")
    found, held = {}, {}
    for at_once in (BATCH, 1):
        groups = [
            dict(zip(names, group, strict=True))
            for group in np.split(images.astype(np.float32), BATCH // at_once, axis=1)
        ]
        state = jax.tree.map(
            jnp.copy, new_state(prompts, optimiser, -np.inf, average=False)
        )
        compiled = step.compiled(state, None, tiny.frozen, groups[0])
        held[at_once] = compiled.memory_analysis().temp_size_in_bytes
        state, measured = step(state, None, tiny.frozen, groups)
        found[at_once] = {**measured.values, "moments": state.opt_state}
    assert found[BATCH]["grad_norm"] > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        found[1],
        found[BATCH],
    )
    assert held[1] < held[BATCH] / 2, held


@pytest.mark.parametrize(
    ("batch", "at_once", "message"),
    [
        (8, 3, "triplets_at_once is 3; give a divisor"),
        (16, 4, "triplets_at_once is 4; .* multiples of 8"),
        (24, 16, "triplets_at_once is 16; give a divisor"),
        (12, 0, r"batch_size \(12\).* multiples of 8"),
    ],
)
def test_batches_that_devices_and_groups_cannot_share_are_refused(
    tiny, prompts, shapes_root, tmp_path, batch, at_once, message
):
    dataset = data.load(
        "folder", str(shapes_root), unseen="gem,ring", cache_dir=str(tmp_path)
    )
    with pytest.raises(ValueError, match=message):
        config = TripletConfig(steps=1, batch_size=batch)
        retrieval(tiny, dataset, tmp_path, config, RECIPE, at_once=at_once)


def test_a_batch_is_cut_where_the_memory_ends(
    tiny, prompts, shapes_root, tmp_path, monkeypatch
):
    dataset = data.load(
        "folder", str(shapes_root), unseen="gem,ring", cache_dir=str(tmp_path)
    )
    memory, chosen, fitting = {}, [], hardware.largest_fitting
    monkeypatch.setattr(hardware, "MOST_ON_CPU", 16)

    def spy(program, counts, handed, free):
        for count in counts:
            memory[count] = program(count).memory_analysis().temp_size_in_bytes
        assert handed(1) == handed(3) == 3 * 6 * 4 * 32 * 32 * 3
        chosen.append(fitting(program, counts, handed, free))
        return chosen[-1]

    monkeypatch.setattr(hardware, "largest_fitting", spy)
    groups, run = [], Step.__call__

    def watched(self, state, fixed, frozen, batch, share):
        groups.append([len(group["sketch"]) for group in batch])
        return run(self, state, fixed, frozen, batch, share)

    monkeypatch.setattr(Step, "__call__", watched)

    def learn(name):
        (tmp_path / name).mkdir()
        mesh = sharding.make_mesh(devices=jax.local_devices()[:1])
        config = TripletConfig(steps=2, batch_size=6)
        task = retrieval(tiny, dataset, tmp_path / name, config, RECIPE, mesh=mesh)
        learned, _ = train(task, tmp_path / name, mesh=mesh)
        return learned

    whole = learn("whole")
    monkeypatch.setattr(hardware, "free_bytes", lambda devices: int(1.2 * memory[3]))
    cut = learn("cut")
    # Six triplets would be eighteen images, more than are worth while.
    assert list(memory) == [3, 2, 1]
    assert chosen == [3, 2]
    assert groups == [[3, 3]] * 2 + [[2, 2, 2]] * 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, cut)


@pytest.fixture
def told_apart(monkeypatch, tmp_path):
    """A toy run that is quick to train; a function that trains into a folder."""
    from toy_config import get_config

    from sbir_jax import experiment, tasks
    from sbir_jax.config import Experiment

    monkeypatch.setitem(tasks.TASKS, "tell_apart", "toy_task:TellApart")
    monkeypatch.setenv("SBIR_CACHE", str(tmp_path / "cache"))
    config = get_config()
    config.train.update({"steps": 12, "score_every": 4, "save_every": 4})
    task = experiment.open(Experiment.from_config(config)).task

    def run(name, **given):
        return train(task, tmp_path / name, **given)

    run.task, run.folder = task, tmp_path
    return run


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(told_apart, monkeypatch, kind):
    whole, _ = told_apart("whole")
    draw, before = told_apart.task.batches, signal.getsignal(kind)

    def stopping(step):
        for now, batch in enumerate(draw(step), start=step + 1):
            if now == 6:
                os.kill(os.getpid(), kind)
            yield batch

    monkeypatch.setattr(told_apart.task, "batches", stopping)
    words = "stopped after step 6, which is saved in .*cut; the same command goes on"
    with pytest.raises(SystemExit, match=words):
        told_apart("cut")
    assert signal.getsignal(kind) == before
    monkeypatch.setattr(told_apart.task, "batches", draw)
    cut, _ = told_apart("cut")
    jax.tree.map(np.testing.assert_array_equal, whole, cut)
    rows = map(json.loads, (told_apart.folder / "cut/metrics.jsonl").open())
    assert [row["step"] for row in rows if "val/error" in row] == [0, 4, 8, 12]


def test_a_second_signal_interrupts_at_once(told_apart, monkeypatch):
    draw, seen = told_apart.task.batches, []

    def stopping(step):
        for batch in draw(step):
            seen.append(step)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(told_apart.task, "batches", stopping)
    with pytest.raises(KeyboardInterrupt):
        told_apart("cut")
    assert len(seen) == 1


def test_a_full_disk_is_one_line(told_apart, monkeypatch):
    def full(manager, step, state):
        raise ValueError(
            "RESOURCE_EXHAUSTED: Error writing to local file\n"
            "[os_error_code='No space left on device']\n" * 20
        )

    monkeypatch.setattr("sbir_jax.runtime.checkpoint.save", full)
    with pytest.raises(OSError, match=r"no room .* disk of .*cut") as error:
        told_apart("cut")
    assert "\n" not in str(error.value) and "then the same command" in str(error.value)


def test_libraries_say_nothing_more_of_a_full_disk():
    said, log = [], logging.getLogger("absl")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log.addHandler(handler)
    full, other = OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")
    try:
        with stops.told_where_full("folder", "all is whole"):
            log.error("pages of text", exc_info=full)
            log.error("something else", exc_info=other)
            log.error("no exception")
        log.error("afterwards", exc_info=full)
    finally:
        log.removeHandler(handler)
    assert said == ["something else", "no exception", "afterwards"]


def test_other_errors_stay_as_they_are():
    with pytest.raises(ValueError, match="something else"):
        with stops.told_where_full("folder", "all is whole"):
            raise ValueError("something else")


def test_minutes_bound_all_runs_together(told_apart, monkeypatch):
    now, shares = [0.0], []
    monkeypatch.setattr("sbir_jax.train.time.monotonic", lambda: now[0])
    task, batch = told_apart.task, next(iter(told_apart.task.batches(0)))

    def slow(step):
        while True:
            now[0] += 1.0
            if now[0] == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    def watched(self, *given):
        shares.append(given[-1])
        return call(self, *given)

    call = Step.__call__
    monkeypatch.setattr(Step, "__call__", watched)
    monkeypatch.setattr(task, "batches", slow)
    monkeypatch.setattr(task, "validates", False)
    with pytest.raises(SystemExit):
        told_apart("timed", minutes=10 / 60)
    _, step = told_apart("timed", minutes=10 / 60)
    assert step == 10
    np.testing.assert_allclose(shares, np.arange(1, 11) / 10, atol=1e-6)
    monkeypatch.setattr(task, "batches", lambda step: 1 / 0)
    assert told_apart("timed", minutes=10 / 60)[1] == 10

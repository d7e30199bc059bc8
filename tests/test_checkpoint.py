"""Damaged checkpoints: the newest whole one counts, and it is said which and why."""

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.runtime import checkpoint

# TensorStore's reads that failed are told of once more when they are collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def state(step):
    """Leaves as large as prompts are: Orbax keeps smaller ones elsewhere."""
    values = np.random.default_rng(0).normal(size=(77, 64)).astype(np.float32)
    prompts = {"text": jnp.asarray(values) + step, "bias": jnp.zeros(3) + step}
    best = {"step": jnp.int32(step), "score": jnp.float32(1), "prompts": prompts}
    return {"step": jnp.int32(step), "prompts": prompts, "best": best}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "run"
    with checkpoint.manager(folder) as manager:
        for step in (2, 4):
            checkpoint.save(manager, step, state(step))
    checkpoint.write_json(folder / checkpoint.OWNER, {"backbone": "b" * 64})
    return folder


def flipped(content):
    where = len(content) // 2
    return content[:where] + bytes([content[where] ^ 0x55]) + content[where + 1 :]


def biggest(step):
    files = [path for path in step.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


DAMAGE = {
    "values flipped": lambda step: biggest(step).write_bytes(
        flipped(biggest(step).read_bytes())
    ),
    "values cut": lambda step: biggest(step).write_bytes(b"cut"),
    "values gone": lambda step: biggest(step).unlink(),
    "manifest flipped": lambda step: (step / "default/manifest.ocdbt").write_bytes(
        flipped((step / "default/manifest.ocdbt").read_bytes())
    ),
    "metadata missing": lambda step: (step / "default/_METADATA").unlink(),
    "metadata cut": lambda step: (step / "default/_METADATA").write_text("{"),
    "an empty folder": lambda step: [shutil.rmtree(step), step.mkdir()],
}


@pytest.fixture
def said(monkeypatch):
    """Our warnings; Orbax's own go the same way."""
    lines = []

    def warn(line, *values):
        if "damaged" in line:
            lines.append(line % values)

    monkeypatch.setattr(checkpoint.logging, "warning", warn)
    return lines


@pytest.mark.parametrize("how", DAMAGE)
def test_the_newest_whole_checkpoint_counts(sound, tmp_path, said, how):
    folder = shutil.copytree(sound, tmp_path / "run")
    DAMAGE[how](folder / "checkpoints" / "4")
    learned = checkpoint.load_trained(folder, "b" * 64)
    np.testing.assert_array_equal(learned["text"], state(2)["prompts"]["text"])
    assert (folder / "checkpoints" / "4").exists()  # who only reads moves nothing
    with checkpoint.manager(folder) as manager:
        found = checkpoint.restore(manager, state(0))
        jax.tree.map(np.testing.assert_array_equal, found, state(2))
        # Training goes on from there, and saves that step again.
        checkpoint.save(manager, 4, state(4))
    assert (folder / "damaged-checkpoints" / "4").exists()
    for line in said:
        assert "checkpoint of step 4 in" in line and "is of step 2" in line
        assert "\n" not in line and "()" not in line
    assert len(said) == 2
    found = checkpoint.load_trained(folder, "b" * 64)
    np.testing.assert_array_equal(found["text"], state(4)["prompts"]["text"])
    assert len(said) == 2


def test_without_a_whole_one_each_is_named(sound, tmp_path, said):
    folder = shutil.copytree(sound, tmp_path / "run")
    for step in (2, 4):
        DAMAGE["values flipped"](folder / "checkpoints" / str(step))
    words = "no checkpoint in .*run/checkpoints can be used: step 4: its values are not"
    with pytest.raises(ValueError, match=words) as error:
        checkpoint.load_trained(folder, "b" * 64)
    assert "step 2: its values" in str(error.value) and "\n" not in str(error.value)
    with checkpoint.manager(folder) as manager, pytest.raises(ValueError, match=words):
        checkpoint.restore(manager, state(0))
    assert not (folder / "damaged-checkpoints").exists()


def test_another_runs_state_is_told(sound):
    other = {**state(0), "prompts": {"text": jnp.zeros((2, 2)), "bias": jnp.zeros(3)}}
    words = r"holds prompts.text of shape \(77, 64\).*is of another run"
    with checkpoint.manager(sound) as manager, pytest.raises(ValueError, match=words):
        checkpoint.restore(manager, other)


def test_those_of_earlier_versions_have_no_checksum(sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "run")
    (folder / "checkpoints/4/_CHECKPOINT_METADATA").write_text("{}")
    found = checkpoint.load_trained(folder, "b" * 64)
    np.testing.assert_array_equal(found["text"], state(4)["prompts"]["text"])


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"backbone": 3}'])
def test_a_damaged_owner_is_named(sound, tmp_path, content):
    folder = shutil.copytree(sound, tmp_path / "run")
    (folder / checkpoint.OWNER).write_text(content)
    words = r"owner\.json|trained on backbone 3 and this one is b"
    with pytest.raises(ValueError, match=words):
        checkpoint.load_trained(folder, "b" * 64)
    with pytest.raises(ValueError, match=r"owner\.json|belongs to another run"):
        checkpoint.claim(folder, {"backbone": "b" * 64})

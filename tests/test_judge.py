"""The judge of generated pictures."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sbir_jax.models import judge as judges
from sbir_jax.models.judge import JudgeConfig

CONFIG = JudgeConfig(("mug", "hat", "fork"), ("red", "blue"))


@pytest.fixture(scope="module")
def params():
    return judges.init_judge(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (judges.AT_ONCE + 3, 64, 64, 3), np.uint8)


def test_each_picture_is_judged_alone(params, images):
    many = judges.judge(CONFIG, params, images)
    assert len(many.things) == len(many.colours) == len(images)
    assert set(many.things) <= set(CONFIG.categories)
    for i in (0, judges.AT_ONCE + 1):
        one = judges.judge(CONFIG, params, images[i : i + 1])
        assert (one.things, one.colours) == ([many.things[i]], [many.colours[i]])
        np.testing.assert_allclose(one.features[0], many.features[i], atol=1e-4)


def test_what_is_written_judges_the_same(params, images, tmp_path):
    judges.save_judge(tmp_path, CONFIG, params)
    config, read = judges.load_judge(tmp_path)
    assert config == CONFIG
    near = judges.judge(config, read, images).features
    here = judges.judge(CONFIG, params, images).features
    np.testing.assert_allclose(near, here, atol=0.02)  # float16 in the file
    assert np.ptp(here, axis=0).max() > 0.1


def test_weights_of_another_network_are_refused(params, tmp_path):
    judges.save_judge(tmp_path, CONFIG, params)
    path = tmp_path / "judge.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "category" in name and "kernel" in name)
    save_file(tensors | {name: tensors[name][:, :2].copy()}, path)
    with pytest.raises(ValueError, match=r"judge.safetensors: .*category.*make it ag"):
        judges.load_judge(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "holds a list"),
        ('{"categories": ["mug"]}', "colours is .* Make it again"),
        ('{"categories": 1, "colours": ["red"]}', "categories is 1, but .* Make it"),
    ],
)
def test_a_damaged_config_is_told(params, tmp_path, content, message):
    judges.save_judge(tmp_path, CONFIG, params)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        judges.load_judge(tmp_path)


def test_a_judge_whose_writer_was_killed_is_found(params, tmp_path):
    judges.save_judge(tmp_path / "judge", CONFIG, params)
    (tmp_path / "judge").rename(tmp_path / ".judge.old")  # between its two renames
    assert judges.load_judge(tmp_path / "judge")[0] == CONFIG

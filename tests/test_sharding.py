"""The same figures however many devices share the batch and the frozen weights."""

import math

import jax
import numpy as np
import pytest
import test_unet
from conftest import EARLY
from retrieval_task import retrieval

from sbir_jax import data
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones import loading, stable_diffusion_files
from sbir_jax.backbones.frozen import PARTS, text_states
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.models.unet import UNet
from sbir_jax.models.unet_config import UNetConfig
from sbir_jax.runtime import sharding
from sbir_jax.tasks.retrieval.setup import TripletConfig
from sbir_jax.train import train

RECIPE = Recipe(EARLY, copies=2)
MODELS = (1, 4, 8)  # devices of eight that share one copy of the weights


def bytes_on_each(params) -> set[int]:
    """Bytes of the parameters on each device that holds any."""
    found: dict[jax.Device, int] = {}
    for leaf in jax.tree.leaves(params):
        for shard in leaf.addressable_shards:
            found[shard.device] = found.get(shard.device, 0) + shard.data.nbytes
    return set(found.values())


@pytest.fixture(scope="module")
def alone():
    return sharding.make_mesh(devices=jax.devices()[:1])


def test_descriptors_are_those_of_one_device(tiny, tiny_folder, alone):
    prompts = init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])
    prompts = jax.tree.map(lambda x: x + 0.1, prompts)
    images = np.random.default_rng(0).uniform(-1, 1, (11, 32, 32, 3))
    images = images.astype(np.float32)
    one = Embedder(tiny, prompts, RECIPE, 32, batch_size=8, mesh=alone)
    wanted = one.embed_arrays(images, "sketch")
    whole = bytes_on_each(tiny.frozen)
    for model in MODELS:
        mesh = sharding.make_mesh(model)
        backbone = loading.load_backbone(
            tiny_folder,
            taps=EARLY,
            parts=PARTS,
            sharding=sharding.frozen_rule(mesh),
        )
        many = Embedder(backbone, prompts, RECIPE, 32, batch_size=8, mesh=mesh)
        found = many.embed_arrays(images, "sketch")
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
        assert many.fingerprint == one.fingerprint
        (held,) = bytes_on_each(many._frozen)
        # The tiny net's many biases stay whole; the full ones are asked below.
        assert held < 1.35 * max(whole) / model, (model, held, whole)


def test_prompts_after_20_steps_are_those_of_one_device(
    tiny, shapes_root, alone, tmp_path
):
    dataset = data.load(
        "folder", str(shapes_root), unseen="gem,ring", cache_dir=str(tmp_path)
    )
    start = init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])
    config = TripletConfig(steps=20, batch_size=8, log_every=20, save_every=20)

    def learn(name, mesh, at_once=0):
        task = retrieval(
            tiny, dataset, tmp_path / name, config, RECIPE, mesh=mesh, at_once=at_once
        )
        learned, step = train(task, tmp_path / name, mesh=mesh)
        assert step == 20
        return learned

    (tmp_path / "one").mkdir()
    wanted = learn("one", alone)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), wanted, start)
    assert min(jax.tree.leaves(moved)) > 1e-3, moved
    # Two groups of devices that share the weights also take the batch in four groups.
    for model, at_once in ((1, 0), (4, 2)):
        (tmp_path / str(model)).mkdir()
        found = learn(str(model), sharding.make_mesh(model), at_once)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0),
            found,
            wanted,
        )


def test_bytes_of_full_size_weights_fall_in_proportion():
    """Stable Diffusion 2.1's UNet, shapes only. What stays whole is under 0.1 %."""
    config = UNetConfig.from_json(test_unet.SD2)
    shapes = [
        leaf.shape
        for leaf in jax.tree.leaves(stable_diffusion_files.shapes(UNet, config))
    ]
    whole = sum(map(math.prod, shapes))
    assert whole == 865_910_724
    for model in MODELS:
        rule = sharding.frozen_rule(sharding.make_mesh(model))
        here = sum(math.prod(rule("", shape).shard_shape(shape)) for shape in shapes)
        assert here / whole == pytest.approx(1 / model, abs=0.001)


def test_groups_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"8 devices in one process cannot .* of 3"):
        sharding.make_mesh(3)
    with pytest.raises(ValueError, match="model_shards a divisor of 8"):
        sharding.make_mesh(0)

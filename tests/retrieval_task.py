"""The retrieval task on parts that a test has made, without a config file."""

import jax

from sbir_jax.adapters.prompts import PromptConfig
from sbir_jax.runtime import sharding
from sbir_jax.tasks.base import Resources
from sbir_jax.tasks.retrieval.setup import Scoring, Setup
from sbir_jax.tasks.retrieval.task import Retrieval


def retrieval(
    backbone,
    dataset,
    workdir,
    config,
    recipe,
    task="category",
    prompts=None,
    scale=1.0,
    mesh=None,
    at_once=0,
):
    """On 32 px images; from `prompts`, where given."""
    space = "latent" if prompts is not None and prompts.latent is not None else "pixel"
    setup = Setup(
        task=task,
        data={},
        train=config,
        recipe=recipe,
        prompt=PromptConfig(space=space, visual_scale=scale),
        triplets_at_once=at_once,
        val_classes=0,
        score=Scoring(cutoffs=(2,)),
    )
    mesh = mesh or sharding.make_mesh()
    local = sharding.make_mesh(devices=jax.local_devices())
    made = Retrieval(Resources(setup, dataset, backbone, 32, mesh, local, workdir))
    if prompts is not None:
        made.start = prompts
    return made

"""Reads what a synthesis run has learned."""

import pathlib

import jax

from sbir_jax.adapters.sketch_adapter import SketchAdapter
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.runtime import checkpoint, sharding

NAME = "adapter"  # what checkpoints call it


def from_run(folder: pathlib.Path) -> tuple[LoadedBackbone, SketchAdapter]:
    """The whole backbone of a run, and its adapter.

    Raises: FileNotFoundError without a run there; ValueError for a run of another task,
      or where the backbone is no longer the one that was trained with.
    """
    command = "python -m sbir_jax.main --config configs/toybox.py:task=synthesis"
    values = checkpoint.run_config(folder, f"{command} --workdir {folder}")
    if values.get("task") != "synthesis":
        raise ValueError(
            f"{folder} is a run of task={values.get('task')}; give one of "
            "task=synthesis"
        )
    config = checkpoint.checked_config(checkpoint.OnBackbone, values, folder)
    mesh = sharding.make_mesh(devices=jax.local_devices())
    loaded = load_backbone(
        config.backbone,
        dtype=config.dtype,
        sharding=sharding.frozen_rule(mesh),
        frozen=True,
    )
    found = checkpoint.load_trained(folder, loaded.backbone.fingerprint, NAME)
    return loaded, SketchAdapter(**found)

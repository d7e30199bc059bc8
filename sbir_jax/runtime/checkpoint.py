"""What a run saves: {step, what is trained, optimiser state, best}, and whose they are.

Orbax writes each step aside and renames it, so a killed run leaves whole ones only. A
disk can damage one later: each has a checksum of its values, and where the newest is
not whole the one before it counts. Frozen weights are never saved. Which batch comes at
which step is a pure function of the seed and the step, so the step is also the position
in the data.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from pydantic import Field

from sbir_jax.data.image_files import means_machine
from sbir_jax.runtime import multiprocess, schema

OWNER, CONFIG = "owner.json", "config.json"
CHECKPOINTS, DAMAGED = "checkpoints", "damaged-checkpoints"
DIGEST = "blake2b"
T = TypeVar("T")
REMEDY = "Give another --workdir, or bring this folder back from a copy"


@dataclasses.dataclass(frozen=True)
class Seeded:
    """Of a run's `train`, what any model of a random network needs."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]


@dataclasses.dataclass(frozen=True)
class OnBackbone:
    """Of a run's config, which backbone it was trained on, and on what images."""

    backbone: str
    random_weights: bool
    image_size: Annotated[int, Field(ge=1, le=2**13)]
    train: Seeded
    encoder: str = ""
    # Runs from before there was a choice are float32; "" is of those that read none.
    dtype: Literal["", "float32", "bfloat16"] = "float32"


def manager(workdir: pathlib.Path) -> ocp.CheckpointManager:
    """Keeps the last two checkpoints under `workdir/checkpoints`."""
    folder = (pathlib.Path(workdir) / CHECKPOINTS).resolve()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    handler = ocp.StandardCheckpointHandler()
    return ocp.CheckpointManager(folder, options=options, item_handlers=handler)


def claim(workdir: pathlib.Path, owner: dict[str, Any]) -> None:
    """Marks the run folder as belonging to this backbone, data and recipe.

    Of several processes all compare and the first one writes.

    Args:
      owner: the values that must not change between runs into one folder.
    Raises: ValueError naming every value that differs from the folder's own.
    """
    path = pathlib.Path(workdir) / OWNER
    if path.exists():
        found = schema.read_json(path, REMEDY)
        # Runs from before there was a choice are float32, with frames in pixels.
        if "dtype" in owner:
            found.setdefault("dtype", "float32")
        found.get("prompt", {}).setdefault("space", "pixel")
        changed = [
            f"{key}: {found.get(key)!r} in the folder, {owner.get(key)!r} now"
            for key in sorted({*found, *owner})
            if found.get(key) != owner.get(key)
        ]
        if changed:
            raise ValueError(
                f"{workdir} belongs to another run; going on would mix the two.\n  "
                + "\n  ".join(changed)
                + "\nGive another --workdir, or the settings it was started with."
            )
        return
    write_json(path, owner)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes aside and renames: the file is whole or not there.

    Of several processes the first one writes, and the others do nothing.
    """
    if multiprocess.is_first():
        write_own_json(path, value)


def write_own_json(path: pathlib.Path, value: Any) -> None:
    """As `write_json`, by every process that calls it: each needs another path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
    os.replace(partial, path)


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
    """Saves without waiting for the disk; `manager.wait_until_finished()` does."""
    digest = {DIGEST: _digest(state)}
    manager.save(step, args=ocp.args.StandardSave(state), custom_metadata=digest)


def restore(manager: ocp.CheckpointManager, like: Any) -> Any:
    """The newest whole state, shaped and placed like `like`; `like` itself without one.

    Leaves are found by their names. A checkpoint may hold more of them: earlier ones
    have optimiser states of parts that were not trained. Newer checkpoints that are not
    whole are moved out of the way, to `damaged-checkpoints` in the run folder.

    Raises: ValueError where no checkpoint is whole, or where a leaf is missing or has
      another shape in all of them.
    """
    if manager.latest_step() is None:
        return like
    wanted, form = named(like), jax.tree.structure(like)
    elsewhere = next(iter(wanted.values())).sharding
    placed = {name: leaf.sharding for name, leaf in wanted.items()}

    def read(step: int) -> dict[str, Any]:
        found = named(manager.item_metadata(step))
        for name, leaf in wanted.items():
            shape = tuple(found[name].shape) if name in found else None
            if shape != leaf.shape:
                raise ValueError(
                    f"the checkpoint of step {step} holds {name} of shape {shape}, and "
                    f"{leaf.shape} is needed: it is of another run. Give another "
                    "--workdir"
                )
        return named(_read(manager, step, placed, elsewhere))

    found, damaged = _newest_whole(manager, read)
    _move_away(manager, damaged)
    return jax.tree.unflatten(form, [found[name] for name in wanted])


def _newest_whole(
    manager: ocp.CheckpointManager, read: Callable[[int], Any]
) -> tuple[Any, list[int]]:
    """What `read` gives of the newest step that it can read, and the steps after it.

    Raises: ValueError where it can read none, with what is wrong with each.
    """
    problems: dict[int, str] = {}
    folder, found = manager.directory, None
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found = read(step)
        # Orbax and TensorStore let nearly any exception through on damaged files.
        except Exception as error:
            if means_machine(error):
                raise
            problems[step] = textwrap.shorten(str(error) or repr(error), 200)
        # All processes go on from the same one.
        if multiprocess.smallest(int(step not in problems)):
            for bad, why in problems.items():
                logging.warning(
                    "the checkpoint of step %d in %s is damaged (%s); the newest whole "
                    "one is of step %d, and it counts",
                    *(bad, folder, why, step),
                )
            return found, list(problems)
        problems.setdefault(step, "another process cannot read it")
    what = "; ".join(f"step {step}: {why}" for step, why in problems.items())
    raise ValueError(f"no checkpoint in {folder} can be used: {what}. {REMEDY}")


def _read(
    manager: ocp.CheckpointManager, step: int, placed: Mapping[str, Any], elsewhere: Any
) -> Any:
    """All that a checkpoint holds, as nested dicts.

    Args:
      placed: the shardings of leaves by their names; `elsewhere`: of all others.
    Raises: ValueError where the values are not those that were saved.
    """

    def abstract(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        where = placed.get(_name(path), elsewhere)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    asked = jax.tree_util.tree_map_with_path(abstract, manager.item_metadata(step))
    found = manager.restore(step, args=ocp.args.StandardRestore(asked))
    # Those of earlier versions have no checksum.
    saved = (manager.metadata(step).custom_metadata or {}).get(DIGEST)
    if saved is not None and saved != _digest(found):
        raise ValueError("its values are not those that were saved")
    return found


def _digest(tree: Any) -> str:
    """Over names, types, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, leaf in sorted(named(tree).items()):
        rows = np.asarray(leaf)
        digest.update(f"{name} {rows.dtype} {rows.shape} ".encode() + rows.tobytes())
    return digest.hexdigest()


def _move_away(manager: ocp.CheckpointManager, steps: list[int]) -> None:
    """So that their steps can be saved again; nothing of them is deleted."""
    if not steps:
        return
    here = pathlib.Path(manager.directory)
    away = here.parent / DAMAGED
    if multiprocess.is_first():
        away.mkdir(exist_ok=True)
        for step in steps:
            shutil.rmtree(away / str(step), ignore_errors=True)
            os.replace(here / str(step), away / str(step))
    multiprocess.barrier("damaged")
    manager.reload()


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their names, in its order."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def run_config(workdir: pathlib.Path, command: str) -> dict[str, Any]:
    """The config of a run, as JSON values; what is used of them has a schema, see
    `checked_config`.

    Args:
      command: what would make such a run.
    Raises: FileNotFoundError without a run there; ValueError for what is no object.
    """
    remedy = f"{workdir} is not a run folder; train one with: {command}"
    return schema.read_json(workdir / CONFIG, remedy)


def checked_config(kind: type[T], values: dict[str, Any], workdir: pathlib.Path) -> T:
    """Of `run_config`, what the dataclass `kind` has.

    Raises: ValueError naming the file, the key, the rule and the remedy.
    """
    return schema.validated(kind, values, str(workdir / CONFIG), REMEDY)


def load_trained(
    workdir: pathlib.Path, backbone: str | None, name: str = "prompts"
) -> dict[str, Any]:
    """What a run has learned, by the names of its parts.

    Args:
      backbone: fingerprint of the backbone it is to be used with; None for a run that
        has none.
      name: what the task of the run calls it in checkpoints.
    Raises: FileNotFoundError without a checkpoint; ValueError where the run was made
      with another backbone, naming both fingerprints, or where none is whole.
    """
    workdir = pathlib.Path(workdir)
    owner = workdir / OWNER
    trained = schema.read_json(owner, REMEDY).get("backbone") if owner.exists() else ""
    if trained != backbone:
        raise ValueError(
            f"the {name} in {workdir} were trained on backbone {str(trained)[:12]} "
            f"and this one is {str(backbone)[:12]}: they fit only their own backbone"
        )
    # Onto a device of this process: it was saved from others, perhaps more of them.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with manager(workdir) as kept:
        if kept.latest_step() is None:
            raise FileNotFoundError(
                f"{workdir} holds no checkpoint; train first with the same --workdir"
            )
        state, _ = _newest_whole(kept, lambda step: _read(kept, step, {}, here))
    best = state["best"]
    return best[name] if math.isfinite(best["score"]) else state[name]

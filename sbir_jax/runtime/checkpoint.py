"""What a run saves: {step, what is trained, optimiser state, best}, and whose they are.

Orbax writes each step aside and renames it, so a killed run leaves whole ones only.
Frozen weights are never saved. Which batch comes at which step is a pure function of
the seed and the step, so the step is also the position in the data.
"""

import json
import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from sbir_jax.runtime import multiprocess

OWNER = "owner.json"


def manager(workdir: pathlib.Path) -> ocp.CheckpointManager:
    """Keeps the last two checkpoints under `workdir/checkpoints`."""
    folder = (pathlib.Path(workdir) / "checkpoints").resolve()
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
        found = json.loads(path.read_text())
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
    manager.save(step, args=ocp.args.StandardSave(state))


def restore(manager: ocp.CheckpointManager, like: Any) -> Any:
    """The latest state, shaped and placed like `like`; `like` itself without one.

    Leaves are found by their names. A checkpoint may hold more of them: earlier ones
    have optimiser states of parts that were not trained.

    Raises: ValueError where a leaf is missing, or has another shape.
    """
    step = manager.latest_step()
    if step is None:
        return like
    wanted, form = named(like), jax.tree.structure(like)
    elsewhere = next(iter(wanted.values())).sharding
    metadata = manager.item_metadata(step)
    shapes = {name: tuple(leaf.shape) for name, leaf in named(metadata).items()}
    for name, leaf in wanted.items():
        if shapes.get(name) != leaf.shape:
            raise ValueError(
                f"the checkpoint of step {step} holds {name} of shape "
                f"{shapes.get(name)}, and {leaf.shape} is needed: it is of another "
                "run. Give another --workdir"
            )

    def abstract(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        target = wanted.get(_name(path))
        where = elsewhere if target is None else target.sharding
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    asked = jax.tree_util.tree_map_with_path(abstract, metadata)
    found = manager.restore(step, args=ocp.args.StandardRestore(asked))
    by_name = named(found)
    return jax.tree.unflatten(form, [by_name[name] for name in wanted])


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their names, in its order."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def load_trained(
    workdir: pathlib.Path, backbone: str, name: str = "prompts"
) -> dict[str, Any]:
    """What a run has learned, by the names of its parts.

    Args:
      backbone: fingerprint of the backbone it is to be used with.
      name: what the task of the run calls it in checkpoints.
    Raises: FileNotFoundError without a checkpoint; ValueError where the run was made
      with another backbone, naming both fingerprints.
    """
    workdir = pathlib.Path(workdir)
    owner = workdir / OWNER
    trained = json.loads(owner.read_text())["backbone"] if owner.exists() else None
    if trained != backbone:
        raise ValueError(
            f"the {name} in {workdir} were trained on backbone {str(trained)[:12]} "
            f"and this one is {backbone[:12]}: they fit only their own backbone"
        )
    with manager(workdir) as found:
        step = found.latest_step()
        if step is None:
            raise FileNotFoundError(
                f"{workdir} holds no checkpoint; train first with the same --workdir"
            )
        # Onto a device of this process: it was saved from others, perhaps more of them.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            found.item_metadata(step),
        )
        state = found.restore(step, args=ocp.args.StandardRestore(like))
    best = state["best"]
    return best[name] if best["step"] else state[name]

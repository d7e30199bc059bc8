"""Pictures with masks, expressions or depth: one door, `load`.

Toybox scenes are rendered here; the others are read as people have them on disk.
"""

import difflib
import importlib
import os
import pathlib
from typing import Any

from sbir_jax.data.dense.base import DenseData, Example, Split
from sbir_jax.data.tree import DataError

__all__ = ["DataError", "DenseData", "Example", "Split", "load"]

# A line for each: the tasks it serves, and its module's `load`.
DATA: dict[str, tuple[tuple[str, ...], str]] = {
    "toybox_scenes": (("segmentation", "referring", "depth"), "toybox_scenes"),
    "ade20k": (("segmentation",), "ade20k"),
    "voc": (("segmentation",), "voc"),
    "cityscapes": (("segmentation",), "cityscapes"),
    "refcoco": (("referring",), "refcoco"),
    "nyuv2": (("depth",), "nyuv2"),
}


def load(
    task: str,
    name: str,
    root: str | os.PathLike = "",
    split: str = "",
    **options: Any,
) -> DenseData:
    """Opens a data set; pictures are read when they are asked for.

    Args:
      task: "segmentation", "referring" or "depth".
      name: of DATA. root: the user's files, of all but toybox_scenes.
      split: of refcoco, "refcoco", "refcoco+" or "refcocog".
      options: further arguments of the data set's own `load`; empty ones are left out.
    Raises: DataError, a ValueError, for an unknown name, a task it cannot serve, and
      files that are not as they should be.
    """
    if name not in DATA:
        near = difflib.get_close_matches(name, DATA, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"data.name is {name!r}; give {', '.join(DATA)}{hint}")
    tasks, module = DATA[name]
    if task not in tasks:
        raise DataError(
            f"{name} has nothing for {task}; it serves {' and '.join(tasks)}"
        )
    given = {key: value for key, value in options.items() if value not in ("", None)}
    read = importlib.import_module(f"sbir_jax.data.dense.{module}").load
    if name == "toybox_scenes":
        return read(task, **given)
    folder = pathlib.Path(root).expanduser()
    if not root or not folder.is_dir():
        raise DataError(
            f"data.root is {os.fspath(root)!r}, which is no folder; give the one that "
            f"holds {name}: --config.data.root=DIR"
        )
    if split:
        given["split"] = split
    return read(folder, **given)

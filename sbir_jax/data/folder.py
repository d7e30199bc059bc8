"""Anybody's own sketches and photos, in one folder per class."""

import pathlib

from sbir_jax.data.builders import PairedFolders, pair_info
from sbir_jax.data.tree import (
    DataError,
    Tree,
    children,
    normal_name,
    read_tree,
    subfolders,
)

LAYOUT = """\
<root>/sketch/<class>/<photo name>-<n>.png   (a sketch drawn from that photo)
<root>/sketch/<class>/<any name>.png         (a sketch of the class only)
<root>/photo/<class>/<photo name>.jpg"""

NO_DATA = (
    "To try everything without any data, run with --config configs/toybox.py, "
    "which draws its own."
)


class Folder(PairedFolders):
    """`sketch/<class>/*` and `photo/<class>/*`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Give a folder laid out so:\n{LAYOUT}\n{NO_DATA}"

    def _info(self):
        return pair_info(self, description="Sketches and photos in class folders.")

    def read(self, root: pathlib.Path) -> Tree:
        return read_folder(root)


def read_folder(root: pathlib.Path) -> Tree:
    """Lists a flat folder. Raises: DataError if it is not laid out as `LAYOUT`."""
    sketch = children(root, "sketch", "sketches")
    photo = children(root, "photo", "photos")
    if not sketch or not photo:
        raise DataError(
            f"{found(root)} A data folder holds sketch/ and photo/:\n{LAYOUT}\n"
            f"Move the images there, or correct the path. {NO_DATA}"
        )
    classes = [c for f in (*sketch, *photo) for c in subfolders(f)]
    if classes and all(normal_name(c).startswith("tx_") for c in classes):
        raise DataError(
            f"{sketch[0]} holds {', '.join(classes[:3])}, which are renderings of "
            "Sketchy, not classes. Load it as 'sketchy' (--config configs/sketchy.py)."
        )
    return read_tree(root, sketch, photo)


def found(root: pathlib.Path) -> str:
    """A sentence on what lies at a path that disappointed."""
    if not root.exists():
        parent = next(p for p in root.absolute().parents if p.exists())
        inside = ", ".join(subfolders(parent)[:8]) or "no folders"
        return f"{root} does not exist ({parent} holds {inside})."
    if not root.is_dir():
        return f"{root} is a file, not a folder."
    names = subfolders(root)
    inside = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    return f"{root} holds {f'the folders {inside}' if names else 'no folders'}."

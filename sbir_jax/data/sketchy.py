"""The Sketchy database (Sangkloy et al., 2016) and its extended photos.

125 classes, 12,500 photos, 75,481 sketches, each drawn from one of the photos. The
extended set (Liu et al., Deep Sketch Hashing, 2017) adds 60,502 photos; its archive
repeats the 12,500 under their own names.
"""

import dataclasses
import importlib.resources
import pathlib

import tensorflow_datasets as tfds

from sbir_jax.data.builders import PairedFolders, pair_info
from sbir_jax.data.folder import LAYOUT, NO_DATA, found
from sbir_jax.data.tree import DataError, Tree, child, read_tree, subfolders

# Photos stretched, sketches placed as the photo was: the rendering the literature uses.
RENDERINGS = ("tx_000000000000", "tx_000000000000_ready")
PHOTOS = ("basic", "extended", "both")

INSTRUCTIONS = f"""\
Sketchy comes from https://sketchy.eye.gatech.edu (archive rendered_256x256.7z) and is
for research use. Unpack it, and give the folder that holds 256x256/, or that one:
  <root>/256x256/sketch/tx_000000000000/<class>/<photo>-<n>.png
  <root>/256x256/photo/tx_000000000000/<class>/<photo>.jpg
  <root>/EXTEND_image_sketchy/<class>/*.jpg        (optional: extended photos)
A flat copy is read too:
{LAYOUT}
Where a link is dead: the site's page and the repositories of later papers (ZSE-SBIR,
janesjanes/sketchy, issue 9) name newer copies, of the extended photos above all.
{NO_DATA}"""


@dataclasses.dataclass(kw_only=True)
class SketchyConfig(tfds.core.BuilderConfig):
    """Which photos are the gallery.

    basic: the 12,500 photos that were drawn. extended: the extended archive only, which
    holds the drawn ones too (73,002). both: the two together, so that each drawn photo
    is there twice, as in the lists of SAKE and ZSE-SBIR (85,502).
    """

    photos: str = "basic"

    def __post_init__(self):
        if self.photos not in PHOTOS:
            allowed = ", ".join(PHOTOS)
            raise DataError(f"photos is {self.photos!r}; allowed are {allowed}.")


class Sketchy(PairedFolders):
    """The official tree, or a flat one, with or without the extended photos."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = [SketchyConfig(name=p, photos=p) for p in PHOTOS]  # noqa: RUF012

    def _info(self):
        return pair_info(
            self,
            description="Sketches of photos, 125 classes.",
            homepage="https://sketchy.eye.gatech.edu",
        )

    def read(self, root: pathlib.Path) -> Tree:
        assert isinstance(self.builder_config, SketchyConfig)
        return read_sketchy(root, self.builder_config.photos)


def read_sketchy(root: pathlib.Path, photos: str = "basic") -> Tree:
    """Lists a copy of Sketchy in any layout of `INSTRUCTIONS`. Raises: DataError."""
    base = _base(root)
    sketch = _rendering(base / _name(base, "sketch"))
    photo = _rendering(base / _name(base, "photo"))
    extended = extended_folder(root)
    if photos != "basic" and extended is None:
        raise DataError(
            f"photos={photos!r} needs the extended photos, and there is no "
            f"EXTEND_image_sketchy/ in {root} or beside 256x256/. Put it there, or use "
            "photos='basic'. Newer copies are named in the README of ZSE-SBIR."
        )
    gallery = {
        "basic": [photo],
        "extended": [extended],
        "both": [photo, extended],
    }[photos]
    return read_tree(root, [sketch], [p for p in gallery if p is not None])


def extended_folder(root: pathlib.Path) -> pathlib.Path | None:
    """Where the extended photos lie under `root`, if they do."""
    names = ("EXTEND_image_sketchy", "EXTEND_image_sketchy_ready", "extended_photo")
    beside = root.absolute().parent if root.name == "256x256" else None
    for place in (root, child(root, "Sketchy"), _pair(root), beside):
        if place is not None and (folder := child(place, *names)) is not None:
            # The archive unpacks to a folder of its own name inside itself.
            return child(folder, *names) or folder
    return None


def split_names(name: str) -> list[str]:
    """The unseen classes of a published split, or all classes for "125".

    "25": SAKE's draw, also ZSE-SBIR's. "21": Yelamarthi et al., chosen to be absent
    from ImageNet's 1000 classes.
    """
    files = {
        "21": "sketchy_unseen_21.txt",
        "25": "sketchy_unseen_25.txt",
        "125": "sketchy_classes_125.txt",
    }
    text = importlib.resources.files("sbir_jax.data").joinpath("splits", files[name])
    return text.read_text(encoding="utf-8").split()


def _base(root: pathlib.Path) -> pathlib.Path:
    base = _pair(root)
    if base is None:
        raise DataError(f"{found(root)} It is no copy of Sketchy.\n{INSTRUCTIONS}")
    return base


def _pair(root: pathlib.Path) -> pathlib.Path | None:
    """The folder that holds sketch/ and photo/."""
    places = [root]
    for names in (("Sketchy",), ("rendered_256x256",), ("256x256",)):
        places += [p for q in places if (p := child(q, *names)) is not None]
    for place in places:
        if child(place, "sketch", "sketches") and child(place, "photo", "photos"):
            return place
    return None


def _name(base: pathlib.Path, modality: str) -> str:
    folder = child(base, modality, modality + "s")
    assert folder is not None
    return folder.name


def _rendering(folder: pathlib.Path) -> pathlib.Path:
    """The rendering to read, or the folder itself where it holds classes."""
    if (rendering := child(folder, *RENDERINGS)) is not None:
        return rendering
    others = [n for n in subfolders(folder) if n.lower().startswith("tx_")]
    if others:
        raise DataError(
            f"{folder} holds {', '.join(others)} but not {RENDERINGS[0]}, the one that "
            "the published figures use. Unpack that one too."
        )
    return folder

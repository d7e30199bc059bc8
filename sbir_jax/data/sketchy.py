"""The Sketchy database (Sangkloy et al., 2016) and its extended photos.

125 classes, 12,500 photos, 75,481 sketches, each drawn from one of the photos. The
extended set (Liu et al., Deep Sketch Hashing, 2017) adds 60,502 photos; its archive
repeats the 12,500 under their own names.
"""

import dataclasses
import functools
import pathlib

import tensorflow_datasets as tfds

from sbir_jax.data import published
from sbir_jax.data.builders import PairedFolders, pair_info
from sbir_jax.data.folder import LAYOUT, NO_DATA, found
from sbir_jax.data.layouts import find_pair, inside, places, read_pair
from sbir_jax.data.tree import DataError, Tree, child, subfolders

# Photos stretched, sketches placed as the photo was: the rendering the literature uses.
RENDERINGS = ("tx_000000000000", "tx_000000000000_ready")
PHOTOS = ("basic", "extended", "both")
TOPS = ("Sketchy", "rendered_256x256", "256x256")
EXTENDED = ("EXTEND_image_sketchy", "EXTEND_image_sketchy_ready", "extended_photo")
# A photo of the extended archive that lost its name.
MISNAMED = {("camel", "c"): "n02437136_5405"}

INSTRUCTIONS = f"""\
Sketchy comes from https://sketchy.eye.gatech.edu (archive rendered_256x256.7z) and is
for research use. Unpack it, and give the folder that holds 256x256/, or that one:
  <root>/256x256/sketch/tx_000000000000/<class>/<photo>-<n>.png
  <root>/256x256/photo/tx_000000000000/<class>/<photo>.jpg
  <root>/EXTEND_image_sketchy/<class>/*.jpg        (optional: extended photos)
The trees of SEM-PCYC (sketch/tx_.., photo/tx_.., extended_photo/), of SAKE and ZSE-SBIR
(the same with names in _ready, and list files in zeroshot0/ and zeroshot1/) and of
ClipPrompt (train/ and val/, each with sketch/ and photo/) are read, and a flat copy:
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


def photos_for(task: str) -> str:
    """The photos that a task ranks: by instance those that were drawn; "" is as
    `data.load` has it."""
    return "basic" if task == "fine_grained" else ""


def read_sketchy(root: pathlib.Path, photos: str = "basic") -> Tree:
    """Lists a copy of Sketchy in any layout of `INSTRUCTIONS`. Raises: DataError."""
    pair = find_pair(root, ("sketch", "sketches"), ("photo", "photos"), TOPS)
    if pair is None:
        raise DataError(f"{found(root)} It is no copy of Sketchy.\n{INSTRUCTIONS}")
    sketch = [_rendering(folder) for folder in pair.sketches]
    photo = [_rendering(folder) for folder in pair.photos]
    extended = extended_folder(root)
    if photos == "basic":
        gallery = photo
    elif extended is None:
        raise DataError(
            f"photos={photos!r} needs the extended photos, and there is no "
            f"EXTEND_image_sketchy/ in {root} or beside 256x256/. Put it there, or use "
            "photos='basic'. Newer copies are named in the README of ZSE-SBIR."
        )
    else:
        gallery = [extended] if photos == "extended" else [*photo, extended]
    spelling = functools.partial(published.spelling, benchmark="sketchy")
    tree = read_pair(root, pair._replace(sketches=sketch, photos=gallery), spelling)
    renamed = (
        f._replace(stem=MISNAMED.get((tree.classes[f.label], f.stem), f.stem))
        for f in tree.photos
    )
    return dataclasses.replace(tree, photos=tuple(renamed))


def extended_folder(root: pathlib.Path) -> pathlib.Path | None:
    """Where the extended photos lie under `root`, if they do."""
    beside = [root.absolute().parent] if root.name == "256x256" else []
    for place in [*places(root, TOPS), *beside]:
        if (folder := inside(place, EXTENDED)) is not None:
            return folder
    return None


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

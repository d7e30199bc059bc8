"""QuickDraw-Extended (Dey et al., Doodle to Search, 2019).

110 classes of QuickDraw's drawings, about 3,000 each and each named by its `key_id`,
and photos found by their tags, many of them wrong. Sketches are of a class only.
"""

import pathlib

from sbir_jax.data.builders import PairedFolders, pair_info
from sbir_jax.data.folder import NO_DATA
from sbir_jax.data.layouts import read_by_class
from sbir_jax.data.tree import Tree

SKETCHES = ("QuickDraw_sketches_final", "sketches", "sketch")
PHOTOS = ("QuickDraw_images_final", "images", "photos", "photo")
TOPS = ("QuickDraw",)

INSTRUCTIONS = f"""\
QuickDraw-Extended is two archives, named by https://github.com/sounakdey/doodle2search:
  https://datasets.cvc.uab.es/QuickDraw/QuickDraw_sketches_final.zip
  https://datasets.cvc.uab.es/QuickDraw/QuickDraw_images_final.zip
Unpack both into one folder:
  <root>/QuickDraw_sketches_final/<class>/<key_id>.png
  <root>/QuickDraw_images_final/<class>/*.jpg
ZSE-SBIR's sketches/<class>/ and images/<class>/ are read too, as are sketch/<class>/
and photo/<class>/, in <root> or in <root>/train and <root>/val.
Where a link is dead: https works where http does not (issue 20 of that repository).
{NO_DATA}"""


class Quickdraw(PairedFolders):
    """Sketches and photos by class."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    marks = ""

    def _info(self):
        return pair_info(
            self,
            description="Drawings of a game and photos by tag, 110 classes.",
            homepage="https://github.com/sounakdey/doodle2search",
        )

    def read(self, root: pathlib.Path) -> Tree:
        return read_quickdraw(root)


def read_quickdraw(root: pathlib.Path) -> Tree:
    """Lists a copy in any layout of `INSTRUCTIONS`. Raises: DataError."""
    missing = f"It is no copy of QuickDraw-Extended.\n{INSTRUCTIONS}"
    return read_by_class(root, "quickdraw", SKETCHES, PHOTOS, TOPS, missing)

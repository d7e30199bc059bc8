"""TU-Berlin (Eitz et al., 2012) with the photos that zero-shot work added to it.

250 classes with 80 sketches each, of a class and not of a photo, and 204,070 photos
(papers say 204,489).
"""

import pathlib

from sbir_jax.data.builders import PairedFolders, pair_info
from sbir_jax.data.folder import NO_DATA
from sbir_jax.data.layouts import read_by_class
from sbir_jax.data.tree import Tree

SKETCHES = ("png", "png_ready", "sketches_png", "sketches", "sketch")
PHOTOS = ("ImageResized", "ImageResized_ready", "photos", "photo", "images")
TOPS = ("TUBerlin", "TU-Berlin")

INSTRUCTIONS = f"""\
The sketches of TU-Berlin are sketches_png.zip, for research use, of
  https://cybertron.cg.tu-berlin.de/eitz/projects/classifysketch/
The photos, ImageResized, came with later papers: the script download_datasets.sh of
https://github.com/AnjanDutta/sem-pcyc fetches both. Unpack them into one folder:
  <root>/png/<class>/<n>.png
  <root>/ImageResized/<class>/*.JPEG
SAKE's and ZSE-SBIR's repacked png_ready/ and ImageResized_ready/ are read too, as are
sketch/<class>/ and photo/<class>/, in <root> or in <root>/train and <root>/val.
Where a link is dead: the issues of sem-pcyc, doodle2search (issue 20) and ZSE-SBIR name
newer copies.
{NO_DATA}"""


class Tuberlin(PairedFolders):
    """Sketches and photos by class; folder names of the photos are put right."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    marks = ""

    def _info(self):
        return pair_info(
            self,
            description="Sketches and photos, 250 classes.",
            homepage="https://cybertron.cg.tu-berlin.de/eitz/projects/classifysketch/",
        )

    def read(self, root: pathlib.Path) -> Tree:
        return read_tuberlin(root)


def read_tuberlin(root: pathlib.Path) -> Tree:
    """Lists a copy in any layout of `INSTRUCTIONS`. Raises: DataError."""
    missing = f"It is no copy of TU-Berlin.\n{INSTRUCTIONS}"
    return read_by_class(root, "tuberlin", SKETCHES, PHOTOS, TOPS, missing)

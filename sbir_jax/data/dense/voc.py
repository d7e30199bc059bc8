"""Pascal VOC 2012: 20 classes and the background.

    ROOT/JPEGImages/*.jpg                       ROOT/SegmentationClass/*.png
    ROOT/ImageSets/Segmentation/{train,val}.txt

With ROOT/SegmentationClassAug, the further masks of Hariharan et al. (2011), and its
list trainaug.txt, these are trained on. ROOT may be one or two folders above
(VOCdevkit/VOC2012).
"""

import pathlib

from sbir_jax.data.dense.base import (
    DenseData,
    digest,
    names_in,
    pairs_split,
    read_labels,
)

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "dining table", "dog", "horse", "motorbike", "person",
    "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip


def load(root: pathlib.Path) -> DenseData:
    """Raises: DataError where files are not as above."""
    for below in ("VOCdevkit/VOC2012", "VOC2012"):
        if (root / below).is_dir():
            root = root / below
    more = root / "SegmentationClassAug"
    masks = more if more.is_dir() else root / "SegmentationClass"
    lists = root / "ImageSets" / "Segmentation"
    known = names_in(lists / f"train{'aug' if more.is_dir() else ''}.txt", "voc")
    splits, files = {}, []
    for name, stems in {
        "train": known,
        "val": names_in(lists / "val.txt", "voc"),
    }.items():
        # Of its file names the first words of a line.
        stems = [pathlib.Path(line.split()[0]).stem for line in stems]
        folder = masks if name == "train" else root / "SegmentationClass"
        pairs = [
            (root / "JPEGImages" / f"{stem}.jpg", folder / f"{stem}.png")
            for stem in stems
        ]
        splits[name] = pairs_split(pairs, read_labels)
        files += [photo for photo, _ in pairs]
    train = splits.pop("train")
    return DenseData("voc", digest(*files), train, splits, CLASSES, known=len(CLASSES))

"""What the tfds builders share: features, record order, and the walk over files.

A prepared data set has the splits `sketch` and `photo`. TensorFlow is not needed to
write or to read it. Images go in as the bytes of a file, so `tfds` readers that do not
want them decoded pass `decoders={"image": tfds.decode.SkipDecoding()}`.
"""

import abc
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm.auto import tqdm

from sbir_jax.data import image_files, images, vector
from sbir_jax.data.tree import DataError, File, Skipped, Tree

MODALITIES = ("photo", "sketch")  # photos first: sketches refer to them


def pair_info(builder: tfds.core.DatasetBuilder, **kwargs) -> tfds.core.DatasetInfo:
    """The features common to all our data sets."""
    return tfds.core.DatasetInfo(
        builder=builder,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(),
                # Same number in both splits: the sketch was drawn from that photo.
                "instance": tfds.features.Scalar(np.int32),
                "id": tfds.features.Text(),
                "caption": tfds.features.Text(),
            }
        ),
        # Records stay in the order of their keys: by class, then by path.
        disable_shuffling=True,
        **kwargs,
    )


def keyed(examples: Iterable[dict], total: int) -> Iterator[tuple[int, dict]]:
    """Numbers examples with keys that keep their order and spread over 128 bits.

    tfds sorts on disk in buckets by the leading bits of the key. Plain 0, 1, 2, ... all
    fall into the first bucket, which is then sorted in memory as a whole.
    """
    step = 2**128 // max(1, total)
    for i, example in enumerate(examples):
        yield i * step, example


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A tfds builder that downloads nothing and so has no checksums."""

    VERSION = tfds.core.Version("1.0.0")
    # tfds looks for checksums beside the code, and to find that it imports
    # importlib_resources, which it does not install.
    code_path = None  # pyright: ignore

    def set_classes(self, names: Sequence[str]) -> None:
        """Names the classes, once they are known."""
        features: Any = self.info.features
        features["label"].names = list(names)


class PairedFolders(PairBuilder, skip_registration=True):
    """A builder over folders of files; subclasses say which folders.

    `tree` may be set to a listing made beforehand; otherwise `manual_dir` is listed.
    After preparation `skipped` names every file that was left out. `marks` are what may
    stand between a photo's name and the number of a sketch of it; none: sketches are of
    a class, not of a photo.
    """

    marks = "-_"

    def __init__(self, *, tree: Tree | None = None, **kwargs):
        super().__init__(**kwargs)
        self.tree = tree
        self.skipped: list[Skipped] = []

    @abc.abstractmethod
    def read(self, root: pathlib.Path) -> Tree:
        """Lists the folders of this layout under `root`, or raises DataError."""

    def content(self, file: File) -> bytes:
        """The bytes of an image file. Raises: BadImage."""
        if file.begin < 0:
            return images.checked_bytes(file.path)
        with image_files.blamed_on(file.id):
            line = vector.read_line(file.path, file.begin, file.size)
        return images.encode_png(images.decode(line, name=file.id))

    def _split_generators(self, dl_manager):
        if self.tree is None:
            self.tree = self.read(pathlib.Path(dl_manager.manual_dir))
        tree = self.tree
        self.set_classes(tree.classes)
        self.skipped = list(tree.skipped)
        instances: dict[tuple[int, str], int] = {}
        for photo in tree.photos:
            instances.setdefault((photo.label, photo.stem), len(instances))
        readable: set[tuple[int, str]] = set()

        def photo_instance(file: File) -> int:
            readable.add((file.label, file.stem))
            return instances[file.label, file.stem]

        def sketch_instance(file: File) -> int:
            for stem in photo_stems(file.stem, self.marks):
                if (file.label, stem) in readable:
                    return instances[file.label, stem]
            return -1

        # The order matters: `readable` is complete once the photos are written.
        return {
            "photo": self._generate_examples("photo", tree.photos, photo_instance),
            "sketch": self._generate_examples("sketch", tree.sketches, sketch_instance),
        }

    def _generate_examples(self, modality, files, instance_of):
        return keyed(self._examples(modality, files, instance_of), len(files))

    def _examples(self, modality, files, instance_of) -> Iterator[dict]:
        good, before = 0, len(self.skipped)
        read = images.threaded(self.content, files)
        bar = tqdm(read, f"{self.name}: {modality}", len(files), unit=" images")
        for file, data in zip(files, bar, strict=True):
            if isinstance(data, images.BadImage):
                self.skipped.append(Skipped(file.id, data.reason))
                continue
            if isinstance(data, BaseException):
                raise data
            good += 1
            yield {
                "image": data,
                "label": file.label,
                "instance": instance_of(file),
                "id": file.id,
                "caption": "",
            }
        if not good:
            bad = self.skipped[before:] or self.skipped
            reasons = "; ".join(f"{s.path}: {s.reason}" for s in bad[:3])
            raise DataError(
                f"{self.tree and self.tree.root}: no readable {modality} among "
                f"{len(files)} file(s) ({reasons or 'no files at all'}). At least one "
                f"is needed, in {modality}/<class>/ as jpg or png."
            )


def photo_stems(sketch_stem: str, marks: str = "-_") -> Iterator[str]:
    """The photo names that a sketch's name can refer to, the longest first.

    `<photo>-<n>`, cut at the last hyphen as in Sketchy, or `<photo>_<n>`, cut at the
    last underscore as in QMUL's sets.
    """
    cuts = [sketch_stem.rpartition(mark) for mark in marks]
    stems = [stem for stem, _, number in cuts if stem and number]
    yield from sorted(stems, key=len, reverse=True)

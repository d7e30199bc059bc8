"""Toybox scenes as a tfds builder: pictures, truth and texts, all made here."""

import dataclasses
import hashlib
import importlib.resources
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm.auto import tqdm

from sbir_jax.data import images, prepare
from sbir_jax.data.builders import PairBuilder, keyed
from sbir_jax.data.tree import DataError

SPLITS = ("train", "val", "test", "novel")
ASPECTS = ("1:1", "4:3", "16:9")
_FOLDERS = ("sbir_jax.data.toybox", "sbir_jax.data.toybox.scenes")


@dataclasses.dataclass(kw_only=True)
class ScenesConfig(tfds.core.BuilderConfig):
    """How much to render.

    size: pixels of the longer side, a multiple of 16. aspect: width to height, one of
    ASPECTS. train, val, test, novel: scenes in each split. world: the seed of all
    scenes; another number gives others.
    """

    size: int = 64
    aspect: str = "1:1"
    train: int = 800
    val: int = 100
    test: int = 200
    novel: int = 100
    world: int = 0

    def check(self) -> None:
        """Raises: DataError for a value that is not allowed."""
        for field, low, high in (
            ("size", 16, 1024), *((split, 1, 10**8) for split in SPLITS),
            ("world", 0, 2**31 - 1),
        ):  # fmt: skip
            value = getattr(self, field)
            if not low <= value <= high:
                raise DataError(
                    f"toybox_scenes: {field}={value}; allowed are {low} to {high}."
                )
        if self.size % 16:
            raise DataError(
                f"toybox_scenes: size={self.size}; it must be a multiple of 16."
            )
        if self.aspect not in ASPECTS:
            raise DataError(
                f"toybox_scenes: aspect={self.aspect!r}; choose from "
                f"{', '.join(ASPECTS)}."
            )

    def key(self) -> str:
        """Names what will be drawn: these values, and the code that draws."""
        values = dataclasses.asdict(self)
        digest = hashlib.blake2b(repr(sorted(values.items())).encode(), digest_size=8)
        for folder in _FOLDERS:
            here = importlib.resources.files(folder)
            for file in sorted(here.iterdir(), key=lambda f: f.name):
                if file.name.endswith(".py"):
                    digest.update(file.read_bytes())
        return digest.hexdigest()


class ToyboxScenes(PairBuilder):
    """Scenes of several things. Train and val are of seen categories, test of unseen
    ones, novel of those that the embedded model has never met either.
    """

    BUILDER_CONFIGS = [ScenesConfig(name="default")]  # noqa: RUF012

    @property
    def config(self) -> ScenesConfig:
        assert isinstance(self.builder_config, ScenesConfig)
        return self.builder_config

    def _info(self):
        self.config.check()
        world, scene, truth = _modules()
        shape = scene.draw_scene(0, aspect=self.config.aspect).shape(self.config.size)
        most = scene.MOST
        features = tfds.features
        text = features.Text()

        def exact(shape, dtype):
            return features.Tensor(shape=shape, dtype=dtype, encoding="zlib")

        thing = {
            "category": features.ClassLabel(names=world.CATEGORIES),
            "colour": text, "pattern": text, "second": text,
            "box": features.Tensor(shape=(4,), dtype=np.int32),
            "visible": features.Scalar(np.float32),
            "on": features.Scalar(np.int32),
            "size": features.Scalar(np.float32),
            "across": features.Tensor(shape=(2,), dtype=np.float32),
            "away": features.Tensor(shape=(2,), dtype=np.float32),
        }  # fmt: skip
        return tfds.core.DatasetInfo(
            builder=self,
            description="Rendered scenes of several things, with the exact truth.",
            features=features.FeaturesDict(
                {
                    "photo": features.Image(shape=(*shape, 3)),
                    "sketch": features.Image(shape=(*shape, 3)),
                    "depth": exact(shape, np.float32),
                    "instances": exact(shape, np.uint8),
                    "categories": exact(shape, np.uint8),
                    "things": features.Sequence(thing),
                    # By number of the relation, subject and object; see `truth`.
                    "relations": exact((len(truth.RELATIONS), most, most), np.int8),
                    "id": text,
                    "caption": text,
                    "sketch_caption": text,
                    "references": features.Sequence(
                        {"text": text, "thing": np.int32, "kind": text}
                    ),
                    "negatives": features.Sequence({"text": text, "change": text}),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        world = _modules()[0]
        categories = {"test": world.UNSEEN, "novel": world.NOVEL}
        return {
            split: self._generate_examples(split, categories.get(split, world.SEEN))
            for split in SPLITS
        }

    def _generate_examples(self, split: str, names: Sequence[str]):
        return keyed(self._examples(split, names), getattr(self.config, split))

    def _examples(self, split: str, names: Sequence[str]) -> Iterator[dict]:
        from sbir_jax.data.toybox.scenes.render import BATCH

        config, number = self.config, getattr(self.config, split)
        # Train and val share categories, so they take turns in one row of scenes.
        first = config.train if split == "val" else 0
        batches = [
            range(first + i, first + min(i + BATCH, number))
            for i in range(0, number, BATCH)
        ]

        def make(batch: range) -> list[dict]:
            return _make(config, split, names, batch)

        with tqdm(total=number, desc=f"{self.name}: {split}", unit=" scenes") as bar:
            # XLA keeps about one core busy with this program; a second call, the other.
            for some in images.threaded(make, batches, threads=2, ahead=4):
                if isinstance(some, BaseException):
                    raise some
                yield from some
                bar.update(len(some))


def _make(
    config: ScenesConfig, split: str, names: Sequence[str], numbers: range
) -> list[dict]:
    """Records of scenes."""
    from sbir_jax.data.toybox.scenes import words
    from sbir_jax.data.toybox.scenes.render import render_scenes
    from sbir_jax.data.toybox.scenes.scene import draw_scene
    from sbir_jax.data.toybox.scenes.truth import truths

    scenes = [draw_scene(i, config.world, names, config.aspect) for i in numbers]
    pictures = render_scenes(scenes, config.size, looks=(0,), hands=(0,))
    records = []
    for i, (scene, truth) in enumerate(
        zip(scenes, truths(scenes, pictures), strict=True)
    ):
        rng = scene.rng("words")
        said = words.statement(truth, rng)
        records.append(
            {
                "photo": images.encode_png(pictures.photos[i, 0]),
                "sketch": images.encode_png(pictures.sketches[i, 0]),
                "depth": truth.depth,
                "instances": truth.instances,
                "categories": truth.category_map,
                "things": _things(truth),
                "relations": _padded(truth),
                "id": f"{split}/{scene.index:06d}",
                "caption": words.caption(said, rng),
                "sketch_caption": words.caption(said, rng, drawn=True),
                "references": [r._asdict() for r in words.refer(truth, rng)],
                "negatives": [
                    n._asdict()
                    for n in (words.negatives(truth, said, rng) if said else [])
                ],
            }
        )
    return records


def _things(truth) -> list[dict]:
    return [
        {
            "category": name, "colour": a.colour, "pattern": a.pattern,
            "second": a.second or "", "box": truth.boxes[i].astype(np.int32),
            "visible": np.float32(truth.visible[i]), "on": np.int32(truth.on[i]),
            "size": np.float32(truth.size[i]),
            "across": truth.across[i].astype(np.float32),
            "away": truth.away[i].astype(np.float32),
        }
        for i, (name, a) in enumerate(
            zip(truth.categories, truth.attributes, strict=True)
        )
    ]  # fmt: skip


def _padded(truth) -> np.ndarray:
    """Relations of all things that might be there; none stands to an absent one."""
    _, scene, facts = _modules()
    tables = np.full(
        (len(facts.RELATIONS), scene.MOST, scene.MOST), facts.FALSE, np.int8
    )
    k = truth.number
    tables[:, :k, :k] = [truth.relations[how] for how in facts.RELATIONS]
    return tables


def load_scenes(
    split: str, cache_dir: str | os.PathLike | None = None, **options: Any
) -> Any:
    """Random access to the scenes of a split, rendered on first use.

    Args:
      split: one of SPLITS.
      cache_dir: where prepared copies go: $SBIR_CACHE or ~/.cache/sbir_jax/data.
      options: the fields of `ScenesConfig`.
    Returns: a tfds data source; item i is a dictionary of arrays, see `ToyboxScenes`.
    Raises: DataError for an unknown split or option, or a value that is not allowed.
    """
    if split not in SPLITS:
        raise DataError(f"split={split!r}; choose from {', '.join(SPLITS)}.")
    known = [field.name for field in dataclasses.fields(ScenesConfig)]
    known = known[known.index("size") :]
    if wrong := [name for name in options if name not in known]:
        raise DataError(f"options {', '.join(wrong)}: known are {', '.join(known)}.")
    default = ScenesConfig(name="default")
    config = ScenesConfig(name="custom", **options)
    config.check()
    if dataclasses.replace(config, name="default") == default:
        config = default

    def make(folder) -> Any:
        wanted = "default" if config is default else config
        return ToyboxScenes(data_dir=folder, config=wanted)

    folder = prepare.prepare(
        "toybox_scenes", config.key(), make, None, cache_dir, finish=_finish
    )
    builder: Any = make(folder)
    return builder.as_data_source(split=split)


def _finish(builder, folder, name: str, key: str) -> None:
    counts = {split: builder.info.splits[split].num_examples for split in SPLITS}
    summary = {"name": name, "key": key, "format": prepare.FORMAT, "counts": counts}
    prepare.write_summary(folder, summary)


def _modules():
    """Imported when needed: they compile JAX programs, which readers do not."""
    from sbir_jax.data.toybox import world
    from sbir_jax.data.toybox.scenes import scene, truth

    return world, scene, truth

"""Toybox as a tfds builder: photos and sketches drawn here, nothing to download."""

import dataclasses
import hashlib
import importlib.resources
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow_datasets as tfds
from tqdm.auto import tqdm

from sbir_jax.data import images
from sbir_jax.data.builders import PairBuilder, keyed, pair_info
from sbir_jax.data.tree import DataError, find_names

BATCH = 16  # objects rendered at once


@dataclasses.dataclass(kw_only=True)
class ToyboxConfig(tfds.core.BuilderConfig):
    """How much to render.

    size: pixels, a side, a multiple of 16. instances: objects, hence photos, per
    category. sketches: per object. world: the seed of the objects; another number gives
    others. categories: which ones; None for all. aligned: sketches are drawn from the
    pose of the photo, so that their lines lie on its edges.
    """

    size: int = 64
    instances: int = 12
    sketches: int = 3
    world: int = 0
    categories: tuple[str, ...] | None = None
    aligned: bool = False

    def check(self) -> None:
        """Raises: DataError for a value that is not allowed."""
        world = drawn_world()
        for field, low, high in (
            ("size", 16, 1024),
            ("instances", 1, world.PRETRAINING_START),
            ("sketches", 1, 1000),
            ("world", 0, 2**31 - 1),
        ):
            if not low <= getattr(self, field) <= high:
                value = getattr(self, field)
                raise DataError(
                    f"toybox: {field}={value}; allowed are {low} to {high}."
                )
        if self.size % 16:
            raise DataError(f"toybox: size={self.size}; it must be a multiple of 16.")
        if self.categories is not None:
            self.categories = tuple(
                find_names(self.categories, world.CATEGORIES, "toybox")
            )

    def key(self) -> str:
        """Names what will be drawn: these values, and the code that draws."""
        values = dataclasses.asdict(self)
        digest = hashlib.blake2b(repr(sorted(values.items())).encode(), digest_size=8)
        here = importlib.resources.files("sbir_jax.data.toybox")
        for file in sorted(here.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
        return digest.hexdigest()


class Toybox(PairBuilder):
    """A procedural world of everyday things; every sketch has its photo."""

    BUILDER_CONFIGS = [ToyboxConfig(name="default")]  # noqa: RUF012

    @property
    def config(self) -> ToyboxConfig:
        assert isinstance(self.builder_config, ToyboxConfig)
        return self.builder_config

    def _info(self):
        return pair_info(self, description="Rendered things and drawings of them.")

    def _split_generators(self, dl_manager):
        self.config.check()
        names = self.config.categories or drawn_world().CATEGORIES
        self.set_classes(names)
        return {m: self._generate_examples(m, names) for m in ("photo", "sketch")}

    def _generate_examples(self, modality: str, names: Sequence[str]):
        config = self.config
        jobs = [
            Job(label, number, variant)
            for label in range(len(names))
            for number in range(config.instances)
            for variant in range(config.sketches if modality == "sketch" else 1)
        ]
        return keyed(self._examples(modality, names, jobs), len(jobs))

    def _examples(self, modality, names, jobs) -> Iterator[dict]:
        config = self.config
        batches = [jobs[i : i + BATCH] for i in range(0, len(jobs), BATCH)]

        def render(batch: Sequence[Job]) -> list[dict]:
            return _render(config, modality, names, batch)

        bar = tqdm(total=len(jobs), desc=f"{self.name}: {modality}", unit=" images")
        with bar:
            first = render(batches[0])  # compiles; two threads at once would both
            yield from first
            bar.update(len(first))
            # XLA keeps about one core busy with this program; a second call, the other.
            for batch in images.threaded(render, batches[1:], threads=2, ahead=4):
                if isinstance(batch, BaseException):
                    raise batch
                yield from batch
                bar.update(len(batch))


class Job(NamedTuple):
    """One picture to make; variant counts the drawings of an object."""

    label: int
    number: int
    variant: int


def _render(
    config: ToyboxConfig, modality: str, names: Sequence[str], jobs: Sequence[Job]
) -> list[dict]:
    world = drawn_world()
    things = [world.instance(names[j.label], j.number, config.world) for j in jobs]
    if modality == "photo":
        pixels = world.render_photos(things, size=config.size).rgb
    else:
        variants = [j.variant for j in jobs]
        pixels = world.render_sketches(things, variants, config.size, config.aligned)
    examples = []
    for job, thing, image in zip(jobs, things, pixels, strict=True):
        name = names[job.label]
        path = f"{modality}/{name}/{name}_{job.number:04d}"
        if modality == "photo":
            caption = world.photo_caption(thing)
        else:
            path += f"-{job.variant + 1}"
            caption = world.sketch_caption(thing, job.variant)
        examples.append(
            {
                "image": images.encode_png(image),
                "label": job.label,
                "instance": job.label * config.instances + job.number,
                "id": f"{path}.png",
                "caption": caption,
            }
        )
    return examples


def drawn_world():
    """Imported when needed: it compiles JAX programs, which readers of files do not."""
    from sbir_jax.data.toybox import world

    return world

"""Many recipes on one frozen backbone: latents once, one UNet pass for all layers.

A cell of a sweep is a recipe and its figures, the very ones that a run with that recipe
would report. Every finished cell is a small file named after all that changes it, so a
stopped sweep goes on, and cells of other backbones, prompts or data are never mixed in.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm.auto import tqdm

from sbir_jax import experiment, features
from sbir_jax.adapters.prompts import PromptConfig, Prompts
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.data import Dataset, Items
from sbir_jax.features import Recipe
from sbir_jax.runtime import checkpoint, hardware, sharding
from sbir_jax.tasks.retrieval import evaluation, protocols
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.tasks.retrieval.setup import Setup
from sbir_jax.types import MODALITIES, Modality

CLASSES = {
    "val": "held-out seen classes",
    "unseen": "unseen classes",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """What all cells of a sweep share.

    Attributes:
      prompts: `learned` says whether a run trained them.
      classes: a key of `CLASSES`, those that are scored.
      folder: where cells and latents are kept.
    """

    loaded: LoadedBackbone
    prompts: Prompts
    learned: bool
    visual_scale: float
    size: int
    batch_size: int
    dataset: Dataset
    classes: str
    protocol: Protocol
    folder: pathlib.Path

    def items(self, modality: Modality) -> tuple[Items, Int[np.ndarray, " n"]]:
        """A modality's items, and which of them are queries or gallery."""
        if modality == "sketch":
            return self.dataset.sketches, self.protocol.queries
        return self.dataset.photos, self.protocol.gallery

    @functools.cached_property
    def identity(self) -> dict[str, str | int | float]:
        """All that changes a figure, besides the recipe."""
        prompts, asked = hashlib.sha256(), hashlib.sha256()
        for leaf in jax.tree.leaves(self.prompts):
            prompts.update(np.asarray(leaf, np.float32).tobytes())
        for rows in (self.protocol.queries, self.protocol.gallery):
            asked.update(rows.tobytes())
        dtype = self.loaded.backbone.dtype.name
        return {
            # Float32 goes without saying: so it did before there was a choice.
            **({} if dtype == "float32" else {"dtype": dtype}),
            "backbone": self.loaded.backbone.fingerprint,
            "prompts": prompts.hexdigest(),
            "visual_scale": self.visual_scale,
            "size": self.size,
            "data": self.dataset.fingerprint,
            "task": self.protocol.task,
            "protocol": asked.hexdigest(),
        }

    def path(self, kind: str, ending: str, **rest) -> pathlib.Path:
        """The file of one result, by a digest of everything it depends on."""
        text = json.dumps([kind, self.identity, rest], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:20]
        return self.folder / kind / f"{name}.{ending}"


def open_bench(
    setup: Setup,
    folder: pathlib.Path,
    classes: str = "val",
    run: pathlib.Path | None = None,
    limit: int = 0,
) -> Bench:
    """Loads what a sweep over `setup` needs.

    Args:
      run: a run folder, whose learned prompts take the place of ones that change
        nothing.
      limit: at most so many sketches, and photos, evenly spaced; 0 for all.
    Raises: ValueError where no class is held out, or where the run was made with
      another backbone, other data or other classes held out; FileNotFoundError for a
      run, data or weights that are not there.
    """
    if classes not in CLASSES:
        raise ValueError(f"classes is {classes!r}; give one of {', '.join(CLASSES)}")
    if limit < 0:
        raise ValueError(f"limit is {limit}; give 1 or more, or 0 for all images")
    # The whole of the UNet: which layers are wanted is looked up in it.
    opened = experiment.open(setup, taps=("out",))
    given = opened.given
    setup, dataset, loaded = given.setup, given.dataset, given.loaded
    assert loaded is not None
    chosen = getattr(dataset, classes)
    if not chosen:
        raise ValueError(
            f"{dataset.name} has no {CLASSES[classes]} here: hold some out with "
            "--config.val_classes=4, or give --classes=unseen to report only"
        )
    scale = setup.prompt.visual_scale
    if run is None:
        prompts = opened.task.init(jax.random.key(setup.train.seed))
    else:
        _check_run(run, setup, dataset)
        fingerprint = loaded.backbone.fingerprint
        prompts = Prompts(**checkpoint.load_trained(run, fingerprint))
        trained = json.loads((run / "config.json").read_text())
        scale = PromptConfig(**trained["prompt"]).visual_scale
    protocol = protocols.make_protocol(
        dataset, chosen, setup.task, setup.score.cutoffs, setup.score.generalised
    )
    if limit:
        protocol = protocols.subsample(protocol, limit)
    return Bench(
        loaded=loaded,
        prompts=prompts,
        learned=run is not None,
        visual_scale=scale,
        size=given.size,
        # One for all programs of a sweep, whatever they compute.
        batch_size=setup.embed_batch_size or 32,
        dataset=dataset,
        classes=classes,
        protocol=protocol,
        folder=folder,
    )


def _check_run(run: pathlib.Path, setup: Setup, dataset: Dataset) -> None:
    """Refuses prompts that may have been trained on the very classes to score."""
    path = run / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there, so {run} is not a run folder")
    config = json.loads(path.read_text())
    owner = json.loads((run / checkpoint.OWNER).read_text())
    pairs = {
        "data": (owner["data"], dataset.fingerprint),
        "unseen": (owner["unseen"], list(dataset.unseen)),
        "val_classes": (config["val_classes"], setup.val_classes),
        "train.seed": (config["train"]["seed"], setup.train.seed),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ValueError(
                f"{name} is {theirs!r} in {run} and {ours!r} here, so its prompts may "
                "have been trained on classes that are scored; give the config of "
                "that run"
            )


class Program:
    """The compiled steps, on all devices; batches are padded to one size."""

    def __init__(self, bench: Bench):
        backbone, self.bench = bench.loaded.backbone, bench
        mesh = sharding.make_mesh()
        self._split = sharding.batch_sharding(mesh)
        everywhere = sharding.replicated(mesh)
        self.frozen = jax.device_put(bench.loaded.frozen, everywhere)
        self.prompts = jax.device_put(bench.prompts, everywhere)
        devices = jax.device_count()
        self.batch_size = -(-bench.batch_size // devices) * devices

        @functools.partial(hardware.jit, on=mesh, static_argnames="modality")
        def encode(frozen, prompts, images, modality):
            return features.encode_prompted(
                backbone, frozen, prompts, images, modality, bench.visual_scale
            )

        def decoder_taps(frozen, prompts, latents, noise, timestep, taps):
            return features.decoder_taps(
                backbone,
                frozen,
                latents,
                prompts.text,
                noise,
                Recipe(taps),
                timestep,
            )

        @functools.partial(hardware.jit, on=mesh, static_argnames="taps")
        def mean_maps(frozen, prompts, latents, noise, timestep, taps):
            found = decoder_taps(frozen, prompts, latents, noise, timestep, taps)
            return {
                name: x.reshape(len(latents), -1, *x.shape[1:]).mean(axis=1)
                for name, x in found.items()
            }

        @functools.partial(hardware.jit, on=mesh, static_argnames="recipes")
        def describe(frozen, prompts, latents, noise, timestep, recipes):
            taps = tuple(dict.fromkeys(tap for r in recipes for tap in r.taps))
            found = decoder_taps(frozen, prompts, latents, noise, timestep, taps)
            return [features.join(found, len(latents), recipe) for recipe in recipes]

        self._encode, self._maps, self._describe = encode, mean_maps, describe

    def noise(self, copies: int, seed: int) -> Float[Array, "k y x c"]:
        """The bank of a recipe with so many copies."""
        shape = self.bench.loaded.backbone.latent_shape(self.bench.size)
        recipe = Recipe(("out",), copies=copies, noise_seed=seed)
        return features.noise_bank(recipe, shape)

    def place(self, rows: np.ndarray) -> Array:
        return jax.device_put(sharding.pad_batch(rows, self.batch_size), self._split)

    def batches(self, n: int) -> Iterable[slice]:
        for start in range(0, n, self.batch_size):
            yield slice(start, min(start + self.batch_size, n))

    def latents(self, modality: Modality) -> Float[np.ndarray, "n y x c"]:
        """Clean latents of the queries or the gallery, kept on disk."""
        path = self.bench.path("latents", "npy", modality=modality)
        if path.exists():
            return np.load(path, mmap_mode="r")
        items, indices = self.bench.items(modality)
        out = []
        with tqdm(total=len(indices), desc=f"encode {modality}", unit="image") as bar:
            for rows in self.batches(len(indices)):
                part = indices[rows]
                images = self.place(items.images(part, self.bench.size))
                found = self._encode(self.frozen, self.prompts, images, modality)
                out.append(np.asarray(found, np.float32)[: len(part)])
                bar.update(len(part))
        save(path, np.concatenate(out))
        return np.load(path, mmap_mode="r")

    def describe(
        self,
        latents: Float[np.ndarray, "n y x c"],
        noise: Float[Array, "k y x c"],
        timestep: int,
        recipes: tuple[Recipe, ...],
        bar: tqdm,
    ) -> list[Float[np.ndarray, "n _"]]:
        """Descriptors under each recipe from one pass, float16 as runs keep them."""
        # One program serves all timesteps and noise banks: they are its arguments.
        plain = tuple(dataclasses.replace(r, timestep=0, noise_seed=0) for r in recipes)
        out: list[list[np.ndarray]] = [[] for _ in recipes]
        for rows in self.batches(len(latents)):
            found = self._describe(
                self.frozen,
                self.prompts,
                self.place(np.asarray(latents[rows])),
                noise,
                np.int32(timestep),
                plain,
            )
            count = rows.stop - rows.start
            for kept, new in zip(out, found, strict=True):
                kept.append(np.asarray(new[:count], np.float16))
            bar.update(count)
        return [np.concatenate(kept) for kept in out]

    def mean_maps(
        self, latents: Float[np.ndarray, "n y x c"], recipe: Recipe
    ) -> dict[str, Float[np.ndarray, "n _ _ _"]]:
        """Activations of a recipe's layers, averaged over its copies, not pooled."""
        noise = self.noise(recipe.copies, recipe.noise_seed)
        out: dict[str, list[np.ndarray]] = {tap: [] for tap in recipe.taps}
        for rows in self.batches(len(latents)):
            found = self._maps(
                self.frozen,
                self.prompts,
                self.place(np.asarray(latents[rows])),
                noise,
                np.int32(recipe.timestep),
                recipe.taps,
            )
            for tap, kept in out.items():
                count = rows.stop - rows.start
                kept.append(np.asarray(found[tap], np.float32)[:count])
        return {tap: np.concatenate(kept) for tap, kept in out.items()}


def save(path: pathlib.Path, values: np.ndarray) -> None:
    """Writes aside and renames: the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.npy")
    np.save(partial, values)
    partial.replace(path)


def sweep(bench: Bench, recipes: Sequence[Recipe]) -> list[dict]:
    """Every recipe's cell: read where it is on disk, else computed and written.

    Recipes that differ only in layers, pooling or copies share a UNet pass.

    Returns: a dict for each recipe, in their order, with "recipe" and "metrics".
    """
    paths = [bench.path("cells", "json", **dataclasses.asdict(r)) for r in recipes]
    groups: dict[tuple[int, int], dict[Recipe, pathlib.Path]] = {}
    for recipe, path in zip(recipes, paths, strict=True):
        if not path.exists():
            key = (recipe.timestep, recipe.noise_seed)
            groups.setdefault(key, {})[recipe] = path
    if groups:
        program = Program(bench)
        latents = {m: program.latents(m) for m in MODALITIES}
        total = len(groups) * sum(map(len, latents.values()))
        with tqdm(total=total, desc="sweep", unit="image") as bar:
            for (timestep, seed), cells in groups.items():
                todo = tuple(cells)
                noise = program.noise(max(r.copies for r in todo), seed)
                queries, gallery = (
                    program.describe(latents[m], noise, timestep, todo, bar)
                    for m in MODALITIES
                )
                for recipe, q, g in zip(todo, queries, gallery, strict=True):
                    found, _ = evaluation.score(
                        bench.protocol, evaluation.similarity(q, g)
                    )
                    cell = {"recipe": dataclasses.asdict(recipe), "metrics": found}
                    checkpoint.write_json(cells[recipe], cell | bench.identity)
    return [json.loads(path.read_text()) for path in paths]


def chance(bench: Bench) -> float:
    """The primary metric of blind ranking, kept on disk like a cell."""
    path = bench.path("chance", "json")
    if not path.exists():
        checkpoint.write_json(path, evaluation.chance(bench.protocol))
    return json.loads(path.read_text())[bench.protocol.primary]

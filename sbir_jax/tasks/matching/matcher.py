"""The public face: images and texts in, a score for each pair out.

matcher = Matcher.from_pretrained("toybox")  # or Matcher.from_run("runs/toybox-match")
scores = matcher.score(["cup.jpg"], ["a red cup", "a blue cup"])  # [1, 2]
"""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int
from pydantic import Field

from sbir_jax.adapters import match_adapter
from sbir_jax.adapters.match_adapter import AdapterConfig, MatchAdapter
from sbir_jax.backbones.base import Backbone, LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen
from sbir_jax.backbones.loading import random_backbone
from sbir_jax.data import images as images_lib
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.runtime import checkpoint, digests, hardware, sharding
from sbir_jax.runtime.prefetch import one_in_flight, read_ahead
from sbir_jax.tasks.matching import scores
from sbir_jax.tasks.matching.pairs import PairScorer, every
from sbir_jax.tasks.matching.scores import MatchRecipe

SAVED_AS = "adapter"  # in checkpoints
FIT = "stretch"  # as the release does: words may be of what a crop would cut off


@dataclasses.dataclass(frozen=True)
class _Shots(checkpoint.Seeded):
    shots: Annotated[int, Field(ge=0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config(checkpoint.OnBackbone):
    """Of a run's config, what makes a score."""

    train: _Shots
    recipe: MatchRecipe
    adapter: AdapterConfig


class Matcher:
    """A backbone, an adapter and a recipe.

    Attributes:
      size: side of the images the network sees, in pixels.
      layers: the cross-attention layers that are read.
      adapter: what was learned.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        recipe: MatchRecipe,
        size: int,
        adapter: MatchAdapter | None = None,
        batch_size: int = 0,
        mesh: Mesh | None = None,
    ):
        """Compiles nothing yet.

        Args:
          adapter: one that changes nothing without it.
          batch_size: passes of the network at a time; 0 for what suits the devices.
          mesh: the devices to use, all of this process; all there are without it.
        Raises: ValueError for layers or timesteps that the backbone does not have.
        """
        backbone: Backbone = loaded.backbone
        if recipe.last >= backbone.schedule.timesteps:
            raise ValueError(
                f"recipe.last is {recipe.last}; this backbone's last timestep is "
                f"{backbone.schedule.timesteps - 1}"
            )
        self.mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        frozen = sharding.place_frozen(loaded.frozen, self.mesh)
        self.loaded = LoadedBackbone(backbone, frozen)
        self.backbone, self.recipe, self.size = backbone, recipe, size
        self.layers = layers = scores.layer_names(backbone, recipe)
        self.batch_size = batch_size
        self.adapter = adapter or initial(loaded, recipe, AdapterConfig(), size)
        self._adapter = sharding.place_whole(self.adapter, self.mesh)
        self._encode = hardware.jit(backbone.encode_image, on=self.mesh)
        bank = noise_bank(
            backbone.latent_shape(size), recipe.timesteps, recipe.noise_seed
        )

        def program(frozen, adapter, latents, tokens, noise, t, without):
            text = backbone.encode_text(frozen, tokens)
            given = frozen, adapter, latents, text, noise, t, layers, without
            return scores.match(backbone, *given)

        def parts(frozen, adapter, latents, tokens, noise, t, without):
            text = backbone.encode_text(frozen, tokens)
            given = frozen, adapter, latents, text, noise, t, layers, without
            return scores.score_parts(backbone, *given)

        def error(frozen, adapter, latents, tokens, noise, t, without):
            text = backbone.encode_text(frozen, tokens)
            changed = scores.adapted(frozen, adapter)
            return scores.denoising_error(backbone, changed, latents, text, noise, t)

        given = np.asarray(bank), recipe.steps, self.mesh, batch_size
        self._pairs = PairScorer(self.loaded, program, *given)
        self._parts = PairScorer(self.loaded, parts, *given)
        self._errors = PairScorer(self.loaded, error, *given)

    def with_adapter(self, adapter: MatchAdapter) -> "Matcher":
        """The same matcher, compiled programs and all, with another adapter."""
        other = object.__new__(Matcher)
        other.__dict__.update(self.__dict__)
        other.__dict__.pop("fingerprint", None)
        other.adapter = adapter
        other._adapter = sharding.place_whole(adapter, self.mesh)
        return other

    @classmethod
    def from_pretrained(
        cls,
        source: str = "toybox",
        recipe: MatchRecipe | None = None,
        batch_size: int = 0,
        mesh: Mesh | None = None,
        dtype: str = "",
        encoder: str = "",
    ) -> "Matcher":
        """Training-free: the plain mean over heads.

        Args:
          source: "toybox", a folder in the diffusers layout, or a hub id.
          recipe: `MatchRecipe()` without it.
          dtype, encoder: as of `load_frozen`.
        """
        recipe = recipe or MatchRecipe()
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        loaded = load_frozen(source, recipe.taps, mesh, dtype, encoder)
        size = loaded.backbone.image_size
        return cls(loaded, recipe, size, batch_size=batch_size, mesh=mesh)

    @classmethod
    def from_run(
        cls,
        workdir: str | pathlib.Path,
        batch_size: int = 0,
        mesh: Mesh | None = None,
    ) -> "Matcher":
        """What a run of the task "matching" has learned.

        Raises: FileNotFoundError without a run there; ValueError for a run of another
          task, and where its backbone is no longer the one it was trained with.
        """
        workdir = pathlib.Path(workdir)
        command = "python -m sbir_jax.main --config configs/toybox.py:task=matching"
        values = checkpoint.run_config(workdir, f"{command} --workdir {workdir}")
        if values.get("task") != "matching":
            raise ValueError(
                f"{workdir} is a run of the task {values.get('task')}; a matcher needs "
                "one of the task matching"
            )
        config = checkpoint.checked_config(_Config, values, workdir)
        recipe, kind, size = config.recipe, config.adapter, config.image_size
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        taps = ("out",) if kind.gain else recipe.taps
        given = mesh, config.dtype, config.encoder
        loaded = load_frozen(config.backbone, taps, *given)
        if config.random_weights:
            loaded = random_backbone(loaded, seed=config.train.seed)
        adapter = initial(loaded, recipe, kind, size)
        if config.train.shots:
            fingerprint = loaded.backbone.fingerprint
            found = checkpoint.load_trained(workdir, fingerprint, SAVED_AS)
            adapter = restored(adapter, found)
        return cls(loaded, recipe, size, adapter, batch_size, mesh)

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 hex over everything that changes a score."""
        recipe = dataclasses.asdict(self.recipe)
        head = [self.backbone.fingerprint, recipe, self.size, self.backbone.dtype.name]
        told = json.dumps(head, sort_keys=True)
        return digests.fingerprint(told, jax.tree.leaves(self.adapter))

    def encode(self, images: Iterable[Any]) -> Float[np.ndarray, "n y x c"]:
        """Latents; images are decoded on threads while the device computes.

        Args:
          images: paths, encoded bytes, PIL images, or uint8 RGB arrays.
        Raises: BadImage naming the image that cannot be read.
        """
        count, left = self._images_at_once, iter(images)
        split = sharding.batch_sharding(self.mesh)

        def decode(sources: list) -> np.ndarray:
            pixels = images_lib.decode_batch(sources, self.size, FIT)
            return images_lib.to_float(pixels)

        def start(batch: np.ndarray):
            padded = sharding.pad_batch(batch, count)
            placed = jax.device_put(padded, split)
            found = self._encode(self.loaded.frozen, placed)
            return lambda: np.asarray(found, np.float32)[: len(batch)]

        batches = iter(lambda: list(itertools.islice(left, count)), [])
        shape = (0, *self.backbone.latent_shape(self.size))
        found = one_in_flight(map(start, read_ahead(decode, batches)))
        return np.concatenate([np.zeros(shape, np.float32), *found])

    @property
    def _images_at_once(self) -> int:
        groups = self.mesh.shape["data"]
        platform = self.mesh.local_devices[0].platform
        most = hardware.image_counts(self.size, platform)[0]
        return groups * (min(most, self.batch_size) if self.batch_size else most)

    def score(
        self, images: Iterable[Any], texts: Sequence[str]
    ) -> Float[np.ndarray, "i t"]:
        """How well each text fits each image; larger is better, texts of one image, and
        images of one text, compare.

        Args:
          images: as of `encode`.
        Raises: BadImage; ValueError for a text without a word.
        """
        return every(self.pair_scores, self.encode(images), texts)

    def pair_scores(
        self,
        latents: Float[np.ndarray, "n y x c"],
        images: Int[np.ndarray, " p"],
        texts: Sequence[str],
        rows: Int[np.ndarray, " p"],
        quiet: bool = True,
    ) -> Float[np.ndarray, "p k"]:
        """The score of image `images[i]` with text `rows[i]` at every timestep.

        Args:
          latents: of `encode`.
        Raises: ValueError for a text without a word.
        """
        return self._scored(self._pairs, latents, images, texts, rows, quiet)

    def pair_parts(
        self,
        latents: Float[np.ndarray, "n y x c"],
        images: Int[np.ndarray, " p"],
        texts: Sequence[str],
        rows: Int[np.ndarray, " p"],
        quiet: bool = True,
    ) -> Float[np.ndarray, "p k e"]:
        """What these scores are sums of; see `scores.score_parts`."""
        return self._scored(self._parts, latents, images, texts, rows, quiet)

    def _scored(
        self, scorer: PairScorer, latents, images, texts, rows, quiet: bool
    ) -> np.ndarray:
        check_texts(texts)
        without = None
        if self.adapter.gain is not None:
            each = np.arange(len(latents))
            empty = self._errors(self._adapter, latents, each, [""], 0 * each)
            without = empty[images]
        given = self._adapter, latents, images, texts, rows, without
        return scorer(*given, quiet=quiet)


def initial(
    loaded: LoadedBackbone,
    recipe: MatchRecipe,
    config: AdapterConfig,
    size: int,
    key: jax.Array | None = None,
) -> MatchAdapter:
    """An adapter that changes nothing yet, for the layers of a recipe."""
    backbone, layers = loaded.backbone, scores.layer_names(loaded.backbone, recipe)

    def read(frozen):
        tokens = jax.tree.map(jnp.asarray, backbone.tokenize(["a"]))
        text = backbone.encode_text(frozen, tokens)
        latents = jnp.zeros((1, *backbone.latent_shape(size)))
        # A layer's activation has as many channels as its keys.
        taps = () if config.prompts == "none" else tuple(map(_layer, layers))
        return backbone.read(frozen, latents, 0, text, taps=taps, logits=layers)

    found = jax.eval_shape(read, loaded.frozen)
    heads = sum(found.logits[name].shape[1] for name in layers)
    taps = {name: found.taps.get(_layer(name)) for name in layers}
    widths = {name: tap.shape[-1] for name, tap in taps.items() if tap is not None}
    network = loaded.frozen.get(scores.NETWORK, {})
    key = jax.random.key(0) if key is None else key
    given = config, heads, widths, backbone.context_dim, network
    return match_adapter.init(key, *given)


def _layer(attention: str) -> str:
    """The activation after an attention layer."""
    return attention.rpartition(".")[0]


def restored(like: MatchAdapter, found: dict[str, Any]) -> MatchAdapter:
    """An adapter from the plain values of a checkpoint."""
    values = checkpoint.named(found)
    names = checkpoint.named(like)
    leaves = [values[name] for name in names]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def check_texts(texts: Sequence[str]) -> None:
    """Raises: ValueError for a text in which there is no word to score."""
    for text in texts:
        if not text.strip():
            raise ValueError(
                f"a text is {text!r}; give one or more words, such as 'a red cup'"
            )

"""The public face of re-ranking: a drawing and some photos in, relation scores out.

reranker = Reranker.from_run("runs/rerank")  # of the task reranking, or tokens
scores = reranker.score("cup.png", paths)  # [n], larger is nearer
"""

import copy
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from sbir_jax.adapters import token_files
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.adapters.token_sources import (
    FrozenTokens,
    ReaderConfig,
    TokenSource,
    ViTTokens,
)
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen, text_states
from sbir_jax.backbones.loading import random_backbone
from sbir_jax.data import images as images_lib
from sbir_jax.features import Recipe
from sbir_jax.metrics.cosine import unit
from sbir_jax.models.token_relation import Related, Relation, RelationConfig
from sbir_jax.models.vision_transformer import ViTConfig
from sbir_jax.report.correspondences import Seen
from sbir_jax.runtime import checkpoint, digests, hardware, sharding
from sbir_jax.types import Modality

SAVED_AS = "matcher"  # in checkpoints
# Of its scores beside those of descriptors. Of the weights above 0 it did the least
# harm on held-out seen classes of Toybox, where none did any good.
WEIGHT = 0.1
TASKS = ("reranking", "tokens")
PHOTOS = 32  # pairs of one sketch at a time, and images, on each device


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config(checkpoint.OnBackbone):
    """Of a run's config, what makes a score."""

    relation: RelationConfig
    score_only: bool = False
    weights: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfTokens(_Config):
    vit: ViTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfBackbone(_Config):
    recipe: Recipe
    reader: ReaderConfig


class Reranker:
    """A source of tokens, a relation network, and their parameters.

    Attributes:
      source, relation: what computes. size: side of the images, in pixels.
      matcher: what was learned.
    """

    def __init__(
        self,
        source: TokenSource,
        relation: RelationConfig,
        size: int,
        matcher: TokenMatcher | None = None,
        loaded: LoadedBackbone | None = None,
        mesh: Mesh | None = None,
    ):
        """Compiles nothing yet.

        Args:
          matcher: one before any training without it.
          loaded: of tokens of a frozen backbone; None for others.
          mesh: the devices to use, all of this process; all there are without it.
        """
        self.source, self.relation, self.size = source, Relation(relation), size
        self.mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        self._backbone = None if loaded is None else loaded.backbone.fingerprint
        frozen = {} if loaded is None else loaded.frozen
        self._frozen = sharding.place_frozen(frozen, self.mesh)
        self.at_once = PHOTOS * self.mesh.shape["data"]
        jit = functools.partial(hardware.jit, on=self.mesh)
        self._read = jit(source.read, static_argnums=2)
        self._states = jit(source.states)

        def relate(params, sketch, photos) -> Any:
            sketch = jnp.broadcast_to(sketch, photos.shape)
            return self.relation.apply({"params": params}, sketch, photos)

        self._relate = jit(relate)
        self._logits = jit(lambda *given: relate(*given).logit)
        self.use(matcher or self.init(jax.random.key(0)))

    def use(self, matcher: TokenMatcher) -> None:
        self.matcher = matcher
        self._placed = sharding.place_whole(matcher, self.mesh)

    def with_matcher(self, matcher: TokenMatcher) -> "Reranker":
        """The same, compiled programs and all, with other parameters."""
        other = copy.copy(self)
        other.use(matcher)
        return other

    def init(self, key: jax.Array) -> TokenMatcher:
        """Parameters before training. Raises: ValueError as
        `RelationConfig.anchors`."""
        first, second = jax.random.split(key)

        @jax.jit
        def make():
            source = self.source.init(first)
            states = self.source.states(source, jnp.zeros((1, *self.source.raw))).states
            found: Any = self.relation.init(second, states, states)
            return TokenMatcher(source, found["params"])

        return jax.device_get(make())

    @classmethod
    def from_run(cls, workdir: str | pathlib.Path, mesh: Mesh | None = None):
        """What a run of the task "reranking" or "tokens" has learned.

        Raises: FileNotFoundError without a run there; ValueError for a run of another
          task, a damaged one, and where its backbone is no longer the one it was
          trained with.
        """
        workdir = pathlib.Path(workdir).expanduser()
        command = "python -m sbir_jax.main --config configs/toybox.py:task=reranking"
        values = checkpoint.run_config(workdir, f"{command} --workdir {workdir}")
        if values.get("task") not in TASKS:
            raise ValueError(
                f"{workdir} is a run of the task {values.get('task')}; a re-ranker is "
                f"one of the task {' or '.join(TASKS)}: {command}"
            )
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        kind = _OfTokens if values["task"] == "tokens" else _OfBackbone
        config = checkpoint.checked_config(kind, values, workdir)
        size, loaded = config.image_size, None
        if isinstance(config, _OfTokens):
            source = ViTTokens(config.vit, size)
        else:
            given = mesh, config.dtype, config.encoder
            loaded = load_frozen(config.backbone, config.recipe.taps, *given)
            if config.random_weights:
                loaded = random_backbone(loaded, seed=config.train.seed)
            source = frozen_tokens(loaded, config.recipe, size, config.reader)
        made = cls(source, config.relation, size, None, loaded, mesh)
        if config.score_only:
            made.use(token_files.load(config.weights, made.matcher)[0])
            return made
        found = checkpoint.load_trained(workdir, made._backbone, SAVED_AS)
        made.use(_restored(made.matcher, found, workdir))
        return made

    @functools.cached_property
    def _head(self) -> list[Any]:
        return [self._backbone, self.source.identity, repr(self.relation.config)]

    @property
    def fingerprint(self) -> str:
        """sha256 hex over everything that changes a score."""
        leaves = jax.tree.leaves(self.matcher)
        return digests.fingerprint(json.dumps(self._head), leaves)

    def read(
        self, images: Float[np.ndarray, "n h w 3"], modality: Modality
    ) -> Float[np.ndarray, "n y x c"]:
        """What `TokenSource.read` gives of images in [-1, 1]."""
        return self._batched(lambda x: self._read(self._frozen, x, modality), images)

    def tokens(self, raw: Float[np.ndarray, "n y x c"]) -> Any:
        """`Tokens` on the host, of what `read` gave."""
        return self._batched(lambda x: self._states(self._placed.source, x), raw)

    def logits(
        self, sketch: Float[np.ndarray, "m c"], photos: Float[np.ndarray, "n m c"]
    ) -> Float[np.ndarray, " n"]:
        """Of the relation scores of one sketch with photos: states of `tokens`."""
        given = self._placed.relation, sketch[None].astype(np.float32)
        return self._batched(lambda x: self._logits(*given, x), photos)

    def related(
        self, sketch: Float[np.ndarray, "m c"], photos: Float[np.ndarray, "n m c"]
    ) -> Related:
        """All that comes of these pairs, maps of attention among it."""
        given = self._placed.relation, sketch[None].astype(np.float32)
        return self._batched(lambda x: self._relate(*given, x), photos)

    def _batched(self, program: Callable[[Any], Any], rows: np.ndarray) -> Any:
        """What a program gives of all rows, some at a time."""
        split, found = sharding.batch_sharding(self.mesh), []
        for start in range(0, len(rows), self.at_once):
            some = np.asarray(rows[start : start + self.at_once], np.float32)
            padded = sharding.pad_batch(some, self.at_once)
            out = jax.device_get(program(jax.device_put(padded, split)))
            found.append(jax.tree.map(lambda x, some=some: x[: len(some)], out))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    def score(self, sketch: Any, photos: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """Logits of the relation scores of one drawing with each photo.

        Args:
          sketch, photos: paths, encoded bytes, PIL images, or uint8 RGB arrays; the
            drawing as it is searched with (`sketch_preparation.prepare`).
        Raises: BadImage naming the image that cannot be read.
        """
        drawn, _ = self.tokens(self._seen([sketch], "sketch")[1])
        found = [
            self.tokens(self._seen(photos[i : i + self.at_once], "photo")[1])[0]
            for i in range(0, len(photos), self.at_once)
        ]
        return self.logits(drawn[0], np.concatenate(found))

    def look(self, sketch: Any, photo: Any) -> Seen:
        """Both with what relates them; arguments and errors as of `score`."""
        drawn, raw = self._seen([sketch], "sketch")
        shown, other = self._seen([photo], "photo")
        own, their = self.tokens(raw), self.tokens(other)
        places = [unit(x.states[0, 1:].astype(np.float32)) for x in (own, their)]
        return Seen(
            drawn[0],
            shown[0],
            places[0] @ places[1].T,
            own.patches[0],
            their.patches[0],
            self.source.side,
            float(self.logits(own.states[0], their.states)[0]),
        )

    def _seen(self, sources: Sequence[Any], modality: Modality):
        """Pixels, and what is read of them."""
        files = [images_lib.as_file(source) for source in sources]
        fit = images_lib.FIT[modality]
        pixels = images_lib.decode_batch(files, self.size, fit)
        return pixels, self.read(images_lib.to_float(pixels), modality)


def frozen_tokens(
    loaded: LoadedBackbone, recipe: Recipe, size: int, config: ReaderConfig
) -> FrozenTokens:
    """Tokens of a backbone with prompts that change nothing."""
    prompts = init_prompts(PromptConfig(), size, text_states(loaded, [""])[0])
    backbone, frozen = loaded.backbone, loaded.frozen
    return FrozenTokens(backbone, prompts, recipe, size, config, frozen)


def mixed(
    told: Float[np.ndarray, " n"], own: Float[np.ndarray, " n"], weight: float
) -> Float[np.ndarray, " n"]:
    """Scores of two scales, each in standard deviations from its mean over these.

    Args:
      weight: of `told`, 0 to 1; the rest is of `own`.
    """
    return weight * standardised(told) + (1 - weight) * standardised(own)


def standardised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """In standard deviations from the mean; zeros where all are equal."""
    if not len(values) or not values.std():
        return np.zeros(len(values))
    return (values - values.mean()) / values.std()


def _restored(like: TokenMatcher, found: dict, where: pathlib.Path) -> TokenMatcher:
    """Raises: ValueError for parameters of another network."""
    wanted, values = checkpoint.named(like), checkpoint.named(found)
    for name, leaf in wanted.items():
        if name not in values or values[name].shape != leaf.shape:
            raise ValueError(
                f"{where} is damaged: its {name} is not of shape {leaf.shape}. "
                f"{checkpoint.REMEDY}"
            )
    leaves = [values[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)

"""The public face: images in, descriptors out.

embedder = Embedder.from_run("runs/toybox")
photos = embedder.embed(paths, "photo")
nearest = (embedder.embed(["cup.png"], "sketch") @ photos.T).argsort()[:, ::-1]
"""

import copy
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from PIL import Image
from tqdm.auto import tqdm

from sbir_jax import checkpoint, features, processes, sharding
from sbir_jax.data import images as images_lib
from sbir_jax.features import Recipe, Task
from sbir_jax.prompts import MODALITIES, Modality, PromptConfig, init_prompts
from sbir_jax.weights import Backbone, load_backbone, random_backbone

PARTS = ("unet", "vae_encoder", "text_encoder")


# Compiled once for a text encoder, not at every search with words.
_encode_text = jax.jit(features.encode_text, static_argnums=0)


def _source(image):
    """A path or a file's bytes as they are; pictures in memory as a file's bytes."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        file = io.BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()
    return image


def tokenize(backbone: Backbone, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 [b, n], padded or cut to the text encoder's length."""
    tokenizer = backbone.tokenizer
    ids = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
    )
    return np.asarray(ids["input_ids"], np.int32)


def text_states(backbone: Backbone, texts: Sequence[str]) -> Float[Array, "b n d"]:
    """What the UNet's cross-attention gets for these texts."""
    tokens = tokenize(backbone, texts)
    return _encode_text(backbone.text_encoder, backbone.params, tokens)


class Embedder:
    """A backbone, prompts and a recipe, with the preprocessing that belongs to them.

    Attributes:
      size: side of the images the network sees, in pixels.
      batch_size: images at a time, the same number on each device.
      dim: length of a descriptor.
      fingerprint: sha256 hex over everything that changes a descriptor; caches and
        indexes carry it and refuse to mix.
      source: how to make it again, in plain JSON values; None where it was put together
        by hand.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: dict,
        recipe: Recipe,
        size: int,
        visual_scale: float = 1.0,
        batch_size: int = 32,
        mesh: Mesh | None = None,
    ):
        """Compiles nothing yet.

        Args:
          mesh: the devices to use (`sharding.make_mesh`), all of this process; all that
            there are without it. With its axis "model" longer than 1 the weights are
            split over it.
        """
        self.backbone, self.recipe, self.size = backbone, recipe, size
        self.source: dict[str, str] | None = None
        self.visual_scale = visual_scale
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        self._mesh = mesh
        groups = mesh.shape["data"]
        self.batch_size = -(-batch_size // groups) * groups
        self.prompts = sharding.place_whole(prompts, mesh)
        self._params = sharding.place_frozen(backbone.params, mesh)
        self._batch_sharding = sharding.batch_sharding(mesh)
        self._noise = features.noise_bank(recipe, backbone.latent_shape(size))

        @functools.partial(jax.jit, static_argnames="modality")
        def describe(params, prompts, noise, images, context, modality):
            return features.describe(
                backbone,
                params,
                prompts,
                images,
                modality,
                noise,
                recipe,
                context=context,
                visual_scale=visual_scale,
            )

        self._describe: Callable[..., Array] = describe
        self.dim = self._probe_dim()

    def with_prompts(self, prompts: dict) -> "Embedder":
        """The same embedder, compiled programs and all, with other prompts."""
        other = copy.copy(self)
        other.__dict__.pop("_fingerprint", None)
        other.source = None
        other.prompts = sharding.place_whole(prompts, self._mesh)
        return other

    def _probe_dim(self) -> int:
        shape = (self.batch_size, self.size, self.size, 3)
        images = jax.ShapeDtypeStruct(shape, np.float32)
        call = functools.partial(self._describe, modality="photo")
        out = jax.eval_shape(
            call, self._params, self.prompts, self._noise, images, None
        )
        return out.shape[-1]

    @classmethod
    def from_pretrained(
        cls,
        source: str = "toybox",
        task: Task = "category",
        text: str = "",
        batch_size: int = 32,
        mesh: Mesh | None = None,
    ) -> "Embedder":
        """The frozen backbone with prompts that change nothing.

        Args:
          source: "toybox", a folder in the diffusers layout, or a hub id.
          text: words in place of a learned text prompt, shared by all images.
          batch_size: images at a time; for single drawings 1 is the fastest.
          mesh: as of the class. Weights go straight to their place on it.
        """
        taps = features.TAPS[task]
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        rule = sharding.frozen_rule(mesh)
        backbone = load_backbone(
            source, taps=taps, parts=PARTS, sharding=rule, frozen=True
        )
        config = PromptConfig(text=text)
        prompts = init_prompts(
            config, backbone.image_size, text_states(backbone, [text])[0]
        )
        size = backbone.image_size
        recipe = Recipe(taps)
        embedder = cls(
            backbone, prompts, recipe, size, batch_size=batch_size, mesh=mesh
        )
        local = source != "toybox" and pathlib.Path(source).expanduser().exists()
        where = str(backbone.folder.resolve()) if local else str(source)
        embedder.source = {
            "kind": "pretrained",
            "source": where,
            "task": task,
            "text": text,
        }
        return embedder

    @classmethod
    def from_run(
        cls,
        workdir: str | pathlib.Path,
        batch_size: int = 32,
        mesh: Mesh | None = None,
    ) -> "Embedder":
        """The learned prompts of a run folder, on the backbone they were trained on.

        Args:
          mesh: as of the class. Weights go straight to their place on it.
        Raises: FileNotFoundError without a run there, ValueError where the backbone
          its config names is no longer the one that was trained with.
        """
        workdir = pathlib.Path(workdir)
        path = workdir / "config.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there, so {workdir} is not a run folder; train one "
                f"with: python -m sbir_jax.main --config configs/toybox.py --workdir "
                f"{workdir}"
            )
        config = json.loads(path.read_text())
        recipe = Recipe(**{**config["recipe"], "taps": tuple(config["recipe"]["taps"])})
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        rule = sharding.frozen_rule(mesh)
        backbone = load_backbone(
            config["backbone"],
            taps=recipe.taps,
            parts=PARTS,
            sharding=rule,
            frozen=True,
        )
        if config["random_weights"]:
            backbone = random_backbone(backbone, seed=config["train"]["seed"])
        prompts = checkpoint.load_prompts(workdir, backbone.fingerprint)
        scale = PromptConfig(**config["prompt"]).visual_scale
        size = config["image_size"]
        embedder = cls(backbone, prompts, recipe, size, scale, batch_size, mesh)
        embedder.source = {
            "kind": "run",
            "source": str(workdir.resolve()),
            "task": config["task"],
        }
        return embedder

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        recipe = dataclasses.asdict(self.recipe)
        head = [self.backbone.fingerprint, recipe, self.size, self.visual_scale]
        digest.update(json.dumps(head, sort_keys=True).encode())
        for leaf in jax.tree.leaves(self.prompts):
            digest.update(np.asarray(leaf, np.float32).tobytes())
        return digest.hexdigest()

    def embed(
        self,
        images: Iterable,
        modality: str,
        text: str | Sequence[str] | None = None,
        text_share: float = 1.0,
    ) -> Float[np.ndarray, "n d"]:
        """Descriptors of unit length, float32.

        Args:
          images: paths, encoded bytes, PIL images, or uint8 RGB arrays.
          text: words beside the drawing, one for all or one each.
          text_share: of the words in the text prompt, 0 to 1: at 1 they replace it, as
            in Koley et al. (CVPR 2024), at less their states are mixed (ours).
        Raises: BadImage naming the image that cannot be read, ValueError for another
          modality than "sketch" or "photo".
        """
        if modality not in MODALITIES:
            raise ValueError(f"modality is {modality!r}; give one of {MODALITIES}")
        batch = [images_lib.load(_source(i), self.size, modality) for i in images]
        if not batch:
            return np.zeros((0, self.dim), np.float32)
        context = None
        if text is not None:
            texts = [text] * len(batch) if isinstance(text, str) else list(text)
            if len(texts) != len(batch):
                raise ValueError(
                    f"{len(texts)} texts for {len(batch)} images; give one, or one each"
                )
            context = self.context(texts, text_share)
        return self.embed_arrays(np.stack(batch), modality, context)

    def context(self, texts: Sequence[str], share: float) -> Float[np.ndarray, "b n d"]:
        """Text states of words, mixed with the text prompt; see `embed`."""
        if not 0 <= share <= 1:
            raise ValueError(f"text_share is {share}; give 0 (no words) to 1")
        states = np.asarray(text_states(self.backbone, texts))
        return share * states + (1 - share) * np.asarray(self.prompts["text"])

    def embed_arrays(
        self,
        images: Float[np.ndarray, "n h w 3"],
        modality: Modality,
        context: Float[np.ndarray, "n t d"] | None = None,
    ) -> Float[np.ndarray, "n e"]:
        """As `embed` for images that are already of `size` pixels, in [-1, 1]."""
        out = []
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = images[rows]
            texts = None if context is None else self._place(context[rows])
            found = self._describe(
                self._params,
                self.prompts,
                self._noise,
                self._place(batch),
                texts,
                modality=modality,
            )
            out.append(np.asarray(found, np.float32)[: len(batch)])
        return np.concatenate(out)

    def _place(self, rows: np.ndarray) -> Array:
        padded = sharding.pad_batch(rows, self.batch_size)
        return jax.device_put(padded, self._batch_sharding)

    def embed_items(
        self,
        items,
        indices: np.ndarray,
        modality: Modality,
        texts: Sequence[str] | None = None,
        text_share: float = 1.0,
    ) -> Float[np.ndarray, "n d"]:
        """Descriptors of a data set's items by index, with a progress bar.

        Of several processes each embeds its share, and all get the whole.

        Args:
          texts: words beside each, as in `embed`.
        """
        out = [np.zeros((0, self.dim), np.float32)]
        mine = processes.share(len(indices))
        bar = tqdm(
            total=mine.stop - mine.start,
            desc=f"embed {modality}",
            unit="image",
            disable=not processes.is_first(),
        )
        with bar:
            for start in range(mine.start, mine.stop, self.batch_size):
                rows = slice(start, min(start + self.batch_size, mine.stop))
                part = indices[rows]
                context = None
                if texts is not None:
                    words = texts[rows]
                    context = self.context(words, text_share)
                pixels = items.images(part, self.size)
                out.append(self.embed_arrays(pixels, modality, context))
                bar.update(len(part))
        return processes.join(np.concatenate(out), len(indices))

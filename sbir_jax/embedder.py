"""The public face: images in, descriptors out.

embedder = Embedder.from_run("runs/toybox")
photos = embedder.embed(paths, "photo")
nearest = (embedder.embed(["cup.png"], "sketch") @ photos.T).argsort()[:, ::-1]
"""

import copy
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from sbir_jax import features, text_queries
from sbir_jax.adapters import run_folder
from sbir_jax.adapters.prompts import PromptConfig, Prompts, init_prompts
from sbir_jax.backbones.base import Backbone, LoadedBackbone
from sbir_jax.backbones.frozen import lasting_name, load_frozen, load_whole, text_states
from sbir_jax.data import images as images_lib
from sbir_jax.features import Recipe, Task
from sbir_jax.runtime import hardware, multiprocess, sharding
from sbir_jax.runtime.prefetch import Waiting, one_in_flight, read_ahead
from sbir_jax.types import MODALITIES, Modality


class Embedder:
    """A backbone, prompts and a recipe, with the preprocessing that belongs to them.

    Attributes:
      size: side of the images the network sees, in pixels.
      dtype: what the frozen networks compute in. Prompts and descriptors are float32.
      dim: length of a descriptor.
      whole: gives all of the backbone, which is loaded at its first call.
      fingerprint: sha256 hex over everything that changes a descriptor; caches and
        indexes carry it and refuse to mix.
      source: how to make it again, in plain JSON values; None where it was put together
        by hand.
      waiting: which share of its time `embed_items` waited for images.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        prompts: Prompts,
        recipe: Recipe,
        size: int,
        visual_scale: float = 1.0,
        batch_size: int = 0,
        mesh: Mesh | None = None,
    ):
        """Compiles nothing yet.

        Args:
          batch_size: images at a time, rounded up to the same number on each device;
            0 for what fits their memory, found at the first use.
          mesh: the devices to use (`sharding.make_mesh`), all of this process; all that
            there are without it. With its axis "model" longer than 1 the weights are
            split over it.
        """
        backbone: Backbone = loaded.backbone
        self.loaded, self.backbone = loaded, backbone
        self.recipe, self.size = recipe, size
        self.source: dict[str, str] | None = None
        self._words: str | None = None  # that stand for the text prompt, not learned
        self.visual_scale = visual_scale
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        self._mesh = mesh
        self._groups = mesh.shape["data"]
        if batch_size < 0:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more, or 0")
        # Shared with copies that have other prompts: found once.
        self._batch_size = functools.cache(lambda: self._fitting(batch_size))
        self.whole = functools.cache(lambda: load_whole(backbone, mesh))
        self.dtype = backbone.dtype.name
        self.waiting = Waiting()
        self.prompts = sharding.place_whole(prompts, mesh)
        self._frozen = sharding.place_frozen(loaded.frozen, mesh)
        self._batch_sharding = sharding.batch_sharding(mesh)
        self._noise = features.noise_bank(recipe, backbone.latent_shape(size))

        @functools.partial(hardware.jit, on=mesh, static_argnames="modality")
        def describe(frozen, prompts, noise, images, context, modality):
            given = frozen, prompts, images, modality, noise, recipe
            return features.describe(backbone, *given, context, visual_scale)

        self._describe = describe
        shapes = self._arguments(self._groups)
        self.dim: int = describe.eval_shape(*shapes, modality="photo").shape[-1]

    def with_prompts(self, prompts: Prompts) -> "Embedder":
        """The same embedder, compiled programs and all, with other prompts."""
        other = copy.copy(self)
        other.__dict__.pop("_fingerprints", None)
        other.source, other._words = None, None
        other.prompts = sharding.place_whole(prompts, self._mesh)
        return other

    def _arguments(self, count: int) -> tuple:
        shape = (count, self.size, self.size, 3)
        images = jax.ShapeDtypeStruct(shape, np.float32, sharding=self._batch_sharding)
        return self._frozen, self.prompts, self._noise, images, None

    @property
    def batch_size(self) -> int:
        """Images at a time, the same number on each device."""
        return self._batch_size()

    def _fitting(self, asked: int) -> int:
        if asked:
            return -(-asked // self._groups) * self._groups

        def program(count: int) -> jax.stages.Compiled:
            shapes = self._arguments(count * self._groups)
            return self._describe.lower(*shapes, modality="photo").compile()

        image, devices = 4 * 3 * self.size**2, self._mesh.local_devices
        return self._groups * hardware.largest_fitting(
            program,
            hardware.image_counts(self.size, devices[0].platform),
            lambda count: count * image,
            hardware.free_bytes(devices),
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str = "toybox",
        task: Task = "category",
        text: str = "",
        batch_size: int = 0,
        mesh: Mesh | None = None,
        dtype: str = "",
        encoder: str = "",
    ) -> "Embedder":
        """The frozen backbone with prompts that change nothing.

        Args:
          source: a short name (`sbir models`), a diffusers folder, or a hub id.
          text: words in place of a learned text prompt, shared by all images.
          batch_size: as of the class; for single drawings 1 is the fastest.
          mesh: as of the class. Weights go straight to their place on it.
          dtype: as of `load_frozen`.
          encoder: as of `load_backbone`: "tiny" for a distilled one.
        """
        taps = functools.partial(features.default_taps, task)
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        loaded = load_frozen(source, taps, mesh, dtype, encoder)
        size, states = loaded.backbone.image_size, text_states(loaded, [text])[0]
        prompts = init_prompts(PromptConfig(text=text), size, states)
        recipe = Recipe(taps(loaded.backbone.tap_names))
        embedder = cls(loaded, prompts, recipe, size, 1.0, batch_size, mesh)
        embedder._words = text
        embedder.source = {
            "kind": "pretrained",
            "source": lasting_name(loaded.backbone.source, "toybox"),
            "task": task,
            "text": text,
            "dtype": embedder.dtype,
            "encoder": lasting_name(encoder, "tiny"),
        }
        return embedder

    @classmethod
    def from_run(
        cls,
        workdir: str | pathlib.Path,
        batch_size: int = 0,
        mesh: Mesh | None = None,
    ) -> "Embedder":
        """The learned prompts of a run folder, on the backbone they were trained on.

        It computes in the type that the run was made with, on any device.

        Args:
          batch_size: as of the class.
          mesh: as of the class. Weights go straight to their place on it.
        Raises: FileNotFoundError without a run there, ValueError where the backbone
          its config names is no longer the one that was trained with.
        """
        workdir = pathlib.Path(workdir)
        mesh = mesh or sharding.make_mesh(devices=jax.local_devices())
        run = run_folder.read(workdir, mesh)
        config, scale = run.config, run.config.prompt.visual_scale
        given = config.recipe, config.image_size, scale, batch_size, mesh
        embedder = cls(run.loaded, run.prompts, *given)
        embedder.source = {
            "kind": "run",
            "source": str(workdir.resolve()),
            "task": config.task,
        }
        return embedder

    @property
    def fingerprint(self) -> str:
        return self._fingerprints[0]

    @property
    def former_fingerprint(self) -> str:
        """What earlier versions gave, for a frozen backbone on this processor."""
        return self._fingerprints[1]

    @functools.cached_property
    def _fingerprints(self) -> list[str]:
        given = self.backbone, self.prompts, self.recipe, self.size, self.visual_scale
        return [features.fingerprint(*given, words) for words in (self._words, None)]

    def embed(
        self,
        images: Iterable,
        modality: str,
        text: str | Sequence[str] | None = None,
        text_weight: float = 1.0,
        prepare: bool = False,
    ) -> Float[np.ndarray, "n d"]:
        """Descriptors of unit length, float32.

        Images are decoded on threads while the device computes, a few batches ahead at
        most, so that an iterator over any number of them takes no more memory.

        Args:
          images: paths, encoded bytes, PIL images, or uint8 RGB arrays; any iterable.
          text: words in the place of the text prompt, one for all or one each. To find
            what they tell of, mix in `embed_words` (`text_queries.mix`).
          text_weight: of the words in the text prompt, 0 to 1: at 1 they replace it, as
            in Koley et al. (CVPR 2024), at less their states are mixed (ours).
          prepare: sketches are first made dark, centred and large, as
            `sketch_preparation` has it; benchmarks take them as they are.
        Raises: BadImage naming the image that cannot be read, NoInk for an empty sheet
          where sketches are prepared, ValueError for another modality than "sketch" or
          "photo", and for another number of texts.
        """
        if modality not in MODALITIES:
            raise ValueError(f"modality is {modality!r}; give one of {MODALITIES}")
        left, fit = text_queries.beside(images, text), images_lib.FIT[modality]

        def decode(pairs: list) -> tuple[Float[np.ndarray, "n s s 3"], list]:
            sources = [image for image, _ in pairs]
            if prepare and modality == "sketch":
                # Half a second of scikit-image, for those who ask.
                from sbir_jax.data import sketch_preparation

                sources = [sketch_preparation.prepare(source) for source in sources]
            files = [images_lib.as_file(source) for source in sources]
            pixels = images_lib.decode_batch(files, self.size, fit)
            return images_lib.to_float(pixels), [words for _, words in pairs]

        def start(batch: tuple[np.ndarray, list]) -> Callable[[], np.ndarray]:
            pixels, words = batch
            context = None if text is None else self.context(words, text_weight)
            return self.start(pixels, modality, context)

        batches = iter(lambda: list(itertools.islice(left, self.batch_size)), [])
        found = one_in_flight(map(start, read_ahead(decode, batches)))
        return np.concatenate([np.zeros((0, self.dim), np.float32), *found])

    def embed_words(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Descriptors of words, of unit length, float32: see `text_queries`."""
        return text_queries.embed(self, self.whole(), texts)

    @property
    def words_loaded(self) -> bool:
        """Whether the whole backbone, which `embed_words` needs, is in memory."""
        return self.whole.cache_info().currsize > 0

    def context(self, text: Sequence[str], weight: float) -> Float[np.ndarray, "b n d"]:
        """Text states of words, mixed with the text prompt; see `embed`."""
        weight = text_queries.check_weight(weight)
        said, learned = text_states(self.loaded, text), self.prompts.text
        return weight * np.asarray(said) + (1 - weight) * np.asarray(learned)

    def embed_arrays(
        self,
        images: Float[np.ndarray, "n h w 3"],
        modality: Modality,
        context: Float[np.ndarray, "n t d"] | None = None,
    ) -> Float[np.ndarray, "n e"]:
        """As `embed` for images that are already of `size` pixels, in [-1, 1]."""

        def start(row: int) -> Callable[[], np.ndarray]:
            rows = slice(row, row + self.batch_size)
            states = None if context is None else context[rows]
            return self.start(images[rows], modality, states)

        started = map(start, range(0, len(images), self.batch_size))
        return np.concatenate(list(one_in_flight(started)))

    def start(
        self,
        images: Float[np.ndarray, "n h w 3"],
        modality: Modality,
        context: Float[np.ndarray, "n t d"] | None = None,
    ) -> Callable[[], Float[np.ndarray, "n e"]]:
        """As `embed_arrays` for at most `batch_size` images, without waiting.

        Returns: a function that waits for the descriptors.
        """
        texts = None if context is None else self._place(context)
        arguments = self._frozen, self.prompts, self._noise, self._place(images), texts
        found = self._describe(*arguments, modality=modality)
        return lambda: np.asarray(found, np.float32)[: len(images)]

    def _place(self, rows: np.ndarray) -> Array:
        padded = sharding.pad_batch(rows, self.batch_size)
        return jax.device_put(padded, self._batch_sharding)

    def embed_items(
        self,
        items,
        indices: np.ndarray,
        modality: Modality,
        texts: Sequence[str] | None = None,
        text_weight: float = 1.0,
    ) -> Float[np.ndarray, "n d"]:
        """Descriptors of a data set's items by index, with a progress bar.

        Images are read while the device computes. Of several processes each embeds its
        share, and all get the whole.

        Args:
          texts: words beside each, as in `embed`.
        """
        mine = multiprocess.part(len(indices))
        starts = range(mine.start, mine.stop, self.batch_size)
        parts = [slice(i, min(i + self.batch_size, mine.stop)) for i in starts]
        pixels = read_ahead(lambda rows: items.images(indices[rows], self.size), parts)

        def start(rows: slice, images: np.ndarray) -> Callable[[], np.ndarray]:
            context = None if texts is None else self.context(texts[rows], text_weight)
            return self.start(images, modality, context)

        out = [np.zeros((0, self.dim), np.float32)]
        bar = tqdm(
            total=mine.stop - mine.start,
            desc=f"embed {modality}",
            unit="image",
            disable=not multiprocess.is_first(),
        )
        with bar, self.waiting:
            for found in one_in_flight(map(start, parts, self.waiting(pixels))):
                out.append(found)
                bar.set_postfix_str(f"waiting {self.waiting.share:.0%}", refresh=False)
                bar.update(len(found))
        return multiprocess.join(np.concatenate(out), len(indices))

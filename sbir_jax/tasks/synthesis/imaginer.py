"""The photo that a sketch means: pictures of drawings, edited ones, what lies between.

imaginer = Imaginer.from_run("runs/synthesis")
pictures = imaginer.imagine([sketch] * 4, ["a photo of a red mug"] * 4)
changed = imaginer.edit(pictures, [sketch] * 4, [redrawn] * 4)
strip = imaginer.between(sketch, redrawn, 8)
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, UInt8
from scipy import ndimage

from sbir_jax.adapters import sketch_adapter
from sbir_jax.adapters.sketch_adapter import SketchAdapter
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.data import images
from sbir_jax.diffusion import samplers
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.runtime import digests, hardware, sharding
from sbir_jax.tasks.synthesis.drawing import Request, Sampling, draw

Pictures = UInt8[np.ndarray, "n h w 3"]
AT_ONCE = 16  # pictures in one run of the compiled program
# Around a changed stroke, what may change with it, as a share of a side (ours).
MARGIN = 1 / 8


class Imaginer:
    """A backbone that draws, and the adapter that holds it to drawings.

    Attributes:
      size: side of pictures and drawings, in pixels.
      sampling: how pictures are sampled; `dataclasses.replace` for another way.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        adapter: SketchAdapter | None = None,
        sampling: Sampling | None = None,
    ):
        """`loaded` is whole, the decoder too; without an adapter words alone count."""
        self.loaded = loaded
        # Where the weights are: a program runs on arrays of the same devices.
        where = getattr(jax.tree.leaves(loaded.frozen)[0], "sharding", None)
        if isinstance(where, NamedSharding) and isinstance(where.mesh, Mesh):
            adapter = sharding.place_whole(jax.device_get(adapter), where.mesh)
        self.adapter = adapter
        self.size = loaded.backbone.image_size
        self.sampling = sampling or Sampling()
        self._encoder = None
        if adapter is not None:
            self._encoder = sketch_adapter.network(loaded.backbone, loaded.frozen)

    @classmethod
    def from_run(cls, folder: str | os.PathLike, sampling: Sampling | None = None):
        """What a run of the synthesis task learned.

        Raises: ValueError for a folder of another task; FileNotFoundError where there
          is none.
        """
        from sbir_jax.tasks.synthesis import adapter_files

        return cls(*adapter_files.from_run(pathlib.Path(folder)), sampling)

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 hex over everything that changes a picture but the way of sampling."""
        backbone = self.loaded.backbone.fingerprint
        return digests.fingerprint(backbone, jax.tree.leaves(self.adapter))

    def imagine(
        self,
        sketches: Pictures | None,
        texts: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Pictures:
        """A picture for each drawing.

        Args:
          sketches: dark on light, of `size`; None for words alone.
          texts: one for each; None for none.
          seed: of the noise: picture i of a call is drawn from `seed` and i.
        Raises: ValueError for drawings of another size, for nothing given, and for
          other numbers of texts than drawings.
        """
        count = self._count(sketches, texts)
        noise = self._noise(seed, count)
        return self._draw(sketches, texts, noise, seed)

    def redraw(
        self, pictures: Pictures, texts: Sequence[str], strength: float, seed: int = 0
    ) -> Pictures:
        """What words make of noised pictures (Meng et al., SDEdit, 2022).

        Args:
          strength: 1 leaves nothing of a picture, 0 all.
        """
        self._count(None, texts, pictures)
        noise = self._noise(seed, len(pictures))
        return self._draw(None, texts, noise, seed, self._latents(pictures), strength)

    def edit(
        self,
        pictures: Pictures,
        before: Pictures,
        after: Pictures,
        texts: Sequence[str] | None = None,
        seed: int = 0,
        masks: Bool[np.ndarray, "n h w"] | None = None,
    ) -> Pictures:
        """The pictures with what changed between two drawings of them.

        Outside of the mask the latents are kept, with the noise of each step, and at
        the end the picture's own pixels are put back.

        Args:
          pictures: made of `before`, or any others that it is a drawing of.
          masks: where a picture may change; None for a margin around the strokes that
            differ.
        """
        self._count(after, texts, pictures, before)
        if masks is None:
            pairs = zip(before, after, strict=True)
            masks = np.stack([changed(*pair) for pair in pairs])
        known = self._latents(pictures)
        side, cell = known.shape[1:3], self.size // known.shape[1]
        # A cell of the latents is free where any of its pixels is.
        free = masks.reshape(len(masks), side[0], cell, side[1], cell).any((2, 4))
        noise = self._noise(seed, len(pictures))
        made = self._draw(
            after, texts, noise, seed, known, 1.0, np.expand_dims(free, -1)
        )
        return np.where(np.expand_dims(masks, -1), made, pictures)

    def between(
        self,
        first: UInt8[np.ndarray, "h w 3"],
        last: UInt8[np.ndarray, "h w 3"],
        count: int,
        text: str | None = None,
        seed: int = 0,
    ) -> Pictures:
        """Pictures on the way from one drawing to another, both ends included: one
        drawing fades into the other, on one noise.

        Raises: ValueError for fewer than two.
        """
        if count < 2:
            raise ValueError(f"{count} pictures between two drawings; give 2 or more")
        weights = np.linspace(0, 1, count)[:, None, None, None]
        ends = images.to_float(np.stack([first, last]))
        mixed = ((1 - weights) * ends[:1] + weights * ends[1:]).astype(np.float32)
        noise = np.repeat(self._noise(seed, 1), count, axis=0)
        texts = None if text is None else [text] * count
        return self._draw(mixed, texts, noise, seed)

    def _count(self, sketches, texts, *others) -> int:
        given = [x for x in (sketches, texts, *others) if x is not None]
        if not given:
            raise ValueError("neither drawings nor words; give one of them")
        if len({len(x) for x in given}) > 1:
            numbers = ", ".join(str(len(x)) for x in given)
            raise ValueError(f"{numbers} drawings, texts and pictures; give one each")
        for pictures in (sketches, *others):
            if pictures is not None and pictures.shape[1:] != (self.size, self.size, 3):
                raise ValueError(
                    f"pictures of shape {pictures.shape[1:]}; this backbone draws "
                    f"{self.size} x {self.size} px in three channels"
                )
        if sketches is not None and self.adapter is None:
            raise ValueError(
                "this backbone has no adapter for drawings; take one from a run of "
                "task=synthesis, or give words alone"
            )
        return len(given[0])

    def _noise(self, seed: int, count: int) -> Float[np.ndarray, "n y x c"]:
        """Picture i of every call has the same."""
        shape = self.loaded.backbone.latent_shape(self.size)
        return np.asarray(noise_bank(shape, count, seed))

    def _latents(self, pictures: Pictures) -> Float[np.ndarray, "n y x c"]:
        run = _encoder_program(hardware.device_of(self.loaded.frozen))
        found = run(self.loaded.backbone, self.loaded.frozen, images.to_float(pictures))
        return np.asarray(found)

    def _draw(
        self, sketches, texts, noise, seed, known=None, strength=1.0, free=None
    ) -> Pictures:
        backbone, sampling = self.loaded.backbone, self.sampling
        steps = sampling.stops(backbone.schedule).last(strength)
        start = noise
        if known is not None and strength < 1:
            given = jnp.asarray(known), jnp.asarray(noise), steps
            start = np.asarray(samplers.noised(backbone.schedule, *given))
        if texts is None:
            texts = [""] * len(noise)
            sampling = dataclasses.replace(sampling, guidance=1.0)
        if sketches is not None and sketches.dtype == np.uint8:
            sketches = images.to_float(sketches)
        found = []
        for first in range(0, len(noise), AT_ONCE):
            rows = np.arange(first, min(first + AT_ONCE, len(noise)))
            # The last rows are filled up, so that one program serves them all.
            most = min(AT_ONCE, len(noise))
            rows = np.concatenate([rows, np.full(most - len(rows), rows[-1])])
            text = encode_texts(self.loaded, [*(texts[i] for i in rows), ""])
            fresh = None
            if sampling.eta:
                key = jax.random.key(seed + 1, impl="threefry2x32")
                shape = len(steps.t), len(noise), *noise.shape[1:]
                fresh = jax.random.normal(key, shape)[:, rows]
            request = Request(
                start=start[rows],
                text=text,
                sketches=None if sketches is None else jnp.asarray(sketches[rows]),
                fresh=fresh,
            )
            if known is not None and free is not None:
                mask = free[rows].astype(np.float32)
                kept = {"known": known[rows], "noise": noise[rows], "mask": mask}
                request = dataclasses.replace(request, **kept)
            given = backbone, self._encoder, sampling, self.loaded.frozen, self.adapter
            found.append(np.asarray(draw(*given, request, steps)))
        return images.to_uint8(np.concatenate(found)[: len(noise)])


def changed(
    before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"]
) -> Bool[np.ndarray, "h w"]:
    """Where a picture may follow the strokes that two drawings do not share."""
    apart = np.abs(before.astype(int) - after).mean(-1) > 64
    if not apart.any():
        return apart
    return ndimage.distance_transform_edt(~apart) <= MARGIN * max(apart.shape)


@functools.cache
def _encoder_program(device):
    def encode(backbone, frozen, pictures: Array):
        return backbone.encode_image(frozen, pictures)

    return hardware.jit(encode, device, static_argnames="backbone")

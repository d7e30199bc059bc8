"""What a dense run has learned, opened from its folder without its data."""

import dataclasses
import functools
import pathlib
from typing import Annotated

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from pydantic import Field

from sbir_jax.adapters.text_adapter import TextAdapter
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen
from sbir_jax.backbones.loading import random_backbone
from sbir_jax.data import images
from sbir_jax.dense.model import (
    KINDS,
    PUBLISHED_WIDTH,
    DenseModel,
    apply_head,
    levels_of,
    make_head,
)
from sbir_jax.dense.reading import Reading
from sbir_jax.runtime import checkpoint, hardware, schema, sharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(checkpoint.OnBackbone):
    """Of a run's config, what its networks need."""

    task: str
    read: Reading
    text_length: Annotated[int, Field(ge=1, le=2**12)]
    width: Annotated[int, Field(ge=0, le=2**13)]


@dataclasses.dataclass(frozen=True)
class Owner:
    """Of a run's owner, what its data were."""

    classes: tuple[str, ...]
    places: tuple[str, ...]
    unit: str
    most: float


class Learned:
    """Adapter and head of a run, on the backbone that they were trained on.

    Attributes:
      kind: "segmentation", "referring" or "depth".
      classes: of segmentation. places: that depth was told apart by.
      unit: of depth.
      size: side of the pictures in training, in pixels.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        model: DenseModel,
        config: "Config",
        owner: "Owner",
    ):
        self.loaded, self.kind, self.size = loaded, config.task, config.image_size
        self.classes, self.places = owner.classes, owner.places
        self.unit, self.most = owner.unit, owner.most
        self.text_length = config.text_length
        backbone, how = loaded.backbone, config.read
        width = config.width or PUBLISHED_WIDTH[self.kind]
        head = make_head(self.kind, width, len(self.classes), self.most)
        self._model, self._frozen = jax.device_put(model), loaded.frozen

        @functools.partial(hardware.jit, on=hardware.device_of(loaded.frozen))
        def run(model, frozen, image, text) -> Array:
            latents = backbone.encode_image(frozen, image)
            levels = levels_of(backbone, frozen, model, latents, text, how)
            return apply_head(head, model.head, levels)

        self._run = run

    @classmethod
    def from_run(cls, workdir: str | pathlib.Path, *kinds: str) -> "Learned":
        """Args:
          kinds: of which it may be; any without them.
        Raises: FileNotFoundError without a run there; ValueError for one of another
          kind, or whose backbone is no longer the one that was trained with.
        """
        workdir, kinds = pathlib.Path(workdir), kinds or KINDS
        command = (
            "python -m sbir_jax.main --config configs/toybox_scenes.py:"
            f"task={kinds[0]} --workdir {workdir}"
        )
        values = checkpoint.run_config(workdir, command)
        if values.get("task") not in kinds or values.get("features") != "backbone":
            raise ValueError(
                f"{workdir} is a run of task={values.get('task')}; give one of "
                f"{' or '.join(kinds)} on a backbone, or train one with: {command}"
            )
        config = checkpoint.checked_config(Config, values, workdir)
        told = schema.read_json(workdir / checkpoint.OWNER, checkpoint.REMEDY)
        given = str(workdir / checkpoint.OWNER), checkpoint.REMEDY
        owner = schema.validated(Owner, told, *given)
        mesh = sharding.make_mesh(devices=jax.local_devices()[:1])
        where, dtype = config.backbone, config.dtype
        loaded = load_frozen(where, ("out",), mesh, dtype, config.encoder)
        if config.random_weights:
            loaded = random_backbone(loaded, seed=config.train.seed)
        fingerprint = loaded.backbone.fingerprint
        found = checkpoint.load_trained(workdir, fingerprint, "model")
        adapter = found.get("adapter")
        model = DenseModel(
            TextAdapter(**adapter) if adapter else None,
            found["head"],
            found.get("unet"),
        )
        return cls(loaded, model, config, owner)

    def __call__(
        self, picture: UInt8[np.ndarray, "h w 3"], text: Float[np.ndarray, "s n d"]
    ) -> Float[np.ndarray, "..."]:
        """The head's result [s y x n], or depth [s y x], of one picture and each text.

        Args:
          picture: its sides are multiples of the backbone's stride.
          text: states, as in training.
        """
        image = images.to_float(picture[None])
        # One text at a time: with a program for any number, memory stays as it is.
        found = [self._run(self._model, self._frozen, image, one[None]) for one in text]
        return np.concatenate([np.asarray(one, np.float32) for one in found])

"""The config of dense tasks: what they add to an `Experiment`."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import jax
import optax

from sbir_jax.config import Experiment, TrainConfig
from sbir_jax.dense.model import PUBLISHED_WIDTH
from sbir_jax.dense.reading import Reading

FEATURES = ("backbone", "colour")


@dataclasses.dataclass(frozen=True)
class DenseTrainConfig(TrainConfig):
    """How adapter and head are trained, and the denoiser where it is.

    Attributes:
      unet_rate: of the denoiser, as a share of `learning_rate`; 0 leaves it frozen.
        Published are 0.1 for ADE20K and 0.01 for NYUv2.
    """

    learning_rate: float = 1e-3
    unet_rate: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.unet_rate <= 1:
            raise ValueError(
                f"train.unet_rate is {self.unet_rate}; give a share of the learning "
                "rate, 0 for a frozen denoiser"
            )

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW; norms, biases and gamma do not decay, as published."""

        def adamw(share: float) -> optax.GradientTransformation:
            def rate(step: Any) -> Any:
                return share * self.schedule()(step)

            decays: Callable = lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)  # noqa: E731
            return optax.adamw(rate, weight_decay=self.weight_decay, mask=decays)

        if not self.unet_rate:
            return adamw(1.0)
        rates: dict[Hashable, Any] = {
            "unet": adamw(self.unet_rate),
            "light": adamw(1.0),
        }
        return optax.multi_transform(rates, _which)


def _which(model: Any) -> Any:
    """For each leaf whether it is of the denoiser."""

    def one(path: Any, _: Any) -> str:
        return "unet" if path[0].name == "unet" else "light"

    return jax.tree_util.tree_map_with_path(one, model)


@dataclasses.dataclass(frozen=True)
class DenseSetup(Experiment):
    """A dense run.

    Attributes:
      read: how pictures are read.
      adapter: whether the text adapter is trained. Its gradient goes through the
        denoiser; without it the head's inputs are computed once and kept.
      features: "backbone", or "colour" for the plain rival of the same size.
      width: channels of the head; 0 as published, 256, 640 or 1536.
      augment: of training pictures: "" none, "flip", or "published" (ADE20K's random
        size, crop and colours, NYUv2's crop, flip and colours; nothing is then kept).
      text_length: tokens of an expression that are read; 40 for RefCOCO and RefCOCO+,
        77 for RefCOCOg.
      val_examples: held out of the training examples; what scores best on them is kept.
      slide: whether tests are read in windows of `image_size` with two thirds of it
        between them, as published for ADE20K; else each is resized to a square.
      scales: sizes at which a test picture is segmented, as shares; several also flip.
      rows_at_once: of a batch, in training; 0 for all.
      training_free: whether OVAM, DAAM, DiffSeg and DiffCut are scored beside it.
      test_examples: of each test, evenly spread; 0 for all.
    """

    MOVING: ClassVar[tuple[str, ...]] = (
        *Experiment.MOVING,
        "slide",
        "scales",
        "rows_at_once",
        "training_free",
        "test_examples",
    )
    train: DenseTrainConfig = dataclasses.field(default_factory=DenseTrainConfig)
    read: Reading = dataclasses.field(default_factory=Reading)
    adapter: bool = True
    features: str = "backbone"
    width: int = 0
    augment: str = ""
    text_length: int = 40
    val_examples: int = 0
    slide: bool = False
    scales: tuple[float, ...] = (1.0,)
    rows_at_once: int = 0
    training_free: bool = True
    test_examples: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("width", "val_examples", "rows_at_once", "test_examples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        if self.features not in FEATURES:
            raise ValueError(
                f"features is {self.features!r}; give {' or '.join(FEATURES)}"
            )
        if self.augment not in ("", "flip", "published"):
            raise ValueError(
                f"augment is {self.augment!r}; give flip, published or nothing"
            )
        if self.task == "referring" and self.augment:
            raise ValueError(
                "augment changes what is left and right, and expressions say so: "
                "leave it empty for task=referring, as published"
            )
        if self.features == "colour" and (self.train.unet_rate or self.read.maps):
            raise ValueError(
                "features=colour reads no backbone: give read.maps=False and "
                "train.unet_rate=0"
            )
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(
                f"scales is {self.scales}; give numbers above 0, such as 1"
            )
        if self.rows_at_once and self.train.batch_size % self.rows_at_once:
            raise ValueError(
                f"rows_at_once is {self.rows_at_once}; give a divisor of "
                f"train.batch_size ({self.train.batch_size}), or 0 for all"
            )

    @property
    def adapts(self) -> bool:
        """Whether there is a text adapter."""
        return self.adapter and self.features == "backbone"

    @property
    def keeps_levels(self) -> bool:
        """Whether nothing before the head is trained."""
        return not self.adapts and not self.train.unet_rate

    @property
    def head_width(self) -> int:
        return self.width or PUBLISHED_WIDTH[self.task]

"""What the training loop, the runs and the report know of a task."""

import abc
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import jax
from jax.sharding import Mesh
from jaxtyping import Array

from sbir_jax import data
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen
from sbir_jax.config import Experiment, TrainConfig
from sbir_jax.report.sections import Section, Words
from sbir_jax.types import Metric


@dataclasses.dataclass(frozen=True, eq=False)
class Resources:
    """What a run opened for its task.

    Attributes:
      dataset: as the task's `load_data` gave it.
      loaded: as its `load_backbone` did; None for a task that needs none.
      size: side of the images, in pixels.
      mesh: the devices of all processes; `local`: those of this process.
      folder: of the run; None where nothing is to be written.
    """

    setup: Any
    dataset: Any
    loaded: LoadedBackbone | None
    size: int
    mesh: Mesh
    local: Mesh
    folder: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """A model and its figures by name."""

    name: str
    metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a task found.

    Attributes:
      results: "frozen", "learned" and "chance", as far as there are such models.
      metrics: every figure's meaning.
      primary: the name of the figure to look at first.
      folder: where the report goes, below the run folder.
      facts: further entries of report.json.
      kept: what the task keeps for `sections`; not reported.
    """

    results: Sequence[Result]
    metrics: Sequence[Metric]
    primary: str
    folder: str = "."
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    kept: Any = None


class Task(abc.ABC):
    """What can be trained and scored on a frozen backbone; tasks inherit from it.

    Constructing one finds whatever is wrong with a run before it trains. What is
    trained is a dataclass pytree: methods take all of it, and the optimiser sees the
    parts that `parts` names.

    Attributes:
      Setup: its config, with the fields that it adds.
      saved_as: what checkpoints call what it trains.
      config: how it is trained.
      metric: what its validation scores.
      parts: the fields that are trained; None for all.
      validates: whether anything is held out; else the last step is kept.
      held_out: what that is, for the report.
      words: what the report calls its results, and what its headline says.
    """

    Setup: ClassVar[type[Experiment]] = Experiment
    saved_as: ClassVar[str] = "trained"
    config: TrainConfig
    metric: Metric
    parts: Sequence[str] | None = None
    validates: bool = False
    held_out: str = "what was held out"
    words: Words = Words()

    @abc.abstractmethod
    def __init__(self, given: Resources): ...

    @classmethod
    def load_data(cls, setup: Any) -> Any:
        """The data set of a run, with what is held out for validation."""
        return data.load(**setup.data)

    @classmethod
    def load_backbone(
        cls, setup: Any, mesh: Mesh, dtype: str, taps: tuple[str, ...] = ("out",)
    ) -> LoadedBackbone | None:
        """The frozen networks that it needs, on these devices; None for none.

        Args:
          dtype: what they compute in; "" for what suits this machine.
          taps: the layers that are read; what comes after the last is not loaded.
        """
        return load_frozen(setup.backbone, taps, mesh, dtype, setup.encoder)

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What a run folder belongs to beside the config, as JSON values."""

    @abc.abstractmethod
    def init(self, key: Array) -> Any:
        """All of what can be trained, before the first step."""

    def frozen(self, mesh: Mesh) -> Any:
        """Weights for `loss`, on these devices; not differentiated, not saved."""
        return {}

    @abc.abstractmethod
    def batches(self, step: int) -> Iterable[Any]:
        """This process's rows of the batch of this step, and of all steps after it: a
        pure function of seed, step and host."""

    def rows_at_once(self, batch: Any, mesh: Mesh, program: Callable) -> int:
        """How many rows of a batch, over all hosts, go through the networks together.

        Args:
          batch: this process's rows of one.
          program: compiled for so many rows on each device.
        """
        return self.config.batch_size

    @abc.abstractmethod
    def loss(
        self, trained: Any, frozen: Any, batch: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The mean over a batch's rows, and figures to log; a pure function."""

    def validate(self, trained: Any) -> dict[str, float]:
        """Figures on what was held out, `metric` among them; asked where it
        `validates`."""
        raise NotImplementedError

    def finish(self) -> None:
        """Training is over and saved; what it alone needed can go."""
        return

    @abc.abstractmethod
    def evaluate(self, trained: Any) -> Evaluation:
        """The figures that the run is for, of named models."""

    def sections(self, found: Evaluation) -> Sequence[Section]:
        """The task's own pictures and tables for the report."""
        return ()

    def texts(self, report: dict[str, Any]) -> dict[str, str]:
        """Files beside the report, by name, that the shell prints too."""
        return {}


def first_rows(batch: Any) -> int:
    """How many rows a batch has."""
    return len(jax.tree.leaves(batch)[0])

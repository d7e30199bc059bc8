"""The configs of the tasks that match token by token."""

import dataclasses
from typing import Any, ClassVar

from sbir_jax.adapters.token_sources import ReaderConfig
from sbir_jax.config import Experiment, TrainConfig
from sbir_jax.features import TAPS, Recipe
from sbir_jax.models.token_relation import RelationConfig
from sbir_jax.models.vision_transformer import ViTConfig
from sbir_jax.tasks.retrieval.setup import Scoring

PAPER_SIZE = 224  # pixels
SELECTED_ON = {
    "held_out": "held-out seen classes",
    "test": "the test set itself, as the release does: its figures are too good",
}


@dataclasses.dataclass(frozen=True)
class PairConfig(TrainConfig):
    """How pairs are learned; the defaults are the release's.

    Attributes:
      steps: 30 epochs of 10,000 items, 15 at a time.
      margin: of the triplet loss, in L2 distance of retrieval tokens.
      triplet_weight, relation_weight: of the two losses in the sum.
      right, wrong: what relation scores of pairs are drawn to.
    """

    steps: int = 20000
    batch_size: int = 15
    learning_rate: float = 1e-5
    weight_decay: float = 1e-2
    save_every: int = 500
    score_every: int = 500
    seed: int = 2021
    margin: float = 1.0
    triplet_weight: float = 2.0
    relation_weight: float = 4.0
    right: float = 0.99
    wrong: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        if not self.margin >= 0:
            raise ValueError(f"train.margin is {self.margin}; give 0 or more")
        if not 0 < self.wrong < self.right < 1:
            raise ValueError(
                f"train.wrong is {self.wrong} and train.right {self.right}; give "
                "0 < wrong < right < 1"
            )
        weights = self.triplet_weight, self.relation_weight
        if min(weights) < 0 or not any(weights):
            raise ValueError(
                f"train.triplet_weight is {weights[0]} and train.relation_weight "
                f"{weights[1]}; give 0 or more, and one above 0"
            )


@dataclasses.dataclass(frozen=True)
class PairScoring(Scoring):
    """As of retrieval, and:

    Attributes:
      by: "relation" for the relation score of pairs, or "retrieval" for the distance of
        retrieval tokens, which needs no pairs (`-r rn` and `-r sa` in the release).
      first: photos of a query that are scored as pairs, the first ones by retrieval
        tokens, or by descriptors where there are such; 0 for all.
      weight: of relation scores in the order of these, 0 to 1; the rest is what they
        were found by (ours). Both are taken in standard deviations.
    """

    by: str = "relation"
    first: int = 0
    weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.by not in ("relation", "retrieval"):
            raise ValueError(f"score.by is {self.by!r}; give relation or retrieval")
        if self.first < 0 or not 0 <= self.weight <= 1:
            raise ValueError(
                f"score.first is {self.first} and score.weight {self.weight}; give 0 "
                "or more photos, and a weight from 0 to 1"
            )
        if self.words or self.rerank:
            raise ValueError(
                "score.words and score.rerank are of the tasks category and "
                "fine_grained; here tokens alone are scored: leave them out"
            )


@dataclasses.dataclass(frozen=True)
class PairSetup(Experiment):
    """What both kinds of runs have.

    Attributes:
      val_classes: seen classes held out of training.
      select_on: what the kept step is best on: "held_out", those classes, or "test",
        the unseen classes that are scored, as the release does.
      val_limit: sketches, and photos, of it that are scored on the way.
    """

    MOVING: ClassVar[tuple[str, ...]] = (*Experiment.MOVING, "score")
    train: PairConfig = dataclasses.field(default_factory=PairConfig)
    relation: RelationConfig = dataclasses.field(default_factory=RelationConfig)
    score: PairScoring = dataclasses.field(default_factory=PairScoring)
    val_classes: int = 4
    val_limit: int = 200
    select_on: str = "held_out"

    def __post_init__(self):
        super().__post_init__()
        if self.select_on not in SELECTED_ON:
            raise ValueError(
                f"select_on is {self.select_on!r}; give {' or '.join(SELECTED_ON)}"
            )
        if self.val_classes < 0 or self.val_classes == 1 or self.val_limit < 2:
            raise ValueError(
                f"val_classes is {self.val_classes} and val_limit {self.val_limit}; "
                "give 0 or 2 and more (among photos of one class every ranking is "
                "right), and 2 or more"
            )

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return True


@dataclasses.dataclass(frozen=True)
class TokenSetup(PairSetup):
    """ZSE-SBIR: all of it is trained, no backbone is read.

    Attributes:
      weights: what training starts from: safetensors of the whole system or of a
        transformer alone (`adapters.token_files`), or a run folder, whose transformer
        is taken; "" for random ones.
      score_only: nothing is trained, for published weights.
    """

    vit: ViTConfig = dataclasses.field(default_factory=ViTConfig)
    weights: str = ""
    score_only: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.score_only and not self.weights:
            raise ValueError(
                "score_only is True and weights is empty; give the file of the weights "
                "to score"
            )

    @property
    def trains(self) -> bool:
        return not self.score_only

    @classmethod
    def completed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The paper's size stands for none."""
        return {**values, "image_size": values["image_size"] or PAPER_SIZE}


@dataclasses.dataclass(frozen=True)
class RerankSetup(PairSetup):
    """The same on tokens of a frozen backbone, to re-rank what its descriptors find.

    Attributes:
      recipe: how tokens are read, and the descriptors that they re-rank.
    """

    recipe: Recipe = dataclasses.field(default_factory=lambda: Recipe(TAPS["category"]))
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)

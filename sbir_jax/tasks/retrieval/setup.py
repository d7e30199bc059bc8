"""The config of the retrieval task: what it adds to an `Experiment`."""

import dataclasses
from typing import Any, ClassVar

from sbir_jax.adapters.prompts import PromptConfig, Prompts
from sbir_jax.config import Experiment, TrainConfig
from sbir_jax.features import TAPS, Recipe, Task
from sbir_jax.reranker import WEIGHT as RERANK_WEIGHT
from sbir_jax.tasks.retrieval.protocols import GENERALISED
from sbir_jax.text_queries import WEIGHT


@dataclasses.dataclass(frozen=True)
class Scoring:
    """What a run is scored on. All of it may change when a finished run is run again.

    Attributes:
      name, root, split: another data set (`data.load`); "" for the one trained on. Its
        unseen classes count, less those seen in training.
      photos: which ones of Sketchy, where that is the other data set; "" for those of
        its own config, which are the drawn ones by instance.
      generalised: "" for zero-shot, or a rule of `protocols.GENERALISED`.
      words: beside each sketch: "" none, its "class", or the "caption" of its photo.
      words_as: "picture", a descriptor of their own, mixed with the sketch's (ours,
        `words`); or "prompt", in the place of the text prompt (Koley et al., 2024).
      text_weight: of those words, in the descriptor or in the prompt; at 1 they replace
        what was there.
      cutoffs: the k of mAP@k and P@k.
      unseen: of a folder, the classes that count, with commas; "" for all of them, less
        those seen in training.
      prepare: each sketch is first made dark, centred and large, as people's are
        (`sketch_preparation`, ours). Published figures are without.
      rerank: how many of each query's first photos `reranker` puts in a new order
        (ours, docs/token_matching.md); 0 for none.
      reranker: a run of the task reranking, or tokens.
      rerank_weight: of its scores in that order; the rest is the descriptors'.
      imaginer: a run of the task synthesis: photos that it makes of each sketch stand
        beside it (ours, docs/synthesis.md); "" for none.
      imagined_weight: of their mean descriptor in the query.
    """

    name: str = ""
    root: str = ""
    split: str = ""
    photos: str = ""
    generalised: str = ""
    words: str = ""
    words_as: str = "picture"
    text_weight: float = WEIGHT
    cutoffs: tuple[int, ...] = (100, 200)
    unseen: str = ""
    prepare: bool = False
    rerank: int = 0
    reranker: str = ""
    rerank_weight: float = RERANK_WEIGHT
    imaginer: str = ""
    imagined_weight: float = WEIGHT

    def __post_init__(self):
        if self.words not in ("", "class", "caption"):
            raise ValueError(f"score.words is {self.words!r}; give class or caption")
        if self.words_as not in ("picture", "prompt"):
            raise ValueError(
                f"score.words_as is {self.words_as!r}; give picture or prompt"
            )
        if self.generalised not in GENERALISED:
            rules = "; ".join(f"{key!r} ({rule})" for key, rule in GENERALISED.items())
            raise ValueError(
                f"score.generalised is {self.generalised!r}; give one of {rules}"
            )
        for name in ("text_weight", "imagined_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"score.{name} is {getattr(self, name)}; give 0 to 1")
        if any(k < 1 for k in self.cutoffs):
            raise ValueError(
                f"score.cutoffs are {self.cutoffs}; give whole numbers from 1"
            )
        if self.rerank < 0 or not 0 <= self.rerank_weight <= 1:
            raise ValueError(
                f"score.rerank is {self.rerank} and score.rerank_weight "
                f"{self.rerank_weight:g}; give 0 or more photos, and a weight from 0 "
                "to 1"
            )
        if bool(self.rerank) != bool(self.reranker):
            raise ValueError(
                f"score.rerank is {self.rerank} and score.reranker {self.reranker!r}; "
                "give both: how many photos, and the run that re-ranks them"
            )
        for key in ("root", "split", "photos", "unseen"):
            if getattr(self, key) and not self.name:
                raise ValueError(
                    f"score.{key} is {getattr(self, key)!r} and score.name is empty; "
                    f"give the data set it is of, or set data.{key}"
                )

    @property
    def folder(self) -> str:
        """Below the run folder; the run's own protocol is scored in it itself."""
        parts = [self.name, self.split, self.photos, self.generalised]
        if self.words:
            parts += [self.words, self.words_as, f"{self.text_weight:g}"]
        if self.prepare:
            parts += ["prepared"]
        if self.rerank:
            parts += [f"reranked{self.rerank}", f"{self.rerank_weight:g}"]
        if self.imaginer:
            parts += ["imagined", f"{self.imagined_weight:g}"]
        aside = "-".join(filter(None, parts))
        return f"scores/{aside}" if aside else "."


@dataclasses.dataclass(frozen=True)
class TripletConfig(TrainConfig):
    """How the prompts are trained. The paper publishes none of these; all are ours.

    Attributes:
      margin: of the triplet loss, in cosine distance.
      parts: of the prompts; one that is not among them stays as it starts. A frame is
        "visual" also where it is added to latents.
    """

    margin: float = 0.3
    parts: tuple[str, ...] = ("visual", "text")

    def __post_init__(self):
        super().__post_init__()
        if not self.margin >= 0:
            raise ValueError(f"train.margin is {self.margin}; give 0 or more")
        if not self.parts or set(self.parts) - {"visual", "text"}:
            raise ValueError(f"train.parts is {self.parts}; give visual, text or both")

    def trained(self, prompts: Prompts) -> tuple[str, ...]:
        """The fields of the prompts that are trained."""
        frame = "visual" if prompts.latent is None else "latent"
        names = {"visual": frame, "text": "text"}
        return tuple(names[part] for part in self.parts)

    def reads_latents(self, prompts: Prompts) -> bool:
        """Whether nothing of the prompts that is before the autoencoder is trained."""
        return "visual" not in self.trained(prompts)


@dataclasses.dataclass(frozen=True)
class Setup(Experiment):
    """A retrieval run, by category or fine-grained.

    Attributes:
      embed_batch_size: images at a time at inference; 0 for what fits the memory.
      triplets_at_once: that go through the networks together in training; 0 for what
        fits the memory. Fewer take less memory and learn the same.
      val_classes: seen classes held out of training; the prompts that score best on
        them are kept. 0 for none: the last prompts are.
      score: what the run is scored on.
    """

    MOVING: ClassVar[tuple[str, ...]] = (
        *Experiment.MOVING,
        "score",
        "embed_batch_size",
        "triplets_at_once",
    )
    task: Task
    train: TripletConfig = dataclasses.field(default_factory=TripletConfig)
    recipe: Recipe = dataclasses.field(default_factory=lambda: Recipe(TAPS["category"]))
    prompt: PromptConfig = dataclasses.field(default_factory=PromptConfig)
    embed_batch_size: int = 0
    triplets_at_once: int = 0
    val_classes: int = 4
    score: Scoring = dataclasses.field(default_factory=Scoring)

    def __post_init__(self):
        super().__post_init__()
        for name in ("embed_batch_size", "triplets_at_once", "val_classes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        score = self.score
        if self.random_weights and score.words and score.words_as == "picture":
            raise ValueError(
                "score.words_as is picture, and random weights cannot draw any; give "
                "score.words_as=prompt"
            )
        if self.task == "category" and self.val_classes == 1:
            raise ValueError(
                "val_classes is 1: among photos of one class every ranking is right, "
                "so the first prompts would be kept; give 2 or more, or 0 to keep the "
                "last ones"
            )

    @classmethod
    def completed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """No taps stand for those of the task."""
        recipe = values["recipe"]
        if not recipe["taps"]:
            values = {**values, "recipe": {**recipe, "taps": TAPS[values["task"]]}}
        return values

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        values = super().defaults()
        values["recipe"]["taps"] = ()
        return values

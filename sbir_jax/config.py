"""What a run is made of: the config files' keys, and the objects they become."""

import dataclasses
import json
from typing import Any, get_args

import ml_collections

from sbir_jax.adapters.prompts import PromptConfig
from sbir_jax.features import TAPS, Recipe, Task
from sbir_jax.text_queries import SHARE
from sbir_jax.train_config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Scoring:
    """What a run is scored on. All of it may change when a finished run is run again.

    Attributes:
      name, root, split: another data set (`data.load`); "" for the one trained on. Its
        unseen classes count, less those seen in training.
      photos: which ones of Sketchy, where that is the other data set; "" for those of
        its own config, which are the drawn ones by instance.
      generalised: "" for zero-shot, or a rule of `evaluate.GENERALISED`.
      words: beside each sketch: "" none, its "class", or the "caption" of its photo.
      words_as: "picture", a descriptor of their own, mixed with the sketch's (ours,
        `words`); or "prompt", in the place of the text prompt (Koley et al., 2024).
      text_share: of those words, in the descriptor or in the prompt; at 1 they replace
        what was there.
      cutoffs: the k of mAP@k and P@k.
    """

    name: str = ""
    root: str = ""
    split: str = ""
    photos: str = ""
    generalised: str = ""
    words: str = ""
    words_as: str = "picture"
    text_share: float = SHARE
    cutoffs: tuple[int, ...] = (100, 200)

    def __post_init__(self):
        if self.words not in ("", "class", "caption"):
            raise ValueError(f"score.words is {self.words!r}; give class or caption")
        if self.words_as not in ("picture", "prompt"):
            raise ValueError(
                f"score.words_as is {self.words_as!r}; give picture or prompt"
            )
        for key in ("root", "split", "photos"):
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
            parts += [self.words, self.words_as, f"{self.text_share:g}"]
        aside = "-".join(filter(None, parts))
        return f"scores/{aside}" if aside else "."


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run. The defaults are those of `base()`, on which config files build.

    Attributes:
      task: "category" or "fine_grained".
      data: arguments of `data.load`.
      backbone: "toybox", a folder in the diffusers layout, or a hub id.
      encoder: a distilled one in the place of the backbone's own: "tiny" for "toybox",
        or a folder or hub id of an AutoencoderTiny (madebyollin/taesd for SD 1.x, 2.x).
      random_weights: the baseline: a net of the same shape that has learnt nothing.
      image_size: pixels; 0 for the backbone's native size.
      dtype: what the frozen networks compute in, "float32" or "bfloat16"; "" for what
        the run folder was begun with, and in a new one bfloat16, on CPU float32.
      embed_batch_size: images at a time at inference; 0 for what fits the memory.
      triplets_at_once: that go through the networks together in training; 0 for what
        fits the memory. Fewer take less memory and learn the same.
      model_shards: devices that share one copy of the frozen weights, for a backbone
        that does not fit one device.
      val_classes: seen classes held out of training; the prompts that score best on
        them are kept. 0 for none: the last prompts are.
      score: what the run is scored on.
    """

    task: Task
    data: dict[str, Any]
    recipe: Recipe
    prompt: PromptConfig
    train: TrainConfig
    backbone: str = "toybox"
    encoder: str = ""
    random_weights: bool = False
    image_size: int = 0
    dtype: str = ""
    embed_batch_size: int = 0
    triplets_at_once: int = 0
    model_shards: int = 1
    val_classes: int = 4
    score: Scoring = dataclasses.field(default_factory=Scoring)

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "Experiment":
        """Raises ValueError or TypeError naming the key that cannot be."""
        values = config.to_dict()
        task = values["task"]
        if task not in get_args(Task):
            raise ValueError(f"task is {task!r}; give {' or '.join(TAPS)}")
        taps = tuple(values["recipe"].pop("taps")) or TAPS[task]
        values["recipe"] = Recipe(taps, **values["recipe"])
        values["prompt"] = PromptConfig(**values["prompt"])
        values["train"] = TrainConfig(**values["train"])
        cutoffs = tuple(values["score"].pop("cutoffs"))
        score = values["score"] = Scoring(**values["score"], cutoffs=cutoffs)
        if values["random_weights"] and score.words and score.words_as == "picture":
            raise ValueError(
                "score.words_as is picture, and random weights cannot draw any; give "
                "score.words_as=prompt"
            )
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def base(task: str) -> ml_collections.ConfigDict:
    """The config that files under `configs/` start from.

    Every field of `Experiment`, `Recipe`, `PromptConfig` and `TrainConfig` can be set
    from the command line: `--config.train.steps=50`.
    """

    def defaults(kind) -> dict[str, Any]:
        return {
            field.name: field.default
            for field in dataclasses.fields(kind)
            if field.default is not dataclasses.MISSING
        }

    # No taps stands for those of the task.
    recipe = {"taps": (), **defaults(Recipe)}
    return ml_collections.ConfigDict(
        {
            "task": task,
            "data": {},
            "recipe": recipe,
            "prompt": defaults(PromptConfig),
            "train": defaults(TrainConfig),
            "score": defaults(Scoring),
            **defaults(Experiment),
        }
    )


def parse_arg(arg: str | None, **defaults):
    """ "split=21,task=fine_grained" over typed defaults.

    Raises: ValueError for a key that is not among the defaults.
    """
    values = dict(defaults)
    for part in filter(None, (arg or "").split(",")):
        key, equals, value = part.partition("=")
        if key not in defaults or not equals:
            allowed = ", ".join(f"{k}={v}" for k, v in defaults.items())
            raise ValueError(
                f"{part!r} after the colon of --config; known, with their defaults: "
                f"{allowed}"
            )
        values[key] = type(defaults[key])(value)
    return values

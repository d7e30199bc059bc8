"""What a run is made of: the config files' keys, and the objects they become."""

import dataclasses
import difflib
import itertools
import json
import math
import runpy
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import ml_collections
import optax

from sbir_jax import tasks


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How what a task trains is trained; a task may add fields of its own.

    Attributes:
      steps: optimiser steps.
      batch_size: rows of a batch, over all hosts.
      learning_rate: AdamW's peak, after `warmup` of the steps; then a cosine to zero.
      log_every, save_every, score_every: in steps. Scoring is on what the task holds
        out, and what scores best there is kept.
    """

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 1e-2
    warmup: float = 0.05
    weight_decay: float = 0.0
    log_every: int = 10
    save_every: int = 50
    score_every: int = 50
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "log_every", "save_every", "score_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"train.{name} is {getattr(self, name)}; give 1 or more"
                )
        rate, decay = self.learning_rate, self.weight_decay
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(
                f"train.learning_rate is {rate}; give a number above 0, such as 0.01"
            )
        if not 0 <= self.warmup <= 1:
            raise ValueError(
                f"train.warmup is {self.warmup}; give a share of the steps, 0 to 1"
            )
        if not (math.isfinite(decay) and decay >= 0):
            raise ValueError(f"train.weight_decay is {decay}; give 0 or more")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"train.seed is {self.seed}; give 0 to 2147483647")

    def optimiser(self) -> optax.GradientTransformation:
        return optax.adamw(self.schedule(), weight_decay=self.weight_decay)

    def schedule(self) -> optax.Schedule:
        warmup = max(1, round(self.warmup * self.steps))
        return optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warmup, max(self.steps, warmup + 1)
        )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run. A task adds fields of its own; the defaults are those of `base`.

    Attributes:
      task: a key of `tasks.TASKS`.
      data: arguments of `data.load`.
      backbone: "toybox", a folder in the diffusers layout, or a hub id.
      encoder: a distilled one in the place of the backbone's own: "tiny" for "toybox",
        or a folder or hub id of an AutoencoderTiny (madebyollin/taesd for SD 1.x, 2.x).
      random_weights: the baseline: a net of the same shape that has learnt nothing.
      image_size: pixels; 0 for the backbone's native size.
      dtype: what the frozen networks compute in, "float32" or "bfloat16"; "" for what
        the run folder was begun with, and in a new one bfloat16, on CPU float32.
      model_shards: devices that share one copy of the frozen weights, for a backbone
        that does not fit one device.
    """

    # What may differ when a run is gone on with; all else belongs to the run folder.
    MOVING: ClassVar[tuple[str, ...]] = ("data", "backbone", "encoder", "model_shards")
    task: str
    data: dict[str, Any]
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    backbone: str = "toybox"
    encoder: str = ""
    random_weights: bool = False
    image_size: int = 0
    dtype: str = ""
    model_shards: int = 1

    def __post_init__(self):
        if self.image_size < 0:
            raise ValueError(
                f"image_size is {self.image_size}; give pixels, or 0 for the "
                "backbone's own"
            )
        if self.model_shards < 1:
            raise ValueError(f"model_shards is {self.model_shards}; give 1 or more")

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> Any:
        """The config of the task that it names.

        Raises: ValueError or TypeError naming the key that cannot be.
        """
        values = config.to_dict()
        kind = tasks.find(values["task"]).Setup
        return build(kind, kind.completed(values))

    @classmethod
    def completed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Config values with what depends on others filled in."""
        return values

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Every key and its default, but for `task` and `data`."""
        return defaults(cls)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def base(task: str) -> ml_collections.ConfigDict:
    """The config that files under `configs/` start from.

    Every field of the task's `Setup` can be set from the command line:
    `--config.train.steps=50`.

    Raises: ValueError for a task that is not known.
    """
    values = {"task": task, "data": {}, **tasks.find(task).Setup.defaults()}
    return ml_collections.ConfigDict(values)


def dataset(name: str, **options: Any) -> dict[str, Any]:
    """The `data` of a config: all that `data.load` takes of any data set, so that each
    can be set from the command line; an empty text stands for nothing.

    Args:
      options: what this data set takes beside, or other defaults.
    """
    common = {"root": "", "unseen": "", "share": 1.0, "seed": 0, "cache_dir": ""}
    return {"name": name, **common, **options}


def defaults(kind: type) -> dict[str, Any]:
    """The fields of a dataclass that have defaults, and those of the ones within it."""
    found = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            found[field.name] = dataclasses.asdict(field.default_factory())  # pyright: ignore
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def build(kind: type, values: Mapping[str, Any], above: str = "") -> Any:
    """A dataclass from config values, and the ones within it.

    Args:
      above: the path of `values` in the config, with a dot at its end.
    Raises: ValueError for a key that is no field, with the nearest one.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    made = {}
    for key, value in values.items():
        if key not in fields:
            raise ValueError(unknown(above + key, [above + name for name in fields]))
        wanted = fields[key].type
        if dataclasses.is_dataclass(wanted):
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"{above}{key} is {value!r}; set what is below it: "
                    f"{', '.join(f.name for f in dataclasses.fields(wanted))}"
                )
            made[key] = build(wanted, value, f"{above}{key}.")  # pyright: ignore
        elif typing.get_origin(wanted) is tuple:
            made[key] = tuple(value)
        else:
            made[key] = value
    return kind(**made)


def unknown(key: str, known: Iterable[str]) -> str:
    """What to say of a key that is not there."""
    known = list(known)
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{key} is no setting; {hint}There are {', '.join(known)}"


def unknown_override(arguments: Sequence[str]) -> str | None:
    """What is wrong with the first `--config.KEY=VALUE` of a command that the file of
    its `--config=FILE`, or `--config FILE`, has no key for.

    Returns: None where there is no such file, or each has one.
    """
    files = [a.partition("=")[2] for a in arguments if a.startswith("--config=")]
    files += [b for a, b in itertools.pairwise(arguments) if a == "--config"]
    if not files:
        return None
    path, _, argument = files[-1].partition(":")
    config = runpy.run_path(path)["get_config"](argument or None)
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        key = argument.removeprefix("--config.").partition("=")[0]
        at, above = config, ""
        for part in key.split("."):
            if not isinstance(at, ml_collections.ConfigDict) or part not in at:
                inside = at if isinstance(at, ml_collections.ConfigDict) else {}
                return unknown(key, [above + name for name in inside])
            at, above = at[part], f"{above}{part}."
    return None


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

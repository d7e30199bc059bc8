"""A toy task: telling Toybox's seen categories apart, by a linear head on a tiny net.

The net is a fixed random convolution, so no backbone is loaded. It is here to show what
a task needs: this file, and a line in the registry.
"""

import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax.config import Experiment
from sbir_jax.report.sections import Grid, Table, Words
from sbir_jax.tasks.base import Evaluation, Result, Task
from sbir_jax.types import Metric

ERROR = Metric("error", "share of photos given another category", better="lower")


@flax.struct.dataclass
class Head:
    weight: Any
    bias: Any


@dataclasses.dataclass(frozen=True)
class ToySetup(Experiment):
    """`channels`: of the tiny net."""

    channels: int = 8


class TellApart(Task):
    Setup: ClassVar[type[Experiment]] = ToySetup
    words = Words({"learned": "Learned heads", "chance": "Guessing"}, "name photos")
    validates, held_out, metric = True, "every fourth photo", ERROR

    def __init__(self, given):
        self.setup, self.given, self.config = given.setup, given, given.setup.train
        data = given.dataset
        seen = [data.classes.index(name) for name in data.seen]
        rows = np.flatnonzero(np.isin(data.photos.labels, seen))
        self.images = data.photos.images(rows, 16)
        self.labels = np.searchsorted(seen, data.photos.labels[rows])
        self.classes = data.seen
        self.held = np.arange(len(rows)) % 4 == 3
        shape = 3, 3, 3, self.setup.channels
        self.filters = np.asarray(jax.random.normal(jax.random.key(0), shape))

    @classmethod
    def load_backbone(cls, setup, mesh, dtype, taps=()):
        return None

    def identity(self):
        return {"data": self.given.dataset.fingerprint}

    def init(self, key):
        shape = 16 * self.setup.channels, len(self.classes)
        return Head(0.01 * jax.random.normal(key, shape), jnp.zeros(shape[1]))

    def frozen(self, mesh):
        return {"filters": jnp.asarray(self.filters)}

    def logits(self, head, frozen, images):
        form = ("NHWC", "HWIO", "NHWC")
        filters = frozen["filters"]
        maps = jax.lax.conv_general_dilated(
            images, filters, (4, 4), "SAME", dimension_numbers=form
        )
        features = jnp.tanh(maps).reshape(len(images), -1)
        return features @ head.weight + head.bias[None]

    def batches(self, step):
        known = np.flatnonzero(~self.held)
        for now in range(step, self.config.steps):
            rng = np.random.default_rng((self.config.seed, now))
            rows = rng.choice(known, self.config.batch_size)
            yield {"image": self.images[rows], "label": self.labels[rows]}

    def loss(self, trained, frozen, batch, key):
        logits = jax.nn.log_softmax(self.logits(trained, frozen, batch["image"]))
        picked = jnp.take_along_axis(logits, batch["label"][:, None], axis=1)
        right = logits.argmax(axis=1) == batch["label"]
        return -picked.mean(), {"right": right.mean()}

    def error(self, head):
        frozen = {"filters": self.filters}
        found = self.logits(head, frozen, jnp.asarray(self.images[self.held]))
        return np.asarray(found).argmax(axis=1), self.labels[self.held]

    def validate(self, trained):
        found, wanted = self.error(jax.device_get(trained))
        return {"error": float((found != wanted).mean())}

    def evaluate(self, trained):
        found, wanted = self.error(trained)
        chance = 1 - 1 / len(self.classes)
        results = [
            Result("learned", {"error": float((found != wanted).mean())}),
            Result("chance", {"error": chance}),
        ]
        facts = {"benchmark": "toybox"}
        return Evaluation(results, [ERROR], "error", facts=facts, kept=(found, wanted))

    def sections(self, found):
        guesses, wanted = found.kept
        wrong = {
            name: int((guesses[wanted == i] != i).sum())
            for i, name in enumerate(self.classes)
        }
        pictures = np.rint(127.5 * (self.images[self.held][:4] + 1)).astype(np.uint8)
        names = [self.classes[i] for i in guesses[:4]]
        return (
            Table("Mix-ups", ["category", "photos named wrongly"], list(wrong.items())),
            Grid("What is what", list(pictures), names),
        )

    def texts(self, report):
        return {"said.md": f"told apart: {', '.join(self.classes)}\n"}

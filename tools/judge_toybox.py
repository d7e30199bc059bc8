"""How often pictures of a Toybox model show the thing and the colour asked for.

    python -m tools.judge_toybox --workdir runs/judge --train     # the judge itself
    python -m tools.judge_toybox --workdir runs/judge --model toybox

The judge is a small classifier (`models.judge`), trained on renders of things that no
model was trained on: as rendered, and as the model's autoencoder gives them back, which
is how generated pictures look. Its own accuracy, on further things, stands beside every
figure. Each of 40 categories is asked for in each of 12 colours, four pictures each.
Writes judge.json and judge.jpg, a sheet of the first picture of some prompts.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
from jaxtyping import Int, UInt8
from tqdm.auto import tqdm

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import TOYBOX
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.sampling import generate
from sbir_jax.config import TrainConfig
from sbir_jax.data.images import to_uint8
from sbir_jax.data.toybox import looks, world
from sbir_jax.models import judge as judges
from sbir_jax.models.judge import JudgeConfig
from sbir_jax.runtime import hardware
from sbir_jax.tasks.base import Evaluation, Task
from sbir_jax.train import train
from sbir_jax.types import Metric

matplotlib.use("Agg")
JUDGE = TOYBOX.with_name("toybox_judge")
CONFIG = JudgeConfig(world.CATEGORIES, tuple(looks.COLOURS))
SEED, SIZE = 1, 64  # of a world that nothing else was trained on
CHUNKS, HELD_OUT = 60, 6  # the last ones are held out
ERROR = Metric(
    "error", "share of held-out photos whose thing is named wrongly", "lower"
)
PICTURES = 4  # of each prompt


class Photos(NamedTuple):
    """Renders with what they show."""

    images: UInt8[np.ndarray, "n h w 3"]
    things: Int[np.ndarray, " n"]
    colours: Int[np.ndarray, " n"]


def photos(number: int, there_and_back: Callable) -> Photos:
    """Chunk `number`: photos, and then the same through the model's autoencoder."""
    drawn = world.pretraining_chunk(SEED, number, SIZE, world.CATEGORIES)
    names = [CONFIG.categories[i] for i in drawn.categories]
    first = world.PRETRAINING_START + number * world.CHUNK
    things = [world.instance(name, first + i, SEED) for i, name in enumerate(names)]
    colours = [
        CONFIG.colours.index(replace(thing, look=k).attributes.colour)
        for thing in things
        for k in range(world.LOOKS)
    ]
    kinds = drawn.categories.repeat(world.LOOKS)
    again = there_and_back(drawn.photos)
    images = np.concatenate([drawn.photos, again])
    return Photos(images, np.tile(kinds, 2), np.tile(np.array(colours), 2))


def autoencoder(loaded: LoadedBackbone) -> Callable[[np.ndarray], np.ndarray]:
    """From pictures to what the model would give back, uint8 [n, h, w, 3]."""

    def there_and_back(frozen, images):
        latents = loaded.backbone.encode_image(frozen, images / 127.5 - 1.0)
        return loaded.backbone.decode(frozen, latents)

    run = hardware.jit(there_and_back)

    def through(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, len(images) // 64)
        found = [run(loaded.frozen, jnp.asarray(some, jnp.float32)) for some in parts]
        return to_uint8(np.concatenate(found))

    return through


class Judging(Task):
    """Trains the judge; its error is on the chunks held out."""

    saved_as, metric, validates = "judge", ERROR, True

    def __init__(self, known: Photos, held_out: Photos, steps: int):
        self.known, self.unknown = known, held_out
        every = max(1, steps // 10)
        self.config = TrainConfig(
            steps=steps, batch_size=64, learning_rate=2e-3, weight_decay=1e-2,
            save_every=every, score_every=every,
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        return {}

    def init(self, key):
        return judges.init_judge(CONFIG, key)

    def batches(self, step):
        for now in range(step, self.config.steps):
            rng = np.random.default_rng((3, now))
            rows = rng.integers(len(self.known.images), size=self.config.batch_size)
            images = _shifted(self.known.images[rows], rng)
            yield {
                "images": images, "things": self.known.things[rows],
                "colours": self.known.colours[rows],
            }  # fmt: skip

    def loss(self, trained, frozen, batch, key):
        images = batch["images"] / 127.5 - 1.0
        found: Any = judges.Judge(CONFIG).apply({"params": trained}, images)
        wanted = batch["things"], batch["colours"]
        errors = [
            optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
            for x, y in zip(found, wanted, strict=True)
        ]
        return sum(errors), {"thing": errors[0], "colour": errors[1]}

    def validate(self, trained):
        return {"error": 1 - accuracy(trained, self.unknown)["things"]}

    def evaluate(self, trained) -> Evaluation:
        raise NotImplementedError("the judge's accuracy stands in judge.json")


def _shifted(images: np.ndarray, rng: np.random.Generator, by: int = 4) -> np.ndarray:
    """Moved by a few pixels, at edges repeated."""
    padded = np.pad(images, ((0, 0), (by, by), (by, by), (0, 0)), "edge")
    size = images.shape[1]
    y, x = rng.integers(2 * by + 1, size=(2, len(images)))
    return np.stack(
        [padded[i, y[i] : y[i] + size, x[i] : x[i] + size] for i in range(len(images))]
    )


def accuracy(params: dict, given: Photos) -> dict[str, float]:
    """Shares of photos whose thing and whose colour the judge names rightly."""
    found = judges.judge(CONFIG, params, given.images)
    right_thing = np.array(found.things) == np.array(CONFIG.categories)[given.things]
    right_colour = np.array(found.colours) == np.array(CONFIG.colours)[given.colours]
    return {
        "things": float(right_thing.mean()), "colours": float(right_colour.mean()),
    }  # fmt: skip


def make_judge(workdir: pathlib.Path, chunks: int, steps: int, out: pathlib.Path):
    """Renders, trains and writes the judge with its accuracy."""
    through, folder = autoencoder(load_backbone("toybox")), workdir / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in tqdm(range(chunks), "render", unit="chunk"):
        path = folder / f"{number:04d}.npz"
        if not path.exists():
            partial = path.with_suffix(".part.npz")
            np.savez(partial, **photos(number, through)._asdict())
            partial.rename(path)
        with np.load(path) as data:
            found.append(Photos(**data))
    held = max(1, chunks * HELD_OUT // CHUNKS)
    known, held_out = (
        Photos(*map(np.concatenate, zip(*part, strict=True)))
        for part in (found[:-held], found[-held:])
    )
    params, _ = train(Judging(known, held_out, steps), workdir / "training")
    judges.save_judge(out, CONFIG, params)
    half = len(found[-1].images) // 2
    decoded = [Photos(*(column[half:] for column in part)) for part in found[-held:]]
    own = {
        "renders": len(held_out.images), **accuracy(params, held_out),
        "decoded": accuracy(
            params, Photos(*map(np.concatenate, zip(*decoded, strict=True)))
        ),
    }  # fmt: skip
    (out / "accuracy.json").write_text(json.dumps(own))
    return own


def prompts() -> list[tuple[str, str, str]]:
    """Text, category and colour of each."""
    return [
        (f"a photo of {looks.with_article(colour)} {thing}", thing, colour)
        for thing in world.PRETRAINED
        for colour in CONFIG.colours
    ]


def draw(
    model: str, seed: int, workdir: pathlib.Path, steps: int, guidance: float
) -> UInt8[np.ndarray, "n h w 3"]:
    """A picture of each prompt, kept in the work folder."""
    path = workdir / f"pictures_{seed}.npy"
    if not path.exists():
        loaded, texts = load_backbone(model), [text for text, *_ in prompts()]
        each = len(CONFIG.colours)
        pictures = [
            generate(loaded, texts[i : i + each], 1000 * seed + i, guidance, steps)
            for i in tqdm(range(0, len(texts), each), f"pictures {seed}", unit="thing")
        ]
        partial = path.with_suffix(".part.npy")
        np.save(partial, np.concatenate(pictures))
        partial.rename(path)
    return np.load(path)


def judged(params: dict, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """Shares of pictures that show the thing, the colour, and both; by category and by
    colour too."""
    right = []
    for some in pictures:
        found = judges.judge(CONFIG, params, some)
        for (_, thing, colour), saw, hue in zip(
            prompts(), found.things, found.colours, strict=True
        ):
            right.append((thing, colour, saw == thing, hue == colour))
    things = np.array([row[2] for row in right])
    hues = np.array([row[3] for row in right])

    def by(column, values):
        names = np.array([row[column] for row in right])
        return {str(x): float(values[names == x].mean()) for x in np.unique(names)}

    return {
        "pictures": len(right), "things": float(things.mean()),
        "colours": float(hues.mean()), "both": float((things & hues).mean()),
        "things_by_category": by(0, things), "colours_by_colour": by(1, hues),
    }  # fmt: skip


def sheet(pictures: np.ndarray, params: dict, path: pathlib.Path) -> None:
    """Each category in a colour of its own, with what the judge sees in it."""
    each, columns = len(CONFIG.colours), 10
    rows = [each * i + i % each for i in range(len(world.PRETRAINED))]
    saw = judges.judge(CONFIG, params, pictures[rows])
    figure, axes = plt.subplots(-(-len(rows) // columns), columns, figsize=(15, 7))
    for axis in axes.flat:
        axis.axis("off")
    for axis, row, thing, colour in zip(
        axes.flat, rows, saw.things, saw.colours, strict=False
    ):
        _, wanted, hue = prompts()[row]
        good = (thing, colour) == (wanted, hue)
        axis.imshow(pictures[row], interpolation="lanczos")
        title = f"{hue} {wanted}" if good else f"{hue} {wanted}\nseen: {colour} {thing}"
        axis.set_title(title, fontsize=7, color="black" if good else "firebrick")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/judge")
    parser.add_argument("--model", default="toybox", help="whose pictures are judged")
    parser.add_argument("--train", action="store_true", help="make the judge again")
    parser.add_argument("--judge", type=pathlib.Path, default=JUDGE)
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--quick", action="store_true", help="a few of all, to try it")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    hardware.keep_programs()
    if args.train:
        chunks, steps = (2, 4) if args.quick else (CHUNKS, 3000)
        own = make_judge(args.workdir, chunks, steps, args.judge)
        print(f"wrote {args.judge}; on {own['renders']} renders: {own}")
        return
    config, params = judges.load_judge(args.judge)
    if config != CONFIG:
        parser.error(f"{args.judge} judges another world; make it with --train")
    seeds = range(1 if args.quick else PICTURES)
    pictures = [
        draw(args.model, seed, args.workdir, args.steps, args.guidance)
        for seed in seeds
    ]
    found = judged(params, pictures)
    found["judge"] = json.loads((args.judge / "accuracy.json").read_text())
    (args.workdir / "judge.json").write_text(json.dumps(found, indent=2))
    sheet(pictures[0], params, args.workdir / "judge.jpg")
    print(
        f"{found['pictures']} pictures of {args.model}: the thing in "
        f"{found['things']:.1%}, the colour in {found['colours']:.1%}, both in "
        f"{found['both']:.1%}; the judge names {found['judge']['things']:.1%} of the "
        f"things and {found['judge']['colours']:.1%} of the colours of "
        f"{found['judge']['renders']} new renders. judge.json and judge.jpg are in "
        f"{args.workdir}"
    )


if __name__ == "__main__":
    main()

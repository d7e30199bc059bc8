"""`sbir imagine`: photos of a drawing, edited ones, the way between two drawings."""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sbir_jax.data import images, sketch_preparation
from sbir_jax.tasks.synthesis.drawing import Sampling
from sbir_jax.tasks.synthesis.imaginer import Imaginer

FRAME_MS = 120  # of an animated picture


def run(args: argparse.Namespace) -> list[pathlib.Path]:
    """Draws, and writes PNG files that hold their settings.

    Returns: the files.
    Raises: BadImage and NoInk for drawings; ValueError as `Imaginer` and `Sampling`.
    """
    paths = [path for path in (args.sketch, args.edit, args.between) if path]
    guidance = vars(args).get("guidance", Sampling.guidance)
    given = args.sampler, args.steps, guidance, args.hold
    sampling = Sampling(*given, args.lgp, args.classifier, args.distance)
    # What cannot be read is told before a model loads.
    ready = [_checked(path) if args.as_drawn else _prepared(path) for path in paths]
    imaginer = Imaginer.from_run(args.run, sampling)
    drawn = [images.decode(source, imaginer.size, "pad") for source in ready]
    texts = [args.text] * args.n if args.text else None
    settings = {key: value for key, value in vars(args).items() if value is not None}
    settings |= {"sampling": vars(sampling)}
    name = pathlib.Path(args.sketch).stem
    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    if args.between:
        first, last = drawn
        strip = imaginer.between(first, last, args.n, args.text, args.seed)
        return _save_strip(strip, folder, name, settings)
    made = imaginer.imagine(np.stack([drawn[0]] * args.n), texts, args.seed)
    files = _save(made, folder, name, settings)
    if args.edit:
        before, after = (np.stack([drawing] * args.n) for drawing in drawn)
        changed = imaginer.edit(made, before, after, texts, args.seed)
        files += _save(changed, folder, f"{name}-edited", settings)
    return files


def _checked(path: str) -> images.Source:
    images.decode(path, 64, "pad")
    return path


def _prepared(path: str) -> images.Source:
    return images.as_file(sketch_preparation.prepare(path))


def _save(pictures, folder, name, settings) -> list[pathlib.Path]:
    files = []
    for i, picture in enumerate(pictures):
        path = folder / f"{name}-{i + 1}.png"
        Image.fromarray(picture).save(path, pnginfo=_info(settings | {"number": i}))
        files.append(path)
    return files


def _save_strip(strip, folder, name, settings) -> list[pathlib.Path]:
    """All side by side, and one after the other, there and back."""
    wide = folder / f"{name}-between.png"
    joined = np.concatenate(list(strip), axis=1)
    Image.fromarray(joined).save(wide, pnginfo=_info(settings))
    moving = folder / f"{name}-between.gif"
    first, *rest = [Image.fromarray(picture) for picture in [*strip, *strip[-2:0:-1]]]
    first.save(moving, save_all=True, append_images=rest, duration=FRAME_MS, loop=0)
    return [wide, moving]


def _info(settings: dict) -> PngInfo:
    info = PngInfo()
    info.add_text("sbir_jax", json.dumps(settings, default=str))
    return info

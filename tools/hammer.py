"""What strangers hand in: hostile files, folders and requests; and kills.

python -m tools.hammer --seed 0 --images 120 --drawings 120 --models 150 --prompts 50
    --runs 50 --indexes 100 --requests 500 --kills 20

Every case must end well or in one line that names the input, within 20 seconds of the
processor and 1 GB above the idle process; what is killed must go on to what it gives
when it is left alone. Prints the counts and what broke; if anything did, the exit
status is 1.
"""

import argparse
import functools
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from unittest import mock

import numpy as np
from PIL import Image

from sbir_jax.backbones import sanity
from sbir_jax.data import images
from sbir_jax.data.sketch_preparation import prepare
from sbir_jax.runtime import hardware
from sbir_jax.search import shards
from sbir_jax.search.build import build, remove
from sbir_jax.search.index import Index
from tools.hammer_cases import (
    damage,
    damage_model,
    damage_prompts,
    damage_run,
    heavy_image,
    hostile_image,
    hostile_request,
)
from tools.hammer_common import ColourEmbedder, Watched, paint
from tools.hammer_drawings import hostile_drawing
from tools.hammer_kills import hammer_kills


def hammer_images(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    watched = Watched("image")
    for i in range(count):
        name, content = (heavy_image if i % 10 == 5 else hostile_image)(rng)
        path = folder / f"{i}-{name}"
        path.write_bytes(content)
        if i % 20 == 0:
            os.truncate(path, rng.choice((1 << 30, 40 << 30)))  # takes no room
        size = rng.choice((None, 64, 512))
        watched.run(path.name, lambda path=path, size=size: images.decode(path, size))
    good = Image.new("RGB", (32, 32), "red")
    good.save(folder / "good.png")
    out = folder / "index"
    build([folder], out, ColourEmbedder(), progress=False)
    found = shards.read(out).table["path"].to_pylist()
    ending = "fine" if str(folder / "good.png") in found else "the good one is lost"
    watched.count("a build over all of them", ending)
    return watched


def hammer_drawings(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Drawings as files, as the shell has them, and as bytes, as the page has."""
    watched = Watched("drawing")
    for i in range(count):
        name, content = hostile_drawing(rng)
        path = folder / f"{i}-{name}"
        path.write_bytes(content)
        source, called = rng.choice(((path, ""), (content, path.name)))
        watched.run(path.name, functools.partial(prepare, source, called))
    return watched


def hammer_indexes(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Either an index is refused, or it answers with numbers and right paths."""
    watched = Watched("index")
    photos, sound = folder / "photos", folder / "sound"
    paint(photos, 12)
    build([photos], sound, ColourEmbedder(), ["*.gif"], progress=False)
    remove([photos / "3.png"], sound)

    def use(place: pathlib.Path) -> None:
        with Index.open(place, ColourEmbedder()) as index:
            index.info()
            for hit in index.search(photos / "5.png", k=20):
                index.similar(hit.id)
                if not (np.isfinite(hit.score) and hit.path.startswith(str(photos))):
                    raise AssertionError(hit)
        build([photos], place, ColourEmbedder(), progress=False)

    for i in range(count):
        place = folder / f"index{i}"
        shutil.copytree(sound, place)
        how = damage(rng, place)
        name = f"{place.name}: {how}"
        watched.run(name, functools.partial(use, place), line=place.name)
        shutil.rmtree(place)
    return watched


def hammer_requests(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    from fastapi.testclient import TestClient

    from sbir_jax.search.server import make_app

    watched, photos = Watched("request"), folder / "photos"
    paint(photos, 12)
    build([photos], folder / "index", ColourEmbedder(), progress=False)
    with Index.open(folder / "index", ColourEmbedder()) as index:
        app = make_app(index)
        client = TestClient(app, "http://localhost", raise_server_exceptions=False)

        def ask(method: str, path: str, given: dict) -> None:
            answer = client.request(method, path, **given)
            if answer.status_code >= 500 or str(folder) in answer.text:
                raise RuntimeError(answer.text)
            if answer.status_code >= 400 and method != "HEAD":
                if set(answer.json()["error"]) != {"what", "rule", "remedy"}:
                    raise RuntimeError(answer.text)
                raise ValueError(path)

        for _ in range(count):
            asked = hostile_request(rng)
            watched.run(
                f"{asked[0]} {asked[1][:60]}", lambda a=asked: ask(*a), line="/"
            )
            if client.get("/api/info").status_code == 429:
                time.sleep(1.0)  # it is no test of the limit
    return watched


def hammer_models(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Copies of the Toybox model, each with one file spoilt."""
    from sbir_jax.backbones.diffusers_files import TOYBOX
    from sbir_jax.embedder import Embedder

    watched = Watched("model")
    # All are checked, whatever was found right on this computer before.
    with mock.patch.object(sanity, "_cache", lambda: folder / "checked"):
        # What a sound one compiles is no time of a spoilt one.
        Embedder.from_pretrained(str(TOYBOX))
        for i in range(count):
            place = folder / f"model{i}"
            shutil.copytree(TOYBOX, place)
            name = f"{place.name}: {damage_model(rng, place)}"
            made = functools.partial(Embedder.from_pretrained, str(place))
            watched.run(name, made, line=place.name)
            shutil.rmtree(place)
    return watched


def hammer_prompts(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Copies of a prompts file, each spoilt."""
    from sbir_jax.adapters.prompt_files import load_prompts, save_prompts
    from sbir_jax.embedder import Embedder

    watched, sound = Watched("prompts"), folder / "sound"
    save_prompts(Embedder.from_pretrained("toybox"), sound)
    for i in range(count):
        place = folder / f"prompts{i}"
        shutil.copytree(sound, place)
        name = f"{place.name}: {damage_prompts(rng, place / 'prompts.safetensors')}"
        watched.run(name, functools.partial(load_prompts, place), line=place.name)
        shutil.rmtree(place)
    return watched


def hammer_runs(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Copies of a run folder, each with one file spoilt."""
    from sbir_jax.embedder import Embedder

    watched, sound = Watched("run"), folder / "sound"
    write_run(sound)
    for i in range(count):
        place = folder / f"run{i}"
        shutil.copytree(sound, place)
        name = f"{place.name}: {damage_run(rng, place)}"
        watched.run(name, functools.partial(Embedder.from_run, place), line=place.name)
        shutil.rmtree(place)
    return watched


def write_run(folder: pathlib.Path) -> None:
    """A run of two checkpoints whose prompts change nothing."""
    import jax.numpy as jnp

    from sbir_jax.config import Experiment, base
    from sbir_jax.embedder import Embedder
    from sbir_jax.runtime import checkpoint

    embedder = Embedder.from_pretrained("toybox")
    setup = Experiment.from_config(base("category")).to_json()
    setup |= {"image_size": embedder.size, "dtype": embedder.dtype}
    checkpoint.write_json(folder / "config.json", setup)
    owner = {"backbone": embedder.backbone.fingerprint}
    checkpoint.write_json(folder / checkpoint.OWNER, owner)
    prompts = {"text": embedder.prompts.text, "visual": embedder.prompts.visual}
    with checkpoint.manager(folder) as manager:
        for step in (1, 2):
            kept = {"step": jnp.int32(step), "prompts": prompts}
            best = kept | {"score": jnp.float32(0)}
            checkpoint.save(manager, step, kept | {"best": best})


KINDS = {
    "images": hammer_images,
    "drawings": hammer_drawings,
    "models": hammer_models,
    "prompts": hammer_prompts,
    "runs": hammer_runs,
    "indexes": hammer_indexes,
    "requests": hammer_requests,
    "kills": hammer_kills,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    defaults = {"images": 120, "drawings": 120, "models": 150, "prompts": 50}
    defaults |= {"runs": 50, "indexes": 100, "requests": 500, "kills": 20}
    for name, count in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    args = parser.parse_args(argv)
    hardware.keep_programs()  # as the shell does
    broken = []
    for name, hammer in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(f"{args.seed} {name}")
            watched = hammer(rng, getattr(args, name), pathlib.Path(folder))
        endings = ", ".join(f"{n} {how}" for how, n in watched.counts.most_common())
        print(f"{name}: {endings}", flush=True)
        broken += watched.broken
    print("\n".join(broken) or "nothing broke")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

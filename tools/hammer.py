"""What strangers hand in: hostile images, index folders and requests, and kills.

python -m tools.hammer --seed 0 --images 120 --indexes 100 --requests 500 --kills 20

Every case must end well or in one line that names the input, within 20 seconds and 1 GB
above the idle process; a killed build must go on to the index that an undisturbed one
gives. Prints the counts and what broke; the exit status is 1 if anything did.
"""

import argparse
import collections
import contextlib
import functools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
from PIL import Image

from sbir_jax.data import images
from sbir_jax.search import shards, update
from sbir_jax.search.build import build, remove
from sbir_jax.search.export import export
from sbir_jax.search.index import Index
from tools.hammer_cases import damage, hostile_image, hostile_request

SECONDS, BYTES = 20.0, 1_000_000_000
Counts = collections.Counter[str]


class ColourEmbedder:
    """Mean colours of a grid: unit vectors, without a network."""

    fingerprint, dim, size, batch_size, source = "ca" * 32, 12, 16, 4, None

    def start(self, pixels: np.ndarray, modality: str) -> Callable[[], np.ndarray]:
        cells = pixels.reshape(len(pixels), 2, 8, 2, 8, 3).mean((2, 4))
        flat = cells.reshape(len(pixels), self.dim) + 0.01 * np.arange(self.dim)
        time.sleep(0.005)  # so that a kill may come in between
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        return lambda: unit.astype(np.float32)

    def embed(self, sources, modality: str, *, prepare=False) -> np.ndarray:
        loaded = [images.load(source, self.size, modality) for source in sources]
        return self.start(np.stack(loaded), modality)()

    def embed_words(self, texts) -> np.ndarray:
        return np.full((len(texts), self.dim), self.dim**-0.5, np.float32)


class Watched:
    """Counts how cases end, and tells what is too slow, too large or a traceback."""

    def __init__(self, what: str):
        self.what, self.counts, self.broken = what, Counts(), []

    def run(self, name: str, case: Callable[[], object], line: str = "") -> None:
        """Runs a case. Args: line: what an error must name; the case's name if ""."""
        begin = time.monotonic()
        with _memory() as peak:
            try:
                case()
                ending = "fine"
            except (ValueError, OSError) as error:
                text = str(error)
                named = (line or name) in text and "\n" not in text
                ending = "refused" if named else "refused without its name"
            except Exception as error:
                ending = f"traceback: {type(error).__name__}"
        if time.monotonic() - begin > SECONDS:
            ending = "too slow"
        elif peak[0] > BYTES:
            ending = "too much memory"
        self.count(name, ending)

    def count(self, name: str, ending: str) -> None:
        self.counts[ending] += 1
        if ending not in ("fine", "refused"):
            self.broken.append(f"{self.what} {name}: {ending}")


@contextlib.contextmanager
def _memory() -> Iterator[list[int]]:
    process, done, most = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def hammer_images(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    watched = Watched("image")
    for i in range(count):
        name, content = hostile_image(rng)
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


def hammer_indexes(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Either an index is refused, or it answers with numbers and right paths."""
    watched = Watched("index")
    photos, sound = folder / "photos", folder / "sound"
    _paint(photos, 12)
    build([photos], sound, ColourEmbedder(), progress=False)
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
    _paint(photos, 12)
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


def hammer_kills(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Builds, removals and exports that are killed, each as often."""
    watched, photos = Watched("kill"), folder / "photos"
    _paint(photos, 60)
    whole = _contents(_built(photos, folder / "whole"))
    for i in range(count):
        for verb in ("build", "remove", "export"):
            place, out = folder / f"{verb}{i}", folder / f"out{i}"
            if verb != "build":
                shutil.copytree(folder / "whole", place)
            command = [sys.executable, "-m", "tools.hammer", "--do", verb]
            command += [str(photos), str(place), str(out)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.4))
                process.kill()
            ending = "fine"
            try:
                if _contents(_built(photos, place)) != whole:
                    ending = "another index than without the kill"
                if out.exists() and export(place, folder / f"again{i}") != len(whole):
                    ending = "half an export"
            except (ValueError, OSError) as error:
                ending = f"broken: {error}"
            watched.count(f"{verb} {i}", ending)
            for left in (place, out, folder / f"again{i}"):
                shutil.rmtree(left, ignore_errors=True)
    return watched


def _paint(folder: pathlib.Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST)
        picture.save(folder / f"{i}.png")


def _built(photos: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    build([photos], out, ColourEmbedder(), progress=False)
    return out


def _contents(index: pathlib.Path) -> dict[str, tuple]:
    snapshot = shards.read(index)
    rows = snapshot.table.to_pylist()
    return {
        rows[i]["path"]: (rows[i]["hash"], snapshot.descriptor(i).tobytes())
        for i in np.flatnonzero(snapshot.alive)
    }


def _do(verb: str, photos: pathlib.Path, index: pathlib.Path, out: str) -> None:
    """What a process does that is to be killed."""
    update.FLUSH_SECONDS = 0.0
    print("ready", flush=True)
    if verb == "build":
        build([photos], index, ColourEmbedder(), progress=False)
    elif verb == "remove":
        for path in sorted(photos.iterdir()):
            remove([path], index)
    else:
        export(index, out)


KINDS = {
    "images": hammer_images,
    "indexes": hammer_indexes,
    "requests": hammer_requests,
    "kills": hammer_kills,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    defaults = {"images": 120, "indexes": 100, "requests": 500, "kills": 20}
    for name, count in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--do", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.do:
        verb, photos, index, out = args.do
        _do(verb, pathlib.Path(photos), pathlib.Path(index), out)
        return 0
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

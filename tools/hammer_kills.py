"""Kills: builds, additions, removals, exports, graphs and training, at any moment.

`tools.hammer` runs it; as a program it does what is to be killed.
"""

import functools
import importlib.util
import pathlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from sbir_jax.search import update
from sbir_jax.search.build import build, remove
from sbir_jax.search.export import export
from sbir_jax.search.index import Index
from tools.hammer_common import ColourEmbedder, Watched, built, contents, paint


def hammer_kills(rng: random.Random, count: int, folder: pathlib.Path) -> Watched:
    """Every verb is killed as often; then what it was at is done again, and compared
    with what it gives when it is left alone."""
    watched, photos = Watched("kill"), folder / "photos"
    paint(photos, 60)
    paint(folder / "some", 30)
    whole = contents(built(photos, folder / "whole"))
    built(folder / "some", folder / "half")
    trained = _trained(folder / "alone")
    for i in range(count):
        for verb in VERBS:
            place, out = folder / f"{verb}{i}", folder / f"out{i}"
            if verb in ("remove", "export", "faiss"):
                shutil.copytree(folder / "whole", place)
            elif verb == "add":
                shutil.copytree(folder / "half", place)
            _kill(verb, photos, place, out, rng.uniform(0, 0.4))
            ending = "fine"
            try:
                if verb == "train":
                    if _trained(place) != trained:
                        ending = "other weights than without the kill"
                elif contents(built(photos, place)) != whole and verb != "add":
                    ending = "another index than without the kill"
                elif verb == "add" and not whole.items() <= contents(place).items():
                    ending = "photos are lost"
                if out.exists() and export(place, folder / f"again{i}") != len(whole):
                    ending = "half an export"
                if verb == "faiss":
                    with Index.open(place, ColourEmbedder(), backend="faiss") as index:
                        found = index.search(photos / "5.png", k=1)[0].path
                    ending = "fine" if found.endswith("/5.png") else "a broken graph"
            except (ValueError, OSError, RuntimeError) as error:
                ending = f"broken: {error}"
            watched.count(f"{verb} {i}", ending)
            for left in (place, out, folder / f"again{i}"):
                shutil.rmtree(left, ignore_errors=True)
    return watched


# faiss is an extra.
VERBS = ("build", "add", "remove", "export", "train")
VERBS += ("faiss",) * (importlib.util.find_spec("faiss") is not None)


def _kill(
    verb: str, photos: pathlib.Path, place: pathlib.Path, out: pathlib.Path, wait: float
) -> None:
    """Starts a verb in a process of its own, and kills it so many seconds later."""
    command = [sys.executable, "-m", "tools.hammer_kills", verb]
    command += [str(photos), str(place), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.kill()


def _trained(folder: pathlib.Path, ready: Callable[[], None] = lambda: None) -> bytes:
    """What a net of two numbers has learned, in some seconds of many saves."""
    import jax.numpy as jnp

    from tools.fit import fit

    def batches(step: int) -> np.ndarray:
        if step % 40 == 1:
            ready()
        time.sleep(0.01)
        return np.random.default_rng(step).normal(size=8).astype(np.float32)

    found = fit(
        "net",
        lambda params, key, batch: jnp.square(params["x"] - batch.mean()).sum(),
        {"x": jnp.zeros(2)},
        batches,
        steps=40,
        learning_rate=0.1,
        ema=0.5,
        workdir=folder,
        save_every=3,
    )
    return np.asarray(found["x"]).tobytes()


def do(verb: str, photos: pathlib.Path, index: pathlib.Path, out: pathlib.Path) -> None:
    """What a process does that is to be killed."""
    update.FLUSH_SECONDS = 0.0
    ready = functools.partial(print, "ready", flush=True)
    if verb == "train":
        _trained(index, ready)  # it has much to import before it is worth a kill
        return
    ready()
    if verb in ("build", "add"):
        build([photos], index, ColourEmbedder(), progress=False)
    elif verb == "remove":
        for path in sorted(photos.iterdir()):
            remove([path], index)
    elif verb == "faiss":
        Index.open(index, ColourEmbedder(), backend="faiss").close()
    else:
        export(index, out)


if __name__ == "__main__":
    do(sys.argv[1], *map(pathlib.Path, sys.argv[2:]))

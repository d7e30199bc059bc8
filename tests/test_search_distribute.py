"""A gallery embedded by several workers is the index that one process makes."""

import functools
import os
import pathlib
import signal
import threading
import time

import fake_embedder
import numpy as np
import pytest
from PIL import Image

from sbir_jax.search import distribute as stage
from sbir_jax.search import shard_worker
from sbir_jax.search.build import build
from sbir_jax.search.distribute import distribute
from sbir_jax.search.index import Index
from sbir_jax.search.shard_writer import IndexBusy, Writer
from sbir_jax.search.shards import read, read_skipped


def photo_folder(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Photos of 16 px in seven folders, two broken ones, and a file of another kind."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i % 7}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)
    (folder / "0" / "broken.png").write_bytes(b"no image")
    (folder / "6" / "empty.jpg").write_bytes(b"")
    (folder / "6" / "notes.txt").write_text("not listed")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return photo_folder(tmp_path_factory.mktemp("photos"), 60)


@pytest.fixture
def alone(monkeypatch):
    """The shards one after the other in this process; a list of those it was given."""
    seen = []

    def embedded(parts, make, workers, each):
        embedder = make()
        for shard, part in parts.items():
            seen.append(shard)
            yield shard, *shard_worker.embed_shard(part, embedder)

    monkeypatch.setattr(stage, "_embedded", embedded)
    return seen


def contents(folder) -> dict[str, tuple]:
    """What counts in an index, by path; no path may be there twice."""
    found = read(folder)
    rows = np.flatnonzero(found.alive)
    table = found.table.to_pylist()
    every = {
        table[row]["path"]: (*table[row].values(), found.descriptor(row).tobytes())
        for row in rows
    }
    assert len(every) == len(rows)
    return every


def run(root, out, **options):
    options = {"shard_rows": 8, "progress": False, **options}
    return distribute([root], out, fake_embedder.FakeEmbedder, **options)


def test_the_index_is_the_one_that_build_makes(root, tmp_path, alone):
    found = run(root, tmp_path / "many")
    one = tmp_path / "one"
    build([root], one, fake_embedder.FakeEmbedder(), progress=False)
    assert contents(tmp_path / "many") == contents(one)
    assert read_skipped(tmp_path / "many") == read_skipped(one)
    assert (found.photos, found.skipped, found.embedded) == (60, 2, 62)
    assert alone == list(range(8))
    with Index.open(tmp_path / "many", fake_embedder.FakeEmbedder()) as index:
        path = root / "3" / "00003.png"
        assert index.search(path, k=1)[0].path == str(path)
    # And it is kept up like any other.
    (root / "3" / "00003.png").rename(root / "3" / "moved.png")
    again = build([root], tmp_path / "many", fake_embedder.FakeEmbedder())
    (root / "3" / "moved.png").rename(root / "3" / "00003.png")
    assert (again.moved, again.embedded, again.photos) == (1, 0, 60)


def stop_after(shards: int, root, out) -> None:
    """A run that ends before all shards are there."""
    embedded = stage._embedded

    def stopped(*args):
        for done, shard in enumerate(embedded(*args)):
            if done == shards:
                raise KeyboardInterrupt
            yield shard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_embedded", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(root, out)


def test_a_stopped_run_goes_on_with_the_shards_it_lacks(root, tmp_path, alone):
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(root, whole)
    stop_after(3, root, out)
    with pytest.raises(FileNotFoundError, match="no index"):
        read(out)
    with pytest.raises(ValueError, match=r"is an unfinished index of .*photos"):
        distribute([root / "3"], out, fake_embedder.FakeEmbedder)
    alone.clear()
    # The cut stays as it was started.
    found = run(root, out, shard_rows=5)
    assert alone == [3, 4, 5, 6, 7] and found.photos == 60 and found.embedded == 38
    assert contents(out) == contents(whole)
    with pytest.raises(ValueError, match=r"finished index.*sbir index"):
        run(root, out)


def test_shards_of_two_embedders_do_not_mix(root, tmp_path, alone, monkeypatch):
    stop_after(3, root, tmp_path)
    monkeypatch.setattr(fake_embedder.FakeEmbedder, "fingerprint", "0" * 64)
    with pytest.raises(ValueError, match=r"up to shard 3 .* fingerprint fafafafafafa"):
        run(root, tmp_path)
    assert not (tmp_path / "index.json").exists()


def test_addresses_and_empty_places(root, tmp_path, alone):
    assert [p.path for p in stage.list_photos([root])[0]] == [
        p.path.removeprefix("file://") for p in stage.list_photos([root.as_uri()])[0]
    ]
    found = distribute(
        [root.as_uri()], tmp_path / "out", fake_embedder.FakeEmbedder, progress=False
    )
    assert found.photos == 60
    assert all(path.startswith("file:///") for path in contents(tmp_path / "out"))
    with pytest.raises(ValueError, match="cannot be listed"):
        distribute(["nowhere://x"], tmp_path / "a", fake_embedder.FakeEmbedder)
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", (tmp_path / "empty").as_uri()):
        with pytest.raises(ValueError, match=r"(holds no photo|no photos in)"):
            distribute([source], tmp_path / "a", fake_embedder.FakeEmbedder)


def test_one_run_at_a_time(root, tmp_path, alone):
    with Writer(tmp_path, stage.Head("f" * 64, 12, None)):
        with pytest.raises(IndexBusy):
            run(root, tmp_path)


def make_slow(pids: str):
    """An embedder that says which process it is in."""
    (pathlib.Path(pids) / str(os.getpid())).touch()
    return fake_embedder.FakeEmbedder(0.01)


def kill_one(pids: pathlib.Path, shards: pathlib.Path, wanted: int) -> None:
    """Kills a worker once so many shards are there."""
    while len(list(shards.glob("0*.parquet"))) < wanted:
        time.sleep(0.01)
    os.kill(int(min(path.name for path in pids.iterdir())), signal.SIGKILL)


def test_a_killed_worker_loses_nothing(tmp_path, monkeypatch):
    """3,000 photos, 2 workers, one killed half-way."""
    ray = pytest.importorskip("ray")
    root, out, pids = tmp_path / "photos", tmp_path / "out", tmp_path / "pids"
    photo_folder(root, 3000)
    pids.mkdir()
    here = str(pathlib.Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", here)  # where workers find `make_slow`
    killer = threading.Thread(
        target=kill_one, args=(pids, out / "shards", 15), daemon=True
    )
    killer.start()
    try:
        found = distribute(
            [root],
            out,
            functools.partial(make_slow, str(pids)),
            workers=2,
            shard_rows=100,
            progress=False,
        )
    finally:
        ray.shutdown()
    killer.join(1)
    assert len(list(pids.iterdir())) == 3, "two workers, and one in a dead one's place"
    one = build([root], tmp_path / "one", fake_embedder.FakeEmbedder(), progress=False)
    assert contents(out) == contents(tmp_path / "one")
    assert (found.photos, found.embedded) == (3000, 3002)
    assert found.skipped == one.skipped == 2

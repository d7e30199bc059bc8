import errno
import hashlib
import io
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from fake_embedder import FakeEmbedder
from PIL import Image

from sbir_jax.data import image_files
from sbir_jax.search import shards, update
from sbir_jax.search.build import build, remove
from sbir_jax.search.reading import content_hash
from sbir_jax.search.shard_writer import IndexBusy, Writer

KILLS = int(os.environ.get("SBIR_KILLS", "3"))


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST).save(path)


@pytest.fixture
def root(tmp_path):
    """Ten photos, one of them twice, and one file that is none."""
    root = tmp_path / "photos"
    for i in range(9):
        picture(root / ("sub" if i % 3 == 0 else "") / f"{i}.png", i)
    shutil.copy(root / "1.png", root / "again.png")
    (root / "broken.jpg").write_bytes(b"GIF89a")
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "index"


def run(root, out, embedder=None, **options):
    sources = root if isinstance(root, list) else [root]
    summary = build(sources, out, embedder or FakeEmbedder(), progress=False, **options)
    assert summary.photos == len(stored(out))
    return summary


def did(summary):
    """The figures that are not nought, but for seconds and the total."""
    keys = "added changed unchanged moved removed skipped embedded".split()
    return {key: getattr(summary, key) for key in keys if getattr(summary, key)}


def stored(out):
    """Path -> (hash, descriptor) of an index, each path once."""
    snapshot = shards.read(out)
    rows = snapshot.table.to_pylist()
    alive = np.flatnonzero(snapshot.alive)
    found = {
        rows[i]["path"]: (rows[i]["hash"], *snapshot.descriptor(i).tolist())
        for i in alive
    }
    assert len(found) == len(alive)
    return found


def expected(root):
    """The same from the files, one by one."""
    found = {}
    for path in sorted(root.rglob("*.png")):
        vector = FakeEmbedder().embed([path], "photo")[0].astype(np.float16)
        found[str(path)] = (
            content_hash(io.BytesIO(path.read_bytes())),
            *vector.tolist(),
        )
    return found


def test_every_photo_is_indexed_and_each_content_embedded_once(root, out):
    embedder = FakeEmbedder()
    assert did(run(root, out, embedder)) == {"added": 10, "skipped": 1, "embedded": 9}
    assert sum(embedder.calls) == 9 and max(embedder.calls) == embedder.batch_size
    assert stored(out) == expected(root)
    (skipped,) = shards.read_skipped(out)
    assert skipped.path == str(root / "broken.jpg")
    assert skipped.reason.startswith("not an image file")


def test_copies_in_one_batch_are_embedded_once(out, tmp_path):
    root = tmp_path / "photos"
    picture(root / "a.png", 0)
    for name in ("b.png", "c.png"):
        shutil.copy(root / "a.png", root / name)
    embedder = FakeEmbedder()
    assert did(run(root, out, embedder)) == {"added": 3, "embedded": 1}
    assert embedder.calls == [1] and stored(out) == expected(root)


def test_what_is_unchanged_is_not_opened(root, out, monkeypatch):
    run(root, out)
    (root / "broken.jpg").unlink()

    def opened(path, *_):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(image_files, "_open_at_once", opened)
    embedder = FakeEmbedder()
    assert did(run(root, out, embedder)) == {"unchanged": 10}
    assert embedder.calls == []


def test_a_new_date_is_no_new_photo(root, out):
    run(root, out)
    os.utime(root / "2.png", (1, 1))
    embedder = FakeEmbedder()
    assert did(run(root, out, embedder)) == {"unchanged": 10, "skipped": 1}
    assert embedder.calls == []
    table = shards.read(out).table.to_pylist()
    assert {r["mtime_ns"] for r in table if r["path"] == str(root / "2.png")} == {10**9}


def test_moved_changed_copied_and_removed(root, out):
    run(root, out)
    rows = len(shards.read(out).alive)
    (root / "2.png").rename(root / "sub" / "renamed.png")
    (root / "sub").rename(root / "other")
    picture(root / "4.png", 44)
    shutil.copy(root / "5.png", root / "five.png")
    (root / "7.png").unlink()
    embedder = FakeEmbedder()
    assert did(run(root, out, embedder)) == {
        "moved": 4,
        "changed": 1,
        "added": 1,
        "removed": 1,
        "unchanged": 4,
        "skipped": 1,
        "embedded": 1,
    }
    assert stored(out) == expected(root)
    # A move writes no new row.
    assert len(shards.read(out).alive) == rows + 2
    assert did(run(root, out)) == {"unchanged": 10, "skipped": 1}


def test_a_photo_that_takes_the_place_of_another(root, out):
    run(root, out)
    (root / "2.png").rename(root / "4.png")
    (root / "5.png").rename(root / "swap.png")
    (root / "7.png").rename(root / "5.png")
    (root / "swap.png").rename(root / "7.png")
    embedder = FakeEmbedder()
    run(root, out, embedder)
    assert embedder.calls == []
    assert stored(out) == expected(root)


def test_a_photo_that_comes_back_is_not_embedded_again(root, out):
    run(root, out)
    content = (root / "4.png").read_bytes()
    (root / "4.png").unlink()
    assert did(run(root, out))["removed"] == 1
    (root / "4.png").write_bytes(content)
    embedder = FakeEmbedder()
    assert did(run(root, out, embedder))["added"] == 1 and embedder.calls == []
    assert stored(out) == expected(root)


def test_a_photo_that_breaks_is_dropped_and_listed(root, out):
    run(root, out)
    (root / "4.png").write_bytes((root / "4.png").read_bytes()[:-30])
    run(root, out)
    assert str(root / "4.png") not in stored(out)
    assert {os.path.basename(s.path) for s in shards.read_skipped(out)} == {
        "4.png",
        "broken.jpg",
    }
    picture(root / "4.png", 4)
    run(root, out)
    assert stored(out) == expected(root)
    assert [s.path for s in shards.read_skipped(out)] == [str(root / "broken.jpg")]


def test_other_folders_stay_as_they_are(root, out, tmp_path):
    more = tmp_path / "more"
    picture(more / "x.png", 100)
    (more / "empty.jpg").write_bytes(b"")
    run(root, out)
    assert did(run(more, out)) == {"added": 1, "skipped": 1, "embedded": 1}
    assert stored(out) == expected(root) | expected(more)
    assert len(shards.read_skipped(out)) == 2
    # From a folder that was not listed: only gone if the file is.
    shutil.copy(root / "2.png", more / "copy.png")
    (root / "4.png").rename(more / "moved.png")
    assert did(run(more, out)) == {
        "added": 1,
        "moved": 1,
        "unchanged": 1,
        "skipped": 1,
    }
    assert stored(out) == expected(root) | expected(more)


def test_what_is_excluded_later_goes(root, out):
    run(root, out)
    assert did(run(root, out, exclude=["sub"]))["removed"] == 3
    assert set(stored(out)) == {str(p) for p in root.glob("*.png")}


def test_an_index_inside_its_photos_is_not_listed(root):
    run(root, root / "index")
    assert did(run(root, root / "index")) == {"unchanged": 10, "skipped": 1}
    assert len(shards.read_skipped(root / "index")) == 1


def test_a_drive_that_is_not_mounted_removes_nothing(root, out):
    run(root, out)
    shutil.move(root, root.with_name("elsewhere"))
    root.mkdir()
    with pytest.raises(ValueError, match="holds no photo now and the index has 10"):
        build([root], out, FakeEmbedder())
    assert len(stored(out)) == 10
    root.rmdir()
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        build([root], out, FakeEmbedder())


def test_remove_by_path_and_folder(root, out, monkeypatch):
    run(root, out)
    monkeypatch.chdir(root)
    assert remove(["sub", "1.png"], out) == 4
    assert set(stored(out)) == {str(p) for p in root.glob("*.png") if p.name != "1.png"}
    with pytest.raises(ValueError, match=r"is .*/nothing or below it"):
        remove(["2.png", "nothing"], out)
    assert str(root / "2.png") in stored(out)
    assert (root / "1.png").exists()


def test_another_embedder_or_writer_is_refused(root, out):
    run(root, out)
    other = FakeEmbedder()
    other.fingerprint = "0b" * 32
    with pytest.raises(ValueError, match=r"fafafafafafa.* 0b0b0b0b0b0b"):
        build([root], out, other)
    with Writer(out), pytest.raises(IndexBusy, match=f"process {os.getpid()}"):
        build([root], out, FakeEmbedder())
    with Writer(out), pytest.raises(IndexBusy):
        remove([root / "1.png"], out)


def test_a_failing_device_keeps_what_was_embedded(root, out):
    class Failing(FakeEmbedder):
        def embed_arrays(self, images, modality):
            if len(self.calls) == 1:
                raise RuntimeError("out of memory")
            return super().embed_arrays(images, modality)

    with pytest.raises(RuntimeError, match="out of memory"):
        build([root], out, Failing(), progress=False)
    assert len(stored(out)) == 5  # the first batch, and the copy that came with it
    assert did(run(root, out))["embedded"] == 5
    assert stored(out) == expected(root)


def test_killed_at_any_moment_and_run_again(tmp_path):
    """With SBIR_KILLS=20 in the environment as many kills; three by default."""
    root = tmp_path / "photos"
    for i in range(40):
        picture(root / f"{i // 2:03d}" / f"{i}.png", i % 36)
    (root / "broken.jpg").write_bytes(b"GIF89a")
    script = pathlib.Path(__file__).with_name("fake_embedder.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parent.parent)}

    def start(out):
        command = [sys.executable, str(script), str(root), str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        return process

    whole = expected(root)
    with start(tmp_path / "index") as process:
        begin = time.monotonic()
        assert process.stdout is not None and process.stdout.readline() == b"done\n"
        seconds = time.monotonic() - begin
    assert stored(tmp_path / "index") == whole
    rng = random.Random(KILLS)
    seen = []
    for kill in range(KILLS):
        out = tmp_path / f"index{kill}"
        with start(out) as process:
            time.sleep(rng.uniform(0.0, seconds))
            process.kill()
        left = stored(out) if (out / "index.json").exists() else {}
        seen.append(len(left))
        assert left.items() <= whole.items()
        embedder = FakeEmbedder()
        build([root], out, embedder, progress=False)
        assert stored(out) == whole
        # Nothing that was on disk is done again.
        contents = {hash for hash, *_ in whole.values()}
        assert sum(embedder.calls) == len(
            contents - {hash for hash, *_ in left.values()}
        )
        assert not list(out.rglob("*.part"))
        alive = shards.read(out).alive
        assert len(alive) == len(whole)
    print("photos on disk when killed:", seen)


def test_progress_is_shown_with_a_rate_after_the_first_batch(root, out, capfd):
    class Compiling(FakeEmbedder):
        def start(self, images, modality):
            if not self.calls:
                time.sleep(0.3)
            return super().start(images, modality)

    build([root], out, Compiling())
    shown = [line for line in capfd.readouterr().err.split("\r") if line.strip()]
    first = [line for line in shown if "compiling" in line]
    assert first and shown[: len(first)] == first
    assert not any("photo/s" in line or "%" in line for line in first)
    assert "11/11" in shown[-1] and "photo/s" in shown[-1] and "waiting" in shown[-1]


def test_the_next_batch_is_sent_before_one_is_taken_in(root, out):
    log = []

    class Logged(FakeEmbedder):
        def start(self, images, modality):
            number = sum(entry[0] == "start" for entry in log)
            log.append(("start", number))
            fetch = super().start(images, modality)
            return lambda: log.append(("fetch", number)) or fetch()

    (root / "again.png").unlink()
    summary = run(root, out, Logged())
    assert [f"{what} {number}" for what, number in log] == [
        *("start 0", "start 1", "fetch 0", "start 2", "fetch 1", "fetch 2")
    ]
    assert 0 < summary.waiting_share < 1


def test_rows_are_in_the_order_of_the_photos_batch_by_batch(root, out):
    shutil.copy(root / "1.png", root / "sub" / "last.png")
    run(root, out)
    paths = [pathlib.Path(path) for path in shards.read(out).table["path"].to_pylist()]
    # A copy comes when its content is known: before the batch that is being filled.
    assert [path.stem for path in paths] == "1 2 4 5 again 7 8 0 3 last 6".split()


def test_writes_within_the_time_given(root, out, monkeypatch):
    monkeypatch.setattr(update, "FLUSH_SECONDS", 0.0)
    seen = []

    class Watching(FakeEmbedder):
        def embed_arrays(self, images, modality):
            seen.append(len(stored(out)))
            return super().embed_arrays(images, modality)

    run(root, out, Watching())
    # Of nine the last batch was sent before the one with the other four came back.
    assert seen == [0, 5, 5]


def test_content_hash_is_blake2b():
    for content in (b"", b"a" * 3_000_000):
        wanted = hashlib.blake2b(content, digest_size=16).hexdigest()
        assert content_hash(io.BytesIO(content)) == wanted


def test_one_file_never_ends_a_build(root, out, monkeypatch):
    wanted = expected(root)
    huge = root / "huge.jpg"
    huge.write_bytes(b"\xff\xd8\xff\xe0")
    os.truncate(huge, 40 << 30)  # takes no room on the disk
    (root / "strange.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    reader = update.read_photo

    def read(photo, *rest):
        if photo.path.endswith("strange.png"):
            raise MemoryError
        return reader(photo, *rest)

    monkeypatch.setattr(update, "read_photo", read)
    assert did(run(root, out)) == {"added": 10, "skipped": 3, "embedded": 9}
    assert stored(out) == wanted
    reasons = {os.path.basename(s.path): s.reason for s in shards.read_skipped(out)}
    assert "42,950 MB" in reasons["huge.jpg"] and "Memory" in reasons["strange.png"]


def test_a_machine_at_its_end_ends_a_build(root, out, monkeypatch):
    def read(photo, *rest):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(update, "read_photo", read)
    with pytest.raises(OSError, match="No space left"):
        run(root, out)


def test_a_photo_that_cannot_be_read_now_stays_as_it_was(root, out, monkeypatch):
    run(root, out)
    before = stored(out)
    os.utime(root / "2.png", (1, 1))

    def gone(path, flags):
        raise OSError(errno.ESTALE, "Stale file handle", path)

    monkeypatch.setattr(image_files, "_open_at_once", gone)
    assert did(run(root, out)) == {"unchanged": 9, "skipped": 2}
    assert stored(out) == before
    assert shards.read_skipped(out)[0].reason == "cannot be read: Stale file handle"


def test_one_descriptor_that_is_not_finite_is_skipped_and_all_are_an_error(root, out):
    class Broken(FakeEmbedder):
        def __init__(self, bad):
            super().__init__()
            self.bad = bad

        def embed_arrays(self, images, modality):
            found = super().embed_arrays(images, modality)
            found[[self.bad(image) for image in images]] = np.nan
            return found

    white = Image.new("RGB", (16, 16), "white")
    white.save(root / "white.png")
    white.save(root / "white copy.png")
    summary = run(root, out, Broken(lambda image: image.min() == 1))
    assert did(summary) == {"added": 10, "skipped": 3, "embedded": 9}
    with pytest.raises(ValueError, match="not finite; check the model"):
        run(root, out.with_name("other"), Broken(lambda image: True))


def test_a_folder_that_cannot_be_listed_loses_nothing(root, out, monkeypatch):
    run(root, out)
    before, scan = stored(out), os.scandir
    shutil.copy(root / "sub" / "0.png", root / "copy.png")

    def scandir(path):
        if str(path) == str(root / "sub"):
            raise OSError(errno.EIO, "Input/output error", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    summary = run(root, out)
    assert summary.removed == 0 and summary.vanished == {str(root / "sub"): 3}
    assert before.items() <= stored(out).items()
    # Not even with this: nothing is known of the folder.
    assert run(root, out, prune=True).vanished == {str(root / "sub"): 3}


def test_a_folder_that_vanished_stays_until_it_is_asked_for(root, out):
    run(root, out)
    before = stored(out)
    shutil.move(root / "sub", root.with_name("elsewhere"))
    (root / "sub").mkdir()  # a mount point without its share
    (root / "4.png").unlink()
    summary = run(root, out)
    assert summary.removed == 1 and summary.vanished == {str(root / "sub"): 3}
    del before[str(root / "4.png")]
    assert stored(out) == before
    summary = run(root, out, prune=True)
    assert summary.removed == 3 and summary.vanished == {}
    assert stored(out) == expected(root)


def test_a_whole_source_that_vanished_goes_only_when_asked(root, out):
    run(root, out)
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(ValueError, match="--prune"):
        run(root, out)
    assert run(root, out, prune=True).removed == 10


def test_what_is_excluded_is_remembered(root, out):
    assert run(root, out, exclude=["sub"]).photos == 7
    assert run(root, out).photos == 7
    assert run(root, out, exclude=["4.*"]).photos == 6
    assert (out / "exclude.txt").read_text() == "sub\n4.*\n"
    (out / "exclude.txt").unlink()
    assert run(root, out).photos == 10


def test_other_contents_with_the_same_size_and_time_are_seen_on_reread(root, out):
    run(root, out)
    path = root / "2.png"
    info, content = path.stat(), bytearray(path.read_bytes())
    picture(path, 77)
    new = path.read_bytes().ljust(len(content), b"\0")[: len(content)]
    path.write_bytes(new)
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))
    same = path.stat().st_size == info.st_size
    assert same and did(run(root, out)) == {"unchanged": 10, "skipped": 1}
    summary = run(root, out, reread=True)
    assert did(summary) == {
        "changed": 1,
        "unchanged": 9,
        "skipped": 1,
        "embedded": 1,
    }
    assert stored(out) == expected(root)


def test_a_failed_first_build_binds_nobody_to_its_model(root, out):
    class Bad(FakeEmbedder):
        fingerprint = "0b" * 32

        def embed_arrays(self, images, modality):
            return super().embed_arrays(images, modality) * np.nan

    with pytest.raises(ValueError, match="not finite"):
        run(root, out, Bad())
    assert not (out / "index.json").exists()
    assert run(root, out).photos == 10


def test_globs_that_are_no_text_are_told(root, out):
    run(root, out)
    (out / "exclude.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"exclude\.txt is not UTF-8.* Save it"):
        run(root, out)


def test_an_index_whose_shards_are_gone_is_an_error(root, out):
    run(root, out)
    shutil.rmtree(out / "shards")
    with pytest.raises(ValueError, match="lacks its folder shards"):
        run(root, out)
    with pytest.raises(ValueError, match="lacks its folder shards"):
        shards.read(out)
    assert not (out / "shards").exists()

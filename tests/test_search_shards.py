import csv
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbir_jax.data import Skipped
from sbir_jax.runtime import stops
from sbir_jax.search import shards
from sbir_jax.search.export import export
from sbir_jax.search.shard_writer import IndexBusy, Writer
from sbir_jax.search.shards import Head

DIM, ROWS = 6, 4
HEAD = Head("ab" * 32, DIM, {"kind": "pretrained"}, shard_rows=ROWS)


def vectors(n, seed=0):
    found = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(folder, start, stop):
    with Writer(folder, HEAD) as writer:
        for i, vector in list(enumerate(vectors(stop)))[start:]:
            writer.append(f"/p/{i}.jpg", f"{i:032x}", 100 + i, 1000 + i, vector)


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path / "index", 0, 10)
    return tmp_path / "index"


def stored(snapshot):
    """Everything that counts: path -> (hash, size, mtime, descriptor)."""
    rows = snapshot.table.to_pylist()
    return {
        r["path"]: (r["hash"], r["size"], r["mtime_ns"], *snapshot.descriptor(i))
        for i, r in enumerate(rows)
        if snapshot.alive[i]
    }


def test_the_files_are_what_the_docstring_says(folder):
    """Read here by numpy and pyarrow alone."""
    assert {p.name for p in folder.iterdir()} == {
        *("index.json", "lock", "rows.json", "shards")
    }
    head = json.loads((folder / "index.json").read_text())
    assert head["format"] == 1 and head["dim"] == DIM and head["shard_rows"] == ROWS
    assert head["fingerprint"] == "ab" * 32
    arrays, tables = [], []
    for number, rows in enumerate((4, 4, 2)):
        array = np.load(folder / "shards" / f"{number:06d}.npy")
        table = pq.ParquetFile(folder / "shards" / f"{number:06d}.parquet").read()
        assert array.dtype == np.float16 and len(array) == len(table) == rows
        arrays.append(array)
        tables += table.to_pylist()
    np.testing.assert_array_equal(
        np.concatenate(arrays), vectors(10).astype(np.float16)
    )
    assert tables[7] == {
        "path": "/p/7.jpg",
        "hash": f"{7:032x}",
        "size": 107,
        "mtime_ns": 1007,
    }


@pytest.mark.parametrize("parts", [(3, 5, 6), (4, 8), (9,), (1, 2, 3, 4, 5, 6, 7, 8)])
def test_growing_bit_by_bit_gives_the_same_index(tmp_path, parts):
    start = 0
    for stop in (*parts, 10):
        fill(tmp_path / "bits", start, stop)
        start = stop
    fill(tmp_path / "once", 0, 10)
    bits, once = shards.read(tmp_path / "bits"), shards.read(tmp_path / "once")
    assert stored(bits) == stored(once) and len(stored(once)) == 10
    assert [len(a) for a in bits.descriptors] == [4, 4, 2]


def test_an_open_snapshot_outlives_changes(folder):
    before = shards.read(folder)
    kept = stored(before)
    fill(folder, 10, 15)
    assert stored(before) == kept
    after = shards.read(folder, before)
    assert len(stored(after)) == 15
    # Full shards are not read again; nothing is where nothing changed.
    assert after.descriptors[0] is before.descriptors[0]
    assert after.shards[1] is before.shards[1]
    assert shards.read(folder, after) is after
    assert stored(after) == stored(shards.read(folder))


def test_a_kill_between_the_two_files_of_a_shard(folder):
    """The last .npy already longer than its parquet, and one that has no parquet."""
    whole = stored(shards.read(folder))
    np.save(folder / "shards" / "000002.npy", vectors(11)[8:].astype(np.float16))
    np.save(folder / "shards" / "000003.npy", np.zeros((2, DIM), np.float16))
    (folder / "shards" / "000003.parquet.part").write_bytes(b"half")
    assert stored(shards.read(folder)) == whole
    assert [len(a) for a in shards.read(folder).descriptors] == [4, 4, 2]
    fill(folder, 10, 15)
    assert len(stored(shards.read(folder))) == 15
    fill(folder.with_name("once"), 0, 15)
    assert stored(shards.read(folder)) == stored(shards.read(folder.with_name("once")))


def test_of_rows_with_one_path_the_last_counts(folder):
    new = vectors(1, seed=9)[0]
    with Writer(folder) as writer:
        writer.append("/p/2.jpg", "f" * 32, 5, 6, new)
        # Killed here: the row that was replaced is not named in removed.npy.
        writer.flush()
        assert not (folder / "removed.npy").exists()
    found = stored(shards.read(folder))
    assert len(found) == 10 and found["/p/2.jpg"][:3] == ("f" * 32, 5, 6)
    # The next writer names it, so that it cannot come back when its heir moves on.
    with Writer(folder) as writer:
        assert np.load(folder / "removed.npy").tolist() == [2]
        writer.restamp(10, "/p/elsewhere.jpg", 5, 6)
    found = stored(shards.read(folder))
    assert "/p/2.jpg" not in found and "/p/elsewhere.jpg" in found


def test_removed_and_moved_rows(folder):
    with Writer(folder) as writer:
        writer.mark_removed([1, 8])
        writer.restamp(5, "/q/5.jpg", 105, 9999)
    found = stored(shards.read(folder))
    assert len(found) == 8 and not {"/p/1.jpg", "/p/8.jpg", "/p/5.jpg"} & set(found)
    assert found["/q/5.jpg"][:3] == (f"{5:032x}", 105, 9999)
    np.testing.assert_array_equal(
        found["/q/5.jpg"][3:], vectors(10)[5].astype(np.float16)
    )
    # A new photo where a removed one was.
    with Writer(folder) as writer:
        writer.append("/p/1.jpg", "e" * 32, 1, 1, vectors(1)[0])
        assert writer.alive.count(True) == 9
    assert stored(shards.read(folder))["/p/1.jpg"][0] == "e" * 32
    # And an old row moved to where a later one was removed.
    with Writer(folder) as writer:
        writer.restamp(0, "/p/8.jpg", 1, 1)
    assert stored(shards.read(folder))["/p/8.jpg"][0] == f"{0:032x}"


def test_a_second_writer_is_refused_and_readers_are_not(folder):
    with Writer(folder) as writer:
        writer.append("/p/new.jpg", "d" * 32, 1, 1, vectors(1)[0])
        with pytest.raises(IndexBusy, match=rf"process {os.getpid()} on "):
            Writer(folder, HEAD)
        assert len(stored(shards.read(folder))) == 10
        writer.flush()
        assert len(stored(shards.read(folder))) == 11
    Writer(folder).__exit__(None, None, None)
    assert not (folder / "writer.json").exists()


def test_the_lock_of_a_killed_process_is_free(folder):
    code = (
        "import sys, time\n"
        "from sbir_jax.search.shard_writer import Writer\n"
        "writer = Writer(sys.argv[1])\n"
        "print('locked', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(IndexBusy, match=f"process {process.pid} "):
            Writer(folder)
        process.kill()
    fill(folder, 10, 11)
    assert len(stored(shards.read(folder))) == 11


def test_what_was_appended_before_an_error_is_kept(folder):
    with pytest.raises(ZeroDivisionError), Writer(folder) as writer:
        writer.append("/p/new.jpg", "d" * 32, 1, 1, vectors(1)[0])
        raise ZeroDivisionError
    assert "/p/new.jpg" in stored(shards.read(folder))


def test_another_embedder_is_refused_with_both_fingerprints(folder):
    with pytest.raises(ValueError, match=r"abababababab.* cdcdcdcdcdcd"):
        Writer(folder, Head("cd" * 32, DIM, None))
    Writer(folder, HEAD).__exit__(None, None, None)  # and the lock is free again


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full(DIM, np.nan, np.float32), "/p/x.jpg is not finite"),
        (np.ones(DIM + 1, np.float32), r"/p/x.jpg has shape \(7,\)"),
    ],
)
def test_a_descriptor_that_cannot_be_is_refused(folder, bad, message):
    with Writer(folder) as writer, pytest.raises(ValueError, match=message):
        writer.append("/p/x.jpg", "d" * 32, 1, 1, bad)
    assert len(stored(shards.read(folder))) == 10


def with_paths(table, paths):
    return table.set_column(0, "path", pa.array(paths))


SPOILT = {
    "claimed rows": lambda table: table.take([0] * 1_000_000),
    "a long path": lambda table: with_paths(table, ["x" * 9_000, "b", "c", "d"]),
    "paths that are numbers": lambda table: with_paths(table, [1, 2, 3, 4]),
    "much in few rows": lambda table: with_paths(
        table, [letter * 100_000 for letter in "abcd"]
    ),
}


def damage(folder, kind):
    shard = folder / "shards" / "000001.npy"
    if kind == "a shard lost":
        shard.with_suffix(".parquet").unlink()
    elif kind == "descriptors lost":
        shard.unlink()
    elif kind == "descriptors cut":
        shard.write_bytes(shard.read_bytes()[:-20])
    elif kind == "a header of numpy":
        content = shard.read_bytes()
        shard.write_bytes(content.replace(b"(4, 6)", b"(4, 6,", 1))
    elif kind == "fewer descriptors":
        np.save(shard, np.zeros((3, DIM), np.float16))
    elif kind == "other type":
        np.save(shard, np.zeros((4, DIM), np.float32))
    elif kind == "parquet cut":
        table = shard.with_suffix(".parquet")
        table.write_bytes(table.read_bytes()[:-20])
    elif kind == "short shard":
        for suffix in (".npy", ".parquet"):
            name = f"000002{suffix}"
            shutil.copy(folder / "shards" / name, shard.with_suffix(suffix))
    elif kind == "removed cut":
        (folder / "removed.npy").write_bytes(b"\x93NUMPY")
    elif kind == "newer format":
        head = json.loads((folder / "index.json").read_text()) | {"format": 2}
        (folder / "index.json").write_text(json.dumps(head))
    elif kind == "not ours":
        (folder / "index.json").write_text('{"name": "something"}')
    elif kind == "no rows a shard":
        head = json.loads((folder / "index.json").read_text()) | {"shard_rows": 0}
        (folder / "index.json").write_text(json.dumps(head))
    elif kind == "a deep one":
        (folder / "index.json").write_text("[" * 100_000 + "]" * 100_000)
    elif kind == "a large one":
        os.truncate(folder / "index.json", 400_000_000)
    elif kind == "the last shard lost":
        for path in (folder / "shards").glob("000002.*"):
            path.unlink()
    elif kind == "all shards lost":
        for path in (folder / "shards").iterdir():
            path.unlink()
    elif kind == "rows that are none":
        (folder / "rows.json").write_text('{"rows": -1}')
    elif kind in SPOILT:
        table = pq.read_table(shard.with_suffix(".parquet"))
        pq.write_table(SPOILT[kind](table), shard.with_suffix(".parquet"))
    elif kind == "no object":
        (folder / "index.json").write_text("[]")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a shard lost", r"lacks shards/000001\.parquet"),
        ("descriptors lost", r"000001\.npy is damaged or missing"),
        ("descriptors cut", r"000001\.npy is damaged or missing"),
        ("a header of numpy", r"000001\.npy is damaged or missing"),
        ("fewer descriptors", r"000001\.npy has 3 rows and its parquet 4"),
        ("other type", r"000001\.npy is float32 \[4, 6\]"),
        ("parquet cut", r"000001\.parquet is damaged"),
        ("short shard", "has 2 rows and is not the last"),
        ("removed cut", r"removed\.npy is damaged"),
        ("newer format", r"format 2 .*newer version.* reads 1"),
        ("not ours", r"index\.json is not an index of sbir"),
        ("no object", r"index\.json holds a list, not an object"),
        ("a large one", r"index\.json has 400000000 bytes"),
        ("the last shard lost", r"10 rows, and shards holds 8\. Copy"),
        ("all shards lost", r"10 rows, and shards holds 0\. Copy"),
        ("rows that are none", r"rows\.json: rows is -1"),
        ("claimed rows", r"000001\.npy has 4 rows and its parquet 1000000"),
        ("a long path", r"000001\.parquet is damaged: a path has 9000 bytes"),
        ("paths that are numbers", r"000001\.parquet is damaged: a path is int64"),
        ("much in few rows", r"000001\.parquet is damaged: \d+ bytes for 4 rows"),
        ("no rows a shard", r"index\.json: shard_rows is 0, but .* Copy it back"),
        ("a deep one", r"index\.json is not valid here: it is nested too deep"),
    ],
)
def test_damage_is_named(folder, kind, message):
    damage(folder, kind)
    with pytest.raises(ValueError, match=message):
        shards.read(folder)


def test_what_a_parquet_claims_is_not_read(folder):
    damage(folder, "claimed rows")
    before = psutil.Process().memory_info().rss
    with pytest.raises(ValueError, match="its parquet 1000000"):
        shards.read(folder)
    assert psutil.Process().memory_info().rss - before < 30e6


def test_an_index_from_before_there_was_a_count_opens(folder):
    (folder / "rows.json").unlink()
    assert len(stored(shards.read(folder))) == 10
    with Writer(folder):
        pass
    assert json.loads((folder / "rows.json").read_text()) == {"rows": 10}


def test_a_long_reason_is_told_on_one_line(folder):
    (folder / "skipped.csv").write_text("path,reason\na," + "x" * 200_000)
    with pytest.raises(ValueError, match=r"skipped\.csv is damaged: field .* Delete"):
        shards.read_skipped(folder)


@pytest.mark.parametrize("content", ["[1]", "[" * 100_000, "{}", '{"pid": 1}'])
def test_who_holds_an_index_is_not_believed(folder, content):
    with Writer(folder):
        (folder / "writer.json").write_text(content)
        with pytest.raises(IndexBusy, match="written by another process"):
            Writer(folder)


def test_a_deep_list_of_what_was_checked_is_checked_again(folder):
    (folder / "checked.json").write_text("[" * 100_000)
    assert len(stored(shards.read(folder))) == 10
    assert json.loads((folder / "checked.json").read_text())


def test_a_writer_killed_before_the_first_row_binds_nobody(tmp_path):
    with Writer(tmp_path / "new", HEAD):
        pass  # the same is left where it was killed
    other = dataclasses.replace(HEAD, fingerprint="ef" * 32)
    with Writer(tmp_path / "new", other) as writer:
        writer.append("/p/x.jpg", "d" * 32, 1, 1, vectors(1)[0])
    assert shards.read(tmp_path / "new").head.fingerprint == "ef" * 32
    with pytest.raises(ValueError, match="do not compare"):
        Writer(tmp_path / "new", HEAD)


def test_where_there_is_no_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no index in .* sbir index PHOTOS"):
        shards.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="no index in"):
        Writer(tmp_path)
    (tmp_path / "holiday.jpg").write_bytes(b"1")
    with pytest.raises(ValueError, match=r"holds other things \(holiday\.jpg\)"):
        Writer(tmp_path, HEAD)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_empty_index_is_an_index(tmp_path):
    with Writer(tmp_path / "new", HEAD):
        pass
    snapshot = shards.read(tmp_path / "new")
    assert stored(snapshot) == {} and snapshot.descriptors == ()


def test_skipped_files_are_listed(folder):
    skipped = [Skipped('/p/a, "b".jpg', "cut\nshort"), Skipped("/p/ä.jpg", "empty")]
    with Writer(folder) as writer:
        writer.write_skipped(skipped[::-1])
    assert shards.read_skipped(folder) == skipped
    with open(folder / "skipped.csv", encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["path", "reason"]
    assert shards.read_skipped(folder / "nowhere") == []


def test_an_export_that_finds_no_room_says_so(folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = folder.with_name("export")
    with pytest.raises(stops.DiskFull, match=f"disk of {out}: the index is as it was"):
        export(folder, out)
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_export_has_the_photos_that_count(folder):
    with Writer(folder) as writer:
        writer.mark_removed([1, 9])
        writer.append("/p/3.jpg", "d" * 32, 7, 7, vectors(12)[11])  # changed
    out = folder.with_name("export")
    assert export(folder, out) == 8
    pieces = zip(
        sorted((out / "img_emb").glob("img_emb_*.npy")),
        sorted((out / "metadata").glob("metadata_*.parquet")),
        strict=True,
    )
    found = {}
    for array, table in pieces:
        rows = pq.read_table(table).to_pylist()
        descriptors = np.load(array)
        assert descriptors.dtype == np.float16 and len(rows) == len(descriptors)
        for row, descriptor in zip(rows, descriptors, strict=True):
            found[row["image_path"]] = (row["hash"], *descriptor)
    assert found == {
        path: (hash, *descriptor)
        for path, (hash, _, _, *descriptor) in stored(shards.read(folder)).items()
    }
    assert found["/p/3.jpg"][0] == "d" * 32 and "/p/1.jpg" not in found
    with pytest.raises(FileExistsError, match="give a new folder"):
        export(folder, out)
    with pytest.raises(FileNotFoundError, match="no index"):
        export(out, folder.with_name("other"))
    assert not list(folder.parent.glob(".*"))


def rewritten(path, change):
    """The file with other contents, and another time."""
    info = path.stat()
    array = np.load(path)
    change(array)
    np.save(path, array)
    os.utime(path, ns=(info.st_mtime_ns + 1, info.st_mtime_ns + 1))


@pytest.mark.parametrize("shard", [1, 2])
@pytest.mark.parametrize("kind", ["flipped", "reversed", "copied", "not finite"])
def test_descriptors_that_were_not_written_are_refused(folder, shard, kind):
    shards.read(folder)
    path = folder / "shards" / f"{shard:06d}.npy"

    def change(array):
        if kind == "flipped":
            array.view(np.uint8)[1, 3] ^= 4
        elif kind == "reversed":
            array[:] = array[::-1].copy()
        elif kind == "copied":
            array[:] = np.load(folder / "shards" / "000000.npy")[: len(array)]
        else:
            array[0] = np.nan

    rewritten(path, change)
    for _ in range(2):  # not only at the first opening
        with pytest.raises(ValueError, match=rf"{path.name} .*checksum.*make it again"):
            shards.read(folder)
    with pytest.raises(ValueError, match="checksum"):
        Writer(folder)


def test_damaged_rows_of_a_table_are_refused(folder):
    path = folder / "shards" / "000001.parquet"
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 3):
        flipped = bytearray(content)
        flipped[place] ^= 8
        path.write_bytes(flipped)
        try:
            table = shards.read(folder).table
        except ValueError as error:
            said = "000001.parquet is damaged", "000001.npy has 4 rows and its parquet"
            assert any(words in str(error) for words in said)
        else:  # a bit that means nothing
            assert table["path"].to_pylist() == [f"/p/{i}.jpg" for i in range(10)]


def test_files_are_checked_once_and_again_when_they_change(folder, monkeypatch):
    checked = []
    digest = shards.digest
    monkeypatch.setattr(
        shards, "digest", lambda rows: checked.append(1) or digest(rows)
    )
    shards.read(folder)
    assert len(checked) == 3 and (folder / "checked.json").exists()
    shards.read(folder)
    assert len(checked) == 3
    fill(folder, 10, 11)  # the last shard grows
    shards.read(folder)
    assert len(checked) == 4
    (folder / "checked.json").write_text("{nonsense")
    shards.read(folder)
    assert len(checked) == 7


def test_an_index_from_before_there_were_checksums_is_read(folder):
    for path in (folder / "shards").glob("*.parquet"):
        table = pq.ParquetFile(path).read().replace_schema_metadata(None)
        pq.write_table(table, path)
    before = stored(shards.read(folder))
    assert len(before) == 10
    rewritten(folder / "shards" / "000001.npy", lambda array: array.fill(np.inf))
    with pytest.raises(ValueError, match=r"000001\.npy is damaged: .*not finite"):
        shards.read(folder)


def test_what_a_killed_writer_left_is_cleaned(folder):
    (folder / "shards" / "000002.npy.part").write_bytes(b"half")
    (folder / "skipped.csv.part").write_bytes(b"half")
    with Writer(folder):
        assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("rows", [[-1], [0.5], [[1]]])
def test_removed_rows_that_cannot_be_are_refused(folder, rows):
    np.save(folder / "removed.npy", np.array(rows))
    with pytest.raises(ValueError, match=r"removed\.npy is damaged"):
        shards.read(folder)

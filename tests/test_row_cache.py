"""Rows on disk are used again only as they were written."""

import os

import numpy as np
import pytest

from sbir_jax.runtime import digests, row_cache

ROWS = np.arange(300, dtype=np.float16).reshape(100, 3)
SIZE = 6  # bytes of a row


@pytest.fixture
def keep(tmp_path):
    """Keeps ROWS; the first rows of the batches that had to be made."""

    def keep():
        made = []

        def make(rows):
            made.append(rows.start)
            return ROWS[rows]

        found = row_cache.keep(tmp_path / "a.bin", {"of": 1}, ROWS.shape, make, "")
        np.testing.assert_array_equal(found, ROWS)
        return made

    return keep


def change(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[40 * SIZE] ^= 1
    elif how == "swapped":
        rows = content[35 * SIZE : 36 * SIZE], content[50 * SIZE : 51 * SIZE]
        content[50 * SIZE : 51 * SIZE], content[35 * SIZE : 36 * SIZE] = rows
    elif how == "cut":
        del content[70 * SIZE :]
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [("flipped", [32, 64, 96]), ("swapped", [32, 64, 96]), ("cut", [64, 96])],
)
@pytest.mark.filterwarnings("ignore")
def test_rows_that_are_not_as_they_were_written_are_made_again(
    keep, tmp_path, how, wanted
):
    assert keep() == [0, 32, 64, 96] and keep() == []
    change(tmp_path / "a.bin", how)
    assert keep() == wanted
    assert keep() == []


def test_rows_from_before_there_were_checksums_are_made_again(keep, tmp_path):
    keep()
    for name in ("a.sums", "a.checked"):
        (tmp_path / name).unlink()
    assert keep() == [0, 32, 64, 96]


def test_a_file_is_read_for_its_checksums_once(keep, tmp_path, monkeypatch):
    keep()
    os.utime(tmp_path / "a.bin", (1, 1))
    looked, digest = [], digests.digest

    def counted(rows):
        looked.append(len(rows))
        return digest(rows)

    monkeypatch.setattr(digests, "digest", counted)
    assert keep() == [] and len(looked) == 4
    assert keep() == [] and len(looked) == 4

"""Kept files are used again only as they were written, and for what they were."""

import functools

import numpy as np
import pytest

from sbir_jax.runtime import kept_files


@pytest.fixture
def keep(tmp_path):
    """Keeps `rows` under a name and a fingerprint; whether they had to be made."""

    def keep(name, fingerprint, rows):
        made = []

        def make():
            made.append(name)
            return {f"{name}.npy": functools.partial(np.save, arr=rows)}

        kept_files.keep(tmp_path, name, fingerprint, make)
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), rows)
        return bool(made)

    return keep


ROWS = np.arange(12, dtype=np.float16).reshape(4, 3)


def test_what_is_kept_is_not_made_again(keep):
    assert keep("frozen", "f", ROWS) and not keep("frozen", "f", ROWS)
    assert keep("frozen", "another embedder", ROWS + 1)


@pytest.mark.parametrize(
    "how", ["another's", "reversed", "nan", "cut", "gone", "stamp"]
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_as_it_was_written_is_made_again(keep, tmp_path, how):
    keep("frozen", "f", ROWS)
    keep("learned", "l", ROWS + 1)
    file, stamp = tmp_path / "learned.npy", tmp_path / "learned.json"
    if how == "another's":
        file.write_bytes((tmp_path / "frozen.npy").read_bytes())
    elif how == "reversed":
        np.save(file, (ROWS + 1)[::-1])
    elif how == "nan":
        np.save(file, ROWS * np.nan)
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "gone":
        file.unlink()
    else:  # with its stamp: then it says itself whose it is
        stamp.write_bytes((tmp_path / "frozen.json").read_bytes())
    assert keep("learned", "l", ROWS + 1)

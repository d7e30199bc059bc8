"""Sketches kept as pen strokes: reading QMUL's files. `pen` draws them."""

import functools
import io
import pathlib
import pickle
from typing import Any

import numpy as np

from sbir_jax.data.pen import Strokes
from sbir_jax.data.tree import DataError


@functools.lru_cache(maxsize=1)
def read_strokes(path: str, mtime: int) -> dict[str, Strokes]:
    """Reads a `ShoeV2_Coordinate` or `ChairV2_Coordinate` file.

    Such a file is a pickle, and a pickle can run any program; only what numpy arrays
    are made of is let through.

    Args:
      mtime: of the file; a changed file is read again.
    Returns: by name, such as "test/2429245009_1", points (x, y, 1 at a stroke's end).
    Raises: DataError for anything else.
    """
    try:
        content = _Arrays(io.BytesIO(pathlib.Path(path).read_bytes())).load()
        return {_name(key): _points(value) for key, value in content.items()}
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as strokes ({error or type(error).__name__}). It "
            "must be the pickled dict of arrays [n, 3] by 'train/<id>_<k>' and "
            "'test/<id>_<k>' that comes with ShoeV2 and ChairV2. Fetch it again, or "
            "give the sketches as pictures."
        ) from error


class _Arrays(pickle.Unpickler):
    """Makes numpy arrays and numbers, and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode("latin1")
        if module_name.partition(".")[0] == "numpy" and global_name in _NUMPY:
            return _NUMPY[global_name]
        raise pickle.UnpicklingError(f"it holds {module_name}.{global_name}")


# As numpy itself names them when it pickles an array and a number.
_NUMPY: dict[str, Any] = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "scalar": np.float64(0).__reduce__()[0],
}


def _name(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"a key is {key!r}, not a name")
    return key


def _points(value: Any) -> Strokes:
    points = np.asarray(value, np.float32)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"an array has the shape {points.shape}, or no numbers")
    return points

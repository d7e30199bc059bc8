"""Files of named arrays, as safetensors."""

import pathlib

import numpy as np
from safetensors.numpy import save_file


def save_tensors(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Write one file, readable by whom the umask says: the library's own is for its
    owner alone."""
    path.touch()
    mode = path.stat().st_mode
    # The metadata is what transformers looks for before it reads on.
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)

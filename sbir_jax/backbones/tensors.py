"""Tensors in safetensors files, memory-mapped: by name, shape and digest."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

# What safetensors files call the types that are read here.
TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
CONVERT = (
    "Weights are never unpickled here. Take a repository that has .safetensors files, "
    "or convert once where you trust the files: "
    "DiffusionPipeline.from_pretrained(...).save_pretrained(folder) in diffusers."
)


class Tensors:
    """Tensors under our names; nothing is read before it is used.

    `rename` maps a name in the files to ours, or to None for a tensor to leave out.

    Attributes:
      path: the file, or the index of several, named in errors.
      described: what says which tensors there must be, likewise.
    """

    def __init__(
        self,
        path: pathlib.Path,
        files: Iterable[Mapping[str, np.ndarray]],
        rename: Callable[[str], str | None] = str,
        described: str = "the config.json beside it",
    ):
        self.path = path
        self.described = described
        self._tensors = {}
        for file in files:
            for name, tensor in file.items():
                ours = rename(name)
                if ours is not None:
                    self._tensors[ours] = tensor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, read from the headers only."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor, as it is in the file; from the disk when it is used."""
        return self._tensors[name]

    def digest(self) -> str:
        """A hash of all names, types, shapes and bytes; not of how they are split."""
        digests = {}
        for name, tensor in self._tensors.items():  # as the files have them: one pass
            found = hashlib.sha256(f"{name} {tensor.dtype} {tensor.shape}\0".encode())
            # As bytes, since numpy exports no buffer of bfloat16.
            found.update(tensor.reshape(-1).view(np.uint8))
            digests[name] = found.digest()
        joined = b"".join(digests[name] for name in sorted(digests))
        return hashlib.sha256(joined).hexdigest()


def metadata(path: pathlib.Path) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def open_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, mapped into memory and not yet read.

    The library checks the file, and would then copy every tensor at every reading.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}, which the index beside it names")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(20)
        # A safetensors file starts with the length of its header.
        pickled = start[:1] == b"\x80" and int.from_bytes(start[:8], "little") > size
        if pickled or start[:2] == b"PK":
            raise ValueError(
                f"{path} is a pickle under another name. {CONVERT}"
            ) from None
        if start.startswith(b"version https://git"):
            raise ValueError(
                f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull`."
            ) from None
        raise ValueError(
            f"{path} ({size} bytes) is damaged or cut short: {error}. Copy or fetch it "
            "again."
        ) from error
    # The length of a header, the header, and the bytes of all tensors.
    data = np.asarray(np.memmap(path, np.uint8, "r"))
    length = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in TYPES:
            raise ValueError(
                f"{path}: {name} is of type {entry['dtype']}; known are {[*TYPES]}"
            )
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensor = data[begin:end].view(TYPES[entry["dtype"]])
        tensors[name] = tensor.reshape(entry["shape"])
    return tensors

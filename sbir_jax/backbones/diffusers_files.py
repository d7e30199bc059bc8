"""Folders in the layout of diffusers: found or fetched, and read.

One folder per network, each with a `config.json` and safetensors files. Weights are
never unpickled: opening a pickle can run whatever its author put into it.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from sbir_jax.backbones import hub
from sbir_jax.runtime import schema

# Folder of each network, and what its weight files are called before the suffix.
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
# What safetensors files call the types that are read here.
TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}
TOYBOX = pathlib.Path(__file__).parent.parent / "assets" / "toybox_sd"
WHERE = (
    "Give a local folder in the diffusers layout (with unet/, vae/, text_encoder/, "
    "scheduler/), a hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5, a "
    "short name such as sd21 (sbir models lists them), or 'toybox', which needs no "
    "download."
)
CONVERT = (
    "Weights are never unpickled here. Take a repository that has .safetensors files, "
    "or convert once where you trust the files: "
    "DiffusionPipeline.from_pretrained(...).save_pretrained(folder) in diffusers."
)


def find_folder(source: str | os.PathLike[str]) -> pathlib.Path:
    """The local folder of "toybox", of a path or of a hub id ("owner/name@revision").

    Files of a hub id are fetched to the hub's cache first, unless they are there.

    Raises:
      FileNotFoundError: no such folder, repository or revision; says where to look.
      ValueError: a repository without safetensors.
    """
    if source == "toybox":
        if not TOYBOX.is_dir():
            raise FileNotFoundError(
                f"no folder {TOYBOX}: this installation lacks the Toybox model. "
                "Install again, or train it with tools/pretrain_toybox.py."
            )
        return TOYBOX
    return hub.find_folder(source, cached_folder, _choose, WHERE)


def cached_folder(source: str) -> pathlib.Path | None:
    """Where the hub's cache has a repository; None unless all networks are whole."""
    config = hub.cached_file(source, "unet/config.json")
    if config is None:
        return None
    folder = config.parents[1]
    whole = [is_whole(folder / part, stem) for part, stem in STEMS.items()]
    return folder if all(whole) else None


def is_whole(folder: pathlib.Path, stem: str) -> bool:
    """Whether a folder has a config and all the weights that belong to it."""
    if not (folder / "config.json").is_file():
        return False
    files = {path.name for path in folder.iterdir()}
    chosen = choose_weights(files, stem)
    if chosen is None or not chosen.endswith(".json"):
        return chosen is not None
    return set(shards(folder / chosen)) <= files


def shards(index: pathlib.Path) -> list[str]:
    """The files beside an index that together hold its tensors.

    Raises: ValueError for an index without a map from tensors to files, and for one
      that leads out of its folder.
    """
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ValueError(
            f"{index}: weight_map is {found!r}; it must say for each tensor which file "
            "beside it holds it. Copy or fetch it again"
        )
    for name in found.values():
        inside = isinstance(name, str) and name.endswith(".safetensors")
        if not inside or pathlib.PurePosixPath(name).name != name or "\\" in name:
            raise ValueError(
                f"{index}: weight_map names {name!r}; only .safetensors files beside "
                "it are read. Copy or fetch it again"
            )
    return sorted(set(found.values()))


def _choose(source: str, files: Iterable[str]) -> list[str]:
    needed = needed_files(files)
    for part in STEMS:
        names = [name for name in needed if name.startswith(f"{part}/")]
        # Before gigabytes of the other networks are fetched.
        if not any(name.endswith(".safetensors") for name in names):
            raise ValueError(f"{source} has no {part}/*.safetensors. {CONVERT}")
    return needed


def needed_files(files: Iterable[str]) -> list[str]:
    """Of a repository's file names, those that a backbone is read from.

    All networks are taken, also where only some are used: the fingerprint covers them.
    """
    files = sorted(files)
    folders = ("scheduler/", "tokenizer/")
    needed = [
        name
        for name in files
        if name == "model_index.json"
        or name in {f"{part}/config.json" for part in STEMS}
        or name.startswith(folders)
    ]
    for part, stem in STEMS.items():
        inside = [
            name[len(part) + 1 :] for name in files if name.startswith(f"{part}/")
        ]
        chosen = choose_weights(inside, stem)
        if chosen and chosen.endswith(".json"):
            half = "fp16" in chosen
            needed += [
                f"{part}/{name}"
                for name in inside
                if "-of-" in name
                and name.endswith(".safetensors")
                and ("fp16" in name) == half
            ]
        if chosen:
            needed.append(f"{part}/{chosen}")
    return needed


def choose_weights(files: Iterable[str], stem: str) -> str | None:
    """Of the files beside a config, the weight file or the index of its shards.

    The fp16 variant wins where there is one: half to fetch and to read.
    """
    files = set(files)
    for name in (
        f"{stem}.fp16.safetensors",
        f"{stem}.safetensors.index.fp16.json",
        f"{stem}.safetensors.fp16.index.json",
        f"{stem}.fp16.safetensors.index.json",
        f"{stem}.safetensors",
        f"{stem}.safetensors.index.json",
    ):
        if name in files:
            return name
    return None


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """As `schema.read_json`, for a file of such a folder."""
    return schema.read_json(path, WHERE)


class TensorFolder:
    """The tensors beside one `config.json`, memory-mapped, under our names.

    `rename` maps a name in the files to ours, or to None for a tensor to leave out.
    """

    def __init__(
        self, folder: pathlib.Path, stem: str, rename: Callable[[str], str | None]
    ):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}. {WHERE}")
        files = sorted(path.name for path in folder.iterdir())
        chosen = choose_weights(files, stem)
        if chosen is None:
            pickles = [n for n in files if n.endswith((".bin", ".ckpt", ".pt", ".pth"))]
            if pickles:
                raise ValueError(f"{folder} holds only pickles {pickles}. {CONVERT}")
            raise FileNotFoundError(f"no {stem}.safetensors in {folder}. {WHERE}")
        self.path = folder / chosen
        paths = [self.path]
        if chosen.endswith(".json"):
            paths = [folder / name for name in shards(self.path)]
        self._tensors = {}
        for path in paths:
            for name, tensor in _open(path).items():
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


def _open(path: pathlib.Path) -> dict[str, np.ndarray]:
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


@contextlib.contextmanager
def naming(place: pathlib.Path) -> Iterator[None]:
    """Names a folder or file in a ValueError that was raised about its contents."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None

"""Folders in the layout of diffusers: found or fetched, and read.

One folder per network, each with a `config.json` and safetensors files. Weights are
never unpickled: opening a pickle can run whatever its author put into it.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sbir_jax.backbones import hub
from sbir_jax.backbones.tensors import CONVERT, PICKLES, Tensors, open_tensors
from sbir_jax.runtime import schema

# Folder of each network, and what its weight files are called before the suffix.
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
# Those that some models have beside them.
MORE = {"text_encoder_2": "model", "text_encoder_3": "model"}
# What removes noise in a diffusion transformer, in the UNet's place.
TRANSFORMER = "transformer"
TOYBOX = pathlib.Path(__file__).parent.parent / "assets" / "toybox_sd"
WHERE = (
    "Give a local folder in the diffusers layout (with unet/ or transformer/, vae/, "
    "text_encoder/, scheduler/), a .safetensors file of a whole Stable Diffusion, a "
    "hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5, a short name such as "
    "sd21 (sbir models lists them), or 'toybox', which needs no download."
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
    names = (f"{part}/config.json" for part in ("unet", TRANSFORMER))
    found = {name: hub.cached_file(source, name) for name in names}
    there = {name: path for name, path in found.items() if path is not None}
    if not there:
        return None
    folder = next(iter(there.values())).parents[1]
    # Weights come last, so that the configs of all networks are there.
    configs = [f"{part}/config.json" for part in MORE]
    stems = stems_of([*there, *(n for n in configs if (folder / n).is_file())])
    whole = [is_whole(folder / part, stem) for part, stem in stems.items()]
    return folder if all(whole) else None


def stems_of(files: Iterable[str]) -> dict[str, str]:
    """Folder and stem of each network of a repository with these files: `STEMS`, with a
    transformer in the UNet's place where there is one and no UNet, and of `MORE` those
    that it has a config of."""
    files = set(files)
    more = {part: stem for part, stem in MORE.items() if f"{part}/config.json" in files}
    if "unet/config.json" in files or f"{TRANSFORMER}/config.json" not in files:
        return STEMS | more
    named = {TRANSFORMER: STEMS["unet"]} | STEMS | more
    return {part: stem for part, stem in named.items() if part != "unet"}


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
    files = sorted(files)
    needed = needed_files(files)
    for part in stems_of(files):
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
    stems = stems_of(files)
    folders = ("scheduler/", "tokenizer/", "tokenizer_2/", "tokenizer_3/")
    needed = [
        name
        for name in files
        if name == "model_index.json"
        or name in {f"{part}/config.json" for part in stems}
        or name.startswith(folders)
    ]
    for part, stem in stems.items():
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


class TensorFolder(Tensors):
    """The tensors beside one `config.json`.

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
            pickles = [n for n in files if n.endswith(PICKLES)]
            if pickles:
                raise ValueError(f"{folder} holds only pickles {pickles}. {CONVERT}")
            raise FileNotFoundError(f"no {stem}.safetensors in {folder}. {WHERE}")
        path = folder / chosen
        paths = [path]
        if chosen.endswith(".json"):
            paths = [folder / name for name in shards(path)]
        super().__init__(path, [open_tensors(path) for path in paths], rename)


@contextlib.contextmanager
def naming(place: pathlib.Path) -> Iterator[None]:
    """Names a folder or file in a ValueError that was raised about its contents."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None

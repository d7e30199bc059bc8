"""Repositories on the Hugging Face hub: what its cache holds, and fetching the rest.

The hub is asked only for what is not in its cache, so a repository that was fetched
once stays as it was. A newer state is had by naming it: "owner/name@revision".
"""

import contextlib
import functools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator

from sbir_jax.runtime import replacing

# Its client is imported where it is needed: it takes a moment, and local folders never
# need it.

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/([\w./-]+\.safetensors)(@[\w./-]+)?")

GATED = (
    "it is gated. Agree to its licence on its page of the hub, log in on this machine "
    "(hf auth login) and ask again"
)
Agree = Callable[[str, int], None]
# Of the whole process: whatever thread needs a model, one person is asked.
_agree: Agree | None = None


@contextlib.contextmanager
def asking(agree: Agree | None) -> Iterator[None]:
    """Has somebody asked before anything is fetched; without it nobody is.

    Args:
      agree: gets what would be fetched ("12 files, 2.13 GB, of owner/name") and its
        bytes, and raises to have it left.
    """
    global _agree
    before, _agree = _agree, agree
    try:
        yield
    finally:
        _agree = before


def is_hub_id(source: str | os.PathLike) -> bool:
    """Whether this can be a repository: "owner/name" or "owner/name@revision"."""
    return _HUB_ID.fullmatch(os.fspath(source)) is not None


def is_hub_file(source: str | os.PathLike) -> bool:
    """Whether this can be a file of a repository: "owner/name/file.safetensors", and
    "@revision" after it."""
    return _HUB_FILE.fullmatch(os.fspath(source)) is not None


def find_file(source: str) -> pathlib.Path:
    """The cache's copy of such a file, fetched where it is not there.

    Raises: FileNotFoundError without such a file or repository, and offline.
    """
    match = _HUB_FILE.fullmatch(source)
    assert match is not None
    name, revision = match[2], match[3] or ""
    repository = match[1] + revision
    if cached_file(repository, name) is None:
        fetch(repository, lambda files: [name] if name in files else [])
    found = cached_file(repository, name)
    if found is None:
        raise FileNotFoundError(f"{repository} has no file {name}")
    return found


def cached_file(source: str, name: str) -> pathlib.Path | None:
    """The cache's copy of one file of a repository; None where it has none.

    Never uses the network.
    """
    import huggingface_hub

    repo, revision = _parts(source)
    try:
        found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
    except ValueError:  # no name that the hub would take, so nothing of it is here
        return None
    return pathlib.Path(found) if isinstance(found, str) else None


def find_folder(
    source: str | os.PathLike[str],
    cached: Callable[[str], pathlib.Path | None],
    choose: Callable[[str, Iterable[str]], list[str]],
    where: str,
) -> pathlib.Path:
    """The local folder of a path or of a hub id ("owner/name@revision").

    Files of a hub id are fetched to the cache first, unless they are there.

    Args:
      cached: where the cache has a repository; None unless it is whole there.
      choose: of a repository and all its file names, those that are needed.
      where: said in errors, of where such a folder is to be had.
    Raises: FileNotFoundError: no such folder, repository or revision; what `choose`
      raises.
    """
    folder = pathlib.Path(source).expanduser()
    replacing.recover(folder)
    if not folder.exists() and is_hub_id(source):
        name = os.fspath(source)
        if there := cached(name):
            return there
        try:
            fetched = fetch(name, functools.partial(choose, name))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}\n{where}") from error
        assert fetched is not None  # `choose` always names some files
        return fetched
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. {where}")
    return folder


def fetch(
    source: str, choose: Callable[[Iterable[str]], list[str]]
) -> pathlib.Path | None:
    """Fetches files of a repository into the cache, and says before how much it is.

    Weights come last, so that where they are, everything else is, even after a kill.

    Args:
      choose: of all its file names, those that are needed.
    Returns: the folder they are in; None where nothing is needed.
    Raises: FileNotFoundError without such a repository, without network, offline, and
      where a licence is to be agreed to first; what somebody raises who is asked
      (`asking`).
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        raise _not_had(source, "offline mode is on (HF_HUB_OFFLINE)")
    repo, revision = _parts(source)
    try:
        hub = huggingface_hub.HfApi()
        info = hub.model_info(repo, revision=revision, files_metadata=True)
    except Exception as error:  # of a kind that depends on the hub's HTTP library
        raise _not_had(source, error) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = choose(sizes)
    if not wanted:
        return None
    missing = [name for name in wanted if cached_file(source, name) is None]
    files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    size = sum(sizes[name] for name in missing)
    what = f"{files}, {_readable(size)}, of {source}"
    if _agree is not None:
        _agree(what, size)
    print(
        f"fetching {what} into {constants.HF_HUB_CACHE}",
        file=sys.stderr,
        flush=True,
    )
    weights = [name for name in wanted if name.endswith(".safetensors")]
    others = [name for name in wanted if name not in weights]
    get = functools.partial(huggingface_hub.snapshot_download, repo, revision=revision)
    try:
        folders = [get(allow_patterns=names) for names in (others, weights) if names]
    except errors.GatedRepoError as error:  # anybody sees its list of files
        raise _not_had(source, GATED) from error
    return pathlib.Path(folders[-1])


def _parts(source: str) -> tuple[str, str | None]:
    repo, _, revision = source.partition("@")
    return repo, revision or None


def _not_had(source: str, reason: object) -> FileNotFoundError:
    return FileNotFoundError(
        f"{source} is no local folder, is not whole in the hub's cache and could not "
        f"be fetched: {reason}"
    )


def _readable(size: int | float) -> str:
    """A number of bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"

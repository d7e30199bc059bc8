"""A very large gallery, embedded by many workers with Ray Data, into an ordinary index.

python -m sbir_jax.search.distribute s3://bucket/photos --out photos.index \\
    --model runs/sketchy --workers 8 --each GPU=1

The photos are listed once and cut into shards. Each worker holds one embedder and turns
whole shards into the two files of `shards.py`; the process that was started writes
them, so workers need no common folder. Without a cluster the workers are processes of
this machine. A killed worker is started again and does its shard again. A killed run
goes on with the shards that are missing, by the same command. The list lies in
INDEX/shards/plan.parquet until all are there.

Needs the extra: pip install 'sbir_jax[scale]'
"""

import argparse
import functools
import io
import json
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from sbir_jax.data import images
from sbir_jax.data.tree import Skipped
from sbir_jax.search import photos
from sbir_jax.search.build import Embeds, Summary
from sbir_jax.search.integrity import replace
from sbir_jax.search.model_paths import with_relative
from sbir_jax.search.photos import Photo
from sbir_jax.search.shard_worker import (
    NOTES,
    Worker,
    as_photos,
    as_table,
    open_embedder,
)
from sbir_jax.search.shard_writer import IndexBusy, Writer
from sbir_jax.search.shards import SHARD_ROWS, Head


def distribute(
    sources: Sequence[photos.Source],
    out: str | os.PathLike,
    make: Callable[[], Embeds],
    workers: int = 1,
    each: Mapping[str, float] | None = None,
    shard_rows: int = SHARD_ROWS,
    progress: bool = True,
) -> Summary:
    """Embeds all photos of `sources` into a new index, or goes on with one.

    The index is the one that `build` makes, but for two things: photos with the same
    contents are embedded each, and a photo that cannot be used has a row of zeros that
    does not count. `build` brings it up to date later.

    Args:
      sources: as for `photos.list_photos`, and folders in an object store
        ("s3://bucket/folder", "gs://...": what `pyarrow.fs` opens).
      make: called once by each worker; what it returns must be the same for all.
      workers: embedders at a time.
      each: what Ray is to reserve for each worker: {"GPU": 1}, {"TPU": 4}; by default
        {"CPU": 1}.
      shard_rows: photos a shard: what a killed worker does again.
    Raises: FileNotFoundError and ValueError for sources; ValueError for a folder that
      holds a finished index or one of other photos, and where the shards were made by
      another embedder; IndexBusy; what `make` raises, as Ray wraps it.
    """
    begin = time.perf_counter()
    folder = pathlib.Path(out)
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "lock")
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        raise IndexBusy(f"{folder} is being written by another process") from None
    with held:
        plan, given = _plan(folder, sources, shard_rows)
        rows = given["shard_rows"]
        shards = range(-(-len(plan) // rows))
        missing = [i for i in shards if not _shard(folder, i).exists()]
        bar = tqdm(
            total=len(plan),
            initial=len(plan)
            - sum(len(plan[i * rows : (i + 1) * rows]) for i in missing),
            desc="embed",
            unit="photo",
            disable=not progress,
        )
        with bar:
            parts = {i: plan[i * rows : (i + 1) * rows] for i in missing}
            for i, npy, table in _embedded(parts, make, workers, dict(each or {})):
                path = _shard(folder, i)
                # In this order: a shard is whole once it has a parquet.
                replace(path.with_suffix(".npy"), lambda file, npy=npy: file.write(npy))
                replace(path, lambda file, table=table: file.write(table))
                bar.update(len(parts[i]))
        head, lost = _notes(folder, shards, rows)
    skipped = [*(Skipped(*item) for item in given["skipped"]), *lost.values()]
    with Writer(folder, head) as writer:
        writer.mark_removed(lost)
        writer.flush()
        writer.write_skipped(skipped)
    (folder / "shards" / "plan.parquet").unlink()
    added = len(plan) - len(lost)
    embedded = sum(len(part) for part in parts.values())
    return Summary(
        added=added,
        changed=0,
        unchanged=0,
        moved=0,
        removed=0,
        skipped=len(skipped),
        embedded=embedded,
        photos=added,
        seconds=time.perf_counter() - begin,
        waiting_share=0.0,  # Only the workers know.
    )


def list_photos(sources: Sequence[photos.Source]) -> tuple[list[Photo], list[Skipped]]:
    """As `photos.list_photos`, also from object stores; sorted by path.

    Raises: ValueError for an address that cannot be opened or holds no photo.
    """
    found: dict[str, Photo] = {}
    skipped: list[Skipped] = []
    local = [source for source in sources if "://" not in os.fspath(source)]
    if local:
        listing = photos.list_photos(local)
        found = {photo.path: photo for photo in listing.photos}
        skipped = list(listing.skipped)
    for source in [os.fspath(source) for source in sources]:
        if "://" not in source:
            continue
        scheme = source.partition("://")[0]
        before = len(found)
        try:
            files, path = pyarrow.fs.FileSystem.from_uri(source)
            selector = pyarrow.fs.FileSelector(path, recursive=True)
            infos = files.get_file_info(selector)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{source} cannot be listed: {error}") from error
        for info in infos:
            below = info.path[len(path) :].split("/")
            hidden = any(name.startswith(".") for name in below)
            extension = os.path.splitext(info.path)[1].lower()
            if info.is_file and not hidden and extension in images.EXTENSIONS:
                address = f"{scheme}://{info.path}"
                found[address] = Photo(address, info.size, info.mtime_ns or 0)
        if len(found) == before:
            raise ValueError(f"{source} holds no photo")
    return [found[path] for path in sorted(found)], skipped


def _embedded(
    parts: Mapping[int, Sequence[Photo]],
    make: Callable[[], Embeds],
    workers: int,
    each: dict[str, float],
) -> Iterator[tuple[int, bytes, bytes]]:
    """Shards in any order, as the workers finish them."""
    if not parts:
        return
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"{error}: pip install 'sbir_jax[scale]'", name="ray"
        ) from error
    if not ray.is_initialized():
        with warnings.catch_warnings():
            # What Ray forks becomes another program at once, so JAX need not mind.
            warnings.filterwarnings("ignore", message=r"os\.fork")
            ray.init(include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = []
    for shard, part in parts.items():
        stream = io.BytesIO()
        table = as_table(part)
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        rows.append({"shard": shard, "plan": stream.getvalue()})
    reserved = {
        "num_cpus": each.pop("CPU", 1.0),
        "num_gpus": each.pop("GPU", None),
        "resources": each or None,
    }
    # One block a shard: a worker that dies costs the shards it was at. Ray Data starts
    # it again, as often as need be, and hands them out once more.
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Worker,  # pyright: ignore[reportArgumentType]
        fn_constructor_args=(make,),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        **{name: value for name, value in reserved.items() if value is not None},
    )
    for row in done.iter_rows():
        yield int(row["shard"]), row["npy"], row["parquet"]


def _plan(
    folder: pathlib.Path, sources: Sequence[photos.Source], shard_rows: int
) -> tuple[list[Photo], dict[str, Any]]:
    """The photos of the whole run, and what it was started with."""
    path = folder / "shards" / "plan.parquet"
    wanted = [os.fspath(source) for source in sources]
    if path.exists():
        table = pq.read_table(path)
        given = json.loads(table.schema.metadata[NOTES])
        if given["sources"] != wanted:
            raise ValueError(
                f"{folder} is an unfinished index of {', '.join(given['sources'])}; "
                "finish it with these, or give a new folder"
            )
        return as_photos(table), given
    if (folder / "index.json").exists():
        raise ValueError(
            f"{folder} is a finished index. Bring it up to date with: sbir index "
            f"PHOTOS --out {folder}"
        )
    if any(path.parent.glob("*.parquet")):
        raise ValueError(f"{folder} holds shards of no known run; give a new folder")
    found, skipped = list_photos(sources)
    if not found:
        raise ValueError(f"no photos in {', '.join(wanted)}")
    given = {"sources": wanted, "shard_rows": shard_rows, "skipped": skipped}
    table = as_table(found)
    table = table.replace_schema_metadata({NOTES: json.dumps(given).encode()})
    replace(path, lambda file: pq.write_table(table, file, compression="zstd"))
    return found, given


def _shard(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / "shards" / f"{number:06d}.parquet"


def _notes(
    folder: pathlib.Path, shards: Sequence[int], shard_rows: int
) -> tuple[Head, dict[int, Skipped]]:
    """Who embedded the shards, and the rows without a descriptor."""
    head, lost = None, {}
    for number in shards:
        file = pq.ParquetFile(_shard(folder, number))
        notes = json.loads(file.schema_arrow.metadata[NOTES])
        if head is None:
            source = with_relative(notes["embedder"], folder)
            made = notes["fingerprint"], notes["dim"], source
            head = Head(*made, shard_rows=shard_rows)
        head.check(notes["fingerprint"], f"{folder} up to shard {number}")
        if notes["lost"]:
            paths = file.read(["path"])["path"]
            for row, reason in notes["lost"].items():
                skipped = Skipped(paths[int(row)].as_py(), reason)
                lost[number * shard_rows + int(row)] = skipped
    assert head is not None  # a plan is never empty
    return head, lost


def _resources(text: str) -> dict[str, float]:
    """ "GPU=1,CPU=4" as a dict."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: float(value) for name, _, value in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="RAY_ADDRESS says which cluster; without it, this machine.",
    )
    parser.add_argument("photos", nargs="+", help="folders, tables, s3:// or gs://")
    parser.add_argument("--out", required=True, metavar="INDEX")
    parser.add_argument("--model", default="toybox", help="as of sbir index")
    parser.add_argument("--task", help="as of sbir index")
    parser.add_argument(
        "--batch-size", type=int, default=0, help="images at a time, as of sbir index"
    )
    parser.add_argument("--workers", type=int, default=1, help="embedders at a time")
    parser.add_argument(
        "--each",
        type=_resources,
        default={},
        metavar="GPU=1",
        help="what each worker takes of the cluster: CPU, GPU or TPU (chips)",
    )
    parser.add_argument("--shard-rows", type=int, default=SHARD_ROWS)
    args = parser.parse_args()
    make = functools.partial(open_embedder, args.model, args.task, args.batch_size)
    found = distribute(
        args.photos, args.out, make, args.workers, args.each, args.shard_rows
    )
    rate = tqdm.format_sizeof(found.embedded / found.seconds)
    print(
        f"{found.photos} photos in {args.out}, {found.skipped} skipped "
        f"(skipped.csv); {found.embedded} embedded now, {rate} photos/s"
    )


if __name__ == "__main__":
    main()

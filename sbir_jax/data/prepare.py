"""Prepared copies on disk: written once, taken whole or not at all.

One folder per data set and key: `<cache>/<name>-<key>/`, holding what tfds wrote
(readable with `tfds.data_source(name, data_dir=...)`), a parquet table per split,
`skipped.jsonl` and `prepared.json`. The key names the state of the source, so a source
that changed is prepared afresh beside the old copy. Old copies are not deleted.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from absl import logging

from sbir_jax.data.builders import MODALITIES
from sbir_jax.data.tree import DataError, Skipped

FORMAT = 2  # part of every key: raise it when the prepared form changes


def cache_folder(cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """`cache_dir`, else $SBIR_CACHE, else ~/.cache/sbir_jax/data."""
    chosen = cache_dir or os.environ.get("SBIR_CACHE") or "~/.cache/sbir_jax/data"
    return pathlib.Path(chosen).expanduser()


def prepare(
    name: str,
    key: str,
    make_builder: Callable[[pathlib.Path], tfds.core.GeneratorBasedBuilder],
    manual_dir: pathlib.Path | None,
    cache_dir: str | os.PathLike | None = None,
    finish: Callable[[Any, pathlib.Path, str, str], None] | None = None,
) -> pathlib.Path:
    """The prepared copy for this key; written first where there is none.

    Writing happens in a `.partial` folder that gets its name at the very end: a copy
    that exists is complete, whatever was killed when. Processes of one machine wait for
    each other.

    Args:
      make_builder: makes the builder for a given tfds data_dir.
      manual_dir: the user's files; None where the builder needs none.
      finish: writes the summary, and what goes beside it, for builder, folder, name and
        key; by default the tables of sketches and photos.
    """
    cache = cache_folder(cache_dir)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache folder {cache} cannot be made ({error}). Set SBIR_CACHE or "
            "cache_dir to a place that can be written."
        ) from error
    final = cache / f"{name}-{key}"
    if _complete(final):
        return final
    with filelock.FileLock(cache / f"{name}-{key}.lock"):
        if _complete(final):
            return final
        partial = cache / f"{name}-{key}.partial"
        for left in (partial, final):
            if left.exists():
                shutil.rmtree(left)
        builder = make_builder(partial)
        logging.info("Preparing %s in %s", name, final)
        with _quiet_tfds():
            builder.download_and_prepare(
                download_dir=partial / "downloads",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual_dir, register_checksums=False
                ),
                file_format="array_record",
            )
        shutil.rmtree(partial / "downloads", ignore_errors=True)
        (finish or _write_tables)(builder, partial, name, key)
        os.rename(partial, final)
    return final


def read_summary(prepared: pathlib.Path) -> dict:
    """`prepared.json`: name, key, content fingerprint, classes, counts."""
    return json.loads((prepared / "prepared.json").read_text(encoding="utf-8"))


def write_summary(folder: pathlib.Path, summary: dict) -> None:
    """Writes `prepared.json`: with it a folder is complete."""
    (folder / "prepared.json").write_text(
        json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8"
    )


def read_skipped(prepared: pathlib.Path) -> tuple[Skipped, ...]:
    """The files that were left out of a prepared copy."""
    # Not by `splitlines`: a name may hold what that takes for the end of a line.
    with open(prepared / "skipped.jsonl", encoding="utf-8") as lines:
        return tuple(Skipped(**json.loads(line)) for line in lines)


def read_table(prepared: pathlib.Path, modality: str) -> dict[str, list]:
    """Columns label, instance, id and caption, a row per record of the split."""
    return pq.read_table(prepared / f"{modality}.parquet").to_pydict()


def records(builder: Any, modality: str):
    """Random access to the records of a split, images as undecoded bytes."""
    decoders: Any = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=modality, decoders=decoders)


def _complete(folder: pathlib.Path) -> bool:
    return (folder / "prepared.json").is_file()


def _write_tables(builder, folder: pathlib.Path, name: str, key: str) -> None:
    """Reads the copy back once: tables from what is there, and a hash of all of it."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update("\0".join(builder.info.features["label"].names).encode())
    counts = {}
    for modality in MODALITIES:
        columns: dict[str, list] = {
            c: [] for c in ("label", "instance", "id", "caption")
        }
        for record in records(builder, modality):
            row = (
                int(record["label"]),
                int(record["instance"]),
                record["id"].decode(),
                record["caption"].decode(),
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            digest.update(repr(row).encode())
            digest.update(record["image"])
        counts[modality] = len(columns["id"])
        types = {"label": pa.int32(), "instance": pa.int32()}
        table = {c: pa.array(v, types.get(c, pa.string())) for c, v in columns.items()}
        pq.write_table(pa.table(table), folder / f"{modality}.parquet")
    skipped = getattr(builder, "skipped", [])
    with open(folder / "skipped.jsonl", "w", encoding="utf-8") as out:
        for item in skipped:
            out.write(json.dumps(item._asdict(), ensure_ascii=False) + "\n")
    summary = {
        "name": name,
        "key": key,
        "format": FORMAT,
        "fingerprint": digest.hexdigest(),
        "classes": list(builder.info.features["label"].names),
        "counts": counts | {"skipped": len(skipped)},
    }
    write_summary(folder, summary)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """tfds draws bars without a total and prints the name of the partial folder."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()

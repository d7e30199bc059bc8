"""The console command `sbir`: index a folder of photos, then find them by drawing."""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbir_jax.search.index import Hit, Index

# JAX and the data libraries take seconds to import: only commands that need them do.

PHOTOS = (
    "folders, image files, globs in quotes, or tables (.csv, .parquet) with a column "
    "'path'"
)
SERVE = ("fastapi", "uvicorn", "multipart", "python_multipart")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status, 2 after an error on one line."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print("\nsbir: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in SERVE:
            raise
        message = str(error)
        if error.name in SERVE:
            message += ": pip install 'sbir_jax[serve]'"
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("SBIR_DEBUG"):
            raise
        message = str(error)
    except KeyError as error:
        if type(error) is KeyError:  # not one of ours, which say what is wrong
            raise
        message = str(error)
    print(f"sbir: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sbir", description="Find your photos by drawing."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    index = command(
        "index",
        _index,
        "Make an index of photos, go on with one, or bring it up to date.",
    )
    index.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS)
    index.add_argument("--out", required=True, metavar="INDEX", help="its folder")
    index.add_argument(
        "--model",
        help="a run folder, shared prompts, a Stable Diffusion folder or hub id, or "
        "toybox; by default the index's own, toybox for a new one",
    )
    index.add_argument(
        "--task",
        choices=("category", "fine_grained"),
        default="category",
        help="which layers to read where --model is a backbone (default: category)",
    )
    index.add_argument(
        "--encoder",
        default="",
        help="a distilled encoder, several times faster, where --model is a backbone: "
        "tiny for toybox; a folder or hub id (madebyollin/taesd) for others",
    )
    _building(index)

    add = command("add", _add, "Add photos to an index, or bring some up to date.")
    add.add_argument("index", metavar="INDEX")
    add.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS)
    _building(add)

    remove = command("remove", _remove, "Take photos out of an index; no file is lost.")
    remove.add_argument("index", metavar="INDEX")
    remove.add_argument(
        "paths", nargs="+", metavar="PATH", help="a photo, or a folder with all in it"
    )

    search = command(
        "search", _search, "Find the photos nearest to a drawing, to words, or to both."
    )
    search.add_argument("index", metavar="INDEX")
    search.add_argument(
        "sketch", nargs="?", metavar="SKETCH", help="an image file with a drawing"
    )
    search.add_argument("--text", help="what they show: 'a red cup'")
    search.add_argument(
        "--text-share",
        type=float,
        default=argparse.SUPPRESS,
        metavar="SHARE",
        help="of the words beside the drawing, 0 to 1 (default: 0.5)",
    )
    search.add_argument("-k", type=int, default=20, help="how many (default: 20)")
    search.add_argument(
        "--min-score", type=float, help="only photos with this cosine or more"
    )
    search.add_argument("--save", metavar="SHEET", help="a picture: sheet.png or .jpg")
    search.add_argument("--json", action="store_true", help="print JSON")
    _backend(search)

    explain = command(
        "explain", _explain, "Show which places of a drawing and a photo are alike."
    )
    explain.add_argument("index", metavar="INDEX", help="whose model looks at both")
    explain.add_argument("sketch", metavar="SKETCH", help="an image file")
    explain.add_argument("photo", metavar="PHOTO", help="an image file, or a hit's id")
    explain.add_argument(
        "--save", metavar="SHEET", default="explain.png", help="(default: explain.png)"
    )

    info = command("info", _info, "Show what an index holds.")
    info.add_argument("index", metavar="INDEX")
    info.add_argument("--json", action="store_true", help="print JSON")

    export = command(
        "export", _export, "Write descriptors and paths for other programs."
    )
    export.add_argument("index", metavar="INDEX")
    export.add_argument("out", metavar="FOLDER", help="a new folder")

    serve = command("serve", _serve, "Open a page to draw on, in your browser.")
    serve.add_argument("index", metavar="INDEX")
    serve.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="(default: 8000)")
    serve.add_argument("--token", help="a word that visitors must give")
    _backend(serve)
    return parser


def _building(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="GLOB",
        help="names to pass over, e.g. thumbs or '*.gif'; may be given again",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=0,
        help="photos at a time (default: what fits the memory)",
    )


def _backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", default="exact", help="exact (default), faiss, or milvus:URI"
    )


def _index(args: argparse.Namespace) -> None:
    from sbir_jax.search import model, shards

    _keep_programs()
    _check_batch_size(args.batch_size)
    known = (pathlib.Path(args.out) / "index.json").exists()
    if known and args.model is None and not args.encoder:
        source = shards.read_head(args.out).embedder
        embedder = model.make_embedder(source, args.out, args.batch_size)
    else:
        given = args.model or "toybox", args.task, args.batch_size, args.encoder
        embedder = model.open_model(*given)
    _build(args.photos, args.out, embedder, args.exclude)


def _add(args: argparse.Namespace) -> None:
    from sbir_jax.search import model, shards

    _keep_programs()
    _check_batch_size(args.batch_size)
    source = shards.read_head(args.index).embedder
    embedder = model.make_embedder(source, args.index, args.batch_size)
    _build(args.photos, args.index, embedder, args.exclude)


def _build(sources, out, embedder, exclude) -> None:
    from tqdm import tqdm

    from sbir_jax.data import images
    from sbir_jax.search import shards
    from sbir_jax.search.build import build

    did = dataclasses.asdict(build(sources, out, embedder, exclude))
    seconds, total = did.pop("seconds"), did.pop("photos")
    waiting = did.pop("waiting_share")
    rate = tqdm.format_sizeof(did["embedded"] / max(seconds, 1e-9))
    parts = [f"{n:,} {name}" for name, n in did.items() if n and name != "embedded"]
    line = f"{', '.join(parts) or 'nothing to do'} in {seconds:.1f} s"
    if did["embedded"]:
        line += f" ({rate} photos/s, {waiting:.0%} waiting for files)"
    print(f"{out}: {total:,} photos; {line}")
    if did["skipped"]:
        print(f"skipped files: {pathlib.Path(out) / 'skipped.csv'}")
        paths = [s.path.lower() for s in shards.read_skipped(out)]
        phone = any(path.endswith(".heic") for path in paths)
        if phone and ".heic" not in images.EXTENSIONS:
            print("HEIC photos are read after: pip install 'sbir_jax[heic]'")


def _remove(args: argparse.Namespace) -> None:
    from sbir_jax.search.build import remove

    print(f"{args.index}: {remove(args.paths, args.index):,} photos taken out")


def _search(args: argparse.Namespace) -> None:
    from sbir_jax.data import images
    from sbir_jax.search.sheet import save_sheet, search_sheet, sheet_format

    # Before a model is loaded, which takes longer.
    if args.sketch:
        images.decode(args.sketch)
    if args.save:
        sheet_format(args.save)
    names = ("sketch", "text", "k", "min_score", "text_share")
    asks = {name: value for name, value in vars(args).items() if name in names}
    _keep_programs()
    with _open(args) as index:
        hits = index.search(**asks)
    if args.save:
        save_sheet(search_sheet(args.sketch, hits, args.text), args.save)
    if args.json:
        print(json.dumps([hit._asdict() for hit in hits], indent=2))
        return
    _print_hits(hits)
    line = f"{len(hits)} photos" if hits else "no photo found"
    print(f"{line}; sheet: {args.save}" if args.save else line)


def _explain(args: argparse.Namespace) -> None:
    from sbir_jax.search.explain import explain, save_sheet
    from sbir_jax.search.index import Index
    from sbir_jax.search.sheet import sheet_format

    sheet_format(args.save)  # a name it cannot have is told before any work
    _keep_programs()
    with Index.open(args.index) as index:
        photo = args.photo
        if re.fullmatch("[0-9a-f]{16}", photo) and not os.path.exists(photo):
            try:
                photo = index.photo(photo)
            except KeyError as error:
                raise ValueError(str(error)) from error
        embedder: Any = index.embedder  # the index's own is a whole Embedder
        found = explain(embedder, args.sketch, photo)
    save_sheet(found, args.save)
    print(f"score {found.score:.3f}; sheet: {args.save}")


def _print_hits(hits: "list[Hit]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("photo", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        # As Text: square brackets in a file name are no markup.
        table.add_row(str(rank), f"{hit.score:.3f}", Text(hit.path))
    if hits:
        Console().print(table)


def _info(args: argparse.Namespace) -> None:
    from sbir_jax.search.index import Index

    with Index.open(args.index) as index:
        values = index.info()
    if args.json:
        print(json.dumps(values, indent=2))
        return
    source = values["embedder"] or {"kind": "put together by hand"}
    values["embedder"] = ", ".join(str(value) for value in source.values() if value)
    width = max(map(len, values))
    for name, value in values.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        print(f"{name.replace('_', ' '):<{width}}  {shown}")


def _export(args: argparse.Namespace) -> None:
    from sbir_jax.search.export import export

    print(f"{args.out}: {export(args.index, args.out):,} photos written")


def _serve(args: argparse.Namespace) -> None:
    # First, so that a missing extra is told before a model is loaded.
    from sbir_jax.search import server

    _keep_programs()
    with _open(args) as index:
        server.serve(index, args.host, args.port, args.token)


def _open(args: argparse.Namespace) -> "Index":
    from sbir_jax.search.index import Index

    return Index.open(args.index, backend=args.backend)


def _check_batch_size(size: int) -> None:
    if size < 0:
        raise ValueError(f"--batch-size is {size}; give 1 or more, 0 to find it")


def _keep_programs() -> None:
    from sbir_jax.runtime import hardware

    hardware.keep_programs()


if __name__ == "__main__":
    sys.exit(main())

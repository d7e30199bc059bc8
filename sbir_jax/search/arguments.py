"""What can be typed after `sbir`: commands and their flags."""

import argparse

from sbir_jax.search import default_model, flags

PHOTOS = (
    "folders, image files, globs in quotes, or tables (.csv, .parquet) with a column "
    "'path'"
)


class _Version(argparse.Action):
    """Looked up when it is asked for."""

    def __call__(self, parser, *_) -> None:
        from importlib import metadata

        try:
            version = metadata.version("sbir_jax")
        except metadata.PackageNotFoundError:
            version = "(not installed: run from its source)"
        print(f"sbir {version}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Reads the command line of `sbir`."""
    parser = argparse.ArgumentParser(
        prog="sbir", description="Find your photos by drawing."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print it and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def modelled(name: str, text: str) -> argparse.ArgumentParser:
        parser = command(name, text)
        flags.fetching(parser)
        return parser

    index = modelled(
        "index",
        "Make an index of photos, go on with one, or bring it up to date.",
    )
    index.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS)
    index.add_argument("--out", required=True, metavar="INDEX", help="its folder")
    index.add_argument(
        "--model",
        help="a short name such as sd21 (sbir models lists them), a run folder, shared "
        "prompts, or a diffusers folder or hub id; by default the index's own, "
        f"{default_model.NAME} for a new one",
    )
    index.add_argument(
        "--task",
        choices=("category", "fine_grained"),
        help="which layers to read where --model is a backbone (default: category)",
    )
    index.add_argument(
        "--encoder",
        default="",
        help="a distilled encoder, several times faster, where --model is a backbone: "
        "tiny for toybox; a folder or hub id (madebyollin/taesd) for others",
    )
    flags.building(index)

    add = modelled("add", "Add photos to an index, or bring some up to date.")
    add.add_argument("index", metavar="INDEX")
    add.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS)
    flags.building(add)
    flags.model(add)

    remove = command("remove", "Take photos out of an index; no file is lost.")
    remove.add_argument("index", metavar="INDEX")
    remove.add_argument(
        "paths", nargs="+", metavar="PATH", help="a photo, or a folder with all in it"
    )

    search = modelled(
        "search", "Find the photos nearest to a drawing, to words, or to both."
    )
    search.add_argument("index", metavar="INDEX")
    search.add_argument(
        "sketch",
        nargs="?",
        metavar="SKETCH",
        help="a drawing: an image file, or .svg, .excalidraw, QuickDraw's .ndjson",
    )
    search.add_argument("--text", help="what they show: 'a red cup'")
    search.add_argument(
        "--text-weight",
        type=float,
        default=argparse.SUPPRESS,
        metavar="WEIGHT",
        help="of the words beside the drawing, 0 to 1 (default: 0.5)",
    )
    search.add_argument(
        "--rerank-text",
        type=int,
        nargs="?",
        const=20,
        default=0,
        metavar="N",
        help="put the first N photos in order by the words once more, looking at each "
        "with them, which takes longer (default: 20)",
    )
    flags.reranker(search)
    search.add_argument(
        "--rerank-first",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="how many --rerank puts in a new order (default: 20)",
    )
    flags.imaginer(search)
    search.add_argument(
        "--imagined-weight",
        type=float,
        default=argparse.SUPPRESS,
        metavar="WEIGHT",
        help="of imagined photos beside the drawing, 0 to 1 (default: 0.5)",
    )
    search.add_argument("-k", type=int, default=20, help="how many (default: 20)")
    search.add_argument(
        "--min-score", type=float, help="only photos with this cosine or more"
    )
    search.add_argument(
        "--folder", default="", help="only photos below this folder of the index"
    )
    search.add_argument(
        "--all-copies",
        action="store_true",
        help="show every copy of a photo; by default they stand behind the first",
    )
    flags.drawing(search)
    search.add_argument(
        "--show-prepared",
        metavar="PICTURE",
        help="save what the network sees of the drawing: seen.png or .jpg",
    )
    search.add_argument("--save", metavar="SHEET", help="a picture: sheet.png or .jpg")
    form = search.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument(
        "--paths", action="store_true", help="print paths alone, one a line, for pipes"
    )
    flags.matcher(search)
    flags.backend(search)
    flags.model(search)

    explain = modelled(
        "explain", "Show which places of a drawing and a photo are alike."
    )
    explain.add_argument("index", metavar="INDEX", help="whose model looks at both")
    explain.add_argument("sketch", metavar="SKETCH", help="an image file")
    explain.add_argument("photo", metavar="PHOTO", help="an image file, or a hit's id")
    flags.drawing(explain)
    flags.reranker(explain)
    explain.add_argument(
        "--save", metavar="SHEET", default="explain.png", help="(default: explain.png)"
    )
    flags.model(explain)

    match = modelled("match", "Tell which of some texts fits a photo best.")
    match.add_argument("photo", metavar="PHOTO", help="an image file")
    match.add_argument("texts", nargs="+", metavar="TEXT", help="'a red cup'")
    match.add_argument(
        "--model",
        default="toybox",
        help="a run of the task matching, a short name (sbir models), or a diffusers "
        "folder or hub id (default: toybox)",
    )
    match.add_argument(
        "--save", metavar="SHEET", help="where the best text's words are: words.png"
    )
    match.add_argument("--json", action="store_true", help="print JSON")

    _imagining(modelled("imagine", "Make photos of what a drawing means."))

    models = command("models", "List models by short name, with what they cost.")
    models.add_argument("--json", action="store_true", help="print JSON")

    info = command("info", "Show what an index holds.")
    info.add_argument("index", metavar="INDEX")
    info.add_argument("--json", action="store_true", help="print JSON")

    export = command("export", "Write descriptors and paths for other programs.")
    export.add_argument("index", metavar="INDEX")
    export.add_argument("out", metavar="FOLDER", help="a new folder")

    _dense(
        modelled("segment", "Find the places of words in photos."),
        modelled("depth", "Estimate how far everything in photos is."),
    )

    serve = modelled("serve", "Open a page to draw on, in your browser.")
    serve.add_argument("index", metavar="INDEX")
    serve.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="(default: 8000)")
    serve.add_argument("--token", help="a word that visitors must give")
    flags.matcher(serve)
    flags.reranker(serve)
    flags.imaginer(serve)
    flags.backend(serve)
    flags.model(serve)
    return parser


def _dense(segment: argparse.ArgumentParser, depth: argparse.ArgumentParser) -> None:
    for parser, out in ((segment, "masks"), (depth, "depth")):
        parser.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS)
        parser.add_argument(
            "--out", default=out, metavar="FOLDER", help=f"(default: {out})"
        )
    segment.add_argument(
        "--words", required=True, help="what to look for, with commas: mug,chair"
    )
    kind = segment.add_mutually_exclusive_group()
    kind.add_argument(
        "--run",
        default="",
        help="a run folder of task=segmentation, whose classes the words are, or of "
        "task=referring; without one any words will do, and nothing is trained",
    )
    kind.add_argument(
        "--model",
        default="toybox",
        help="without --run: a short name (sbir models), or a diffusers folder or hub "
        "id (default: toybox)",
    )
    segment.add_argument(
        "--encoder", default="", help="without --run: a distilled one, such as tiny"
    )
    depth.add_argument(
        "--run", required=True, help="a run folder of task=depth; see docs/dense.md"
    )
    depth.add_argument(
        "--place", default="", help="the kind of scene, where the run knows some"
    )


def _imagining(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sketch", metavar="SKETCH", help="a drawing")
    parser.add_argument(
        "--run", required=True, help="a run folder of the task synthesis"
    )
    parser.add_argument("--text", default="", help="'a photo of a red mug'")
    parser.add_argument("-n", type=int, default=4, help="pictures (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument(
        "--out", default="imagined", metavar="FOLDER", help="(default: imagined)"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--edit",
        metavar="REDRAWN",
        help="the drawing with strokes changed: the rest stays",
    )
    other.add_argument(
        "--between", metavar="OTHER", help="the way from SKETCH to this drawing"
    )
    parser.add_argument(
        "--as-drawn", action="store_true", help="take drawings as they are"
    )
    parser.add_argument("--sampler", default="ddim", help="or euler, dpm-solver")
    parser.add_argument(
        "--steps", default="25", help="a number, or ddim25 (default: 25)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=argparse.SUPPRESS,
        help="by the words (default: 3)",
    )
    parser.add_argument(
        "--hold", type=float, default=1.0, help="of the drawing, 0 to 1 (default: 1)"
    )
    for guide in ("lgp", "classifier", "distance"):
        told = "scale of this guide, docs/synthesis.md (default: 0, off)"
        parser.add_argument(f"--{guide}", type=float, default=0.0, help=told)

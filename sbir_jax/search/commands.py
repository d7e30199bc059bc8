"""What each command of `sbir` does, once its flags are checked; the parser is `cli`."""

import argparse
import json
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sbir_jax.search.terminal import clean, plural, standing

if TYPE_CHECKING:
    from sbir_jax.data.tree import Skipped
    from sbir_jax.search.build import Embeds
    from sbir_jax.search.dense_photos import Summary
    from sbir_jax.search.hits import Hit
    from sbir_jax.search.index import Index

REASONS = 5  # of photos that cannot be used, shown on screen
RERANKED = 20  # photos that --rerank puts in a new order


def models(args: argparse.Namespace) -> None:
    from sbir_jax.search import model_table

    print(model_table.as_json() if args.json else model_table.as_text())


def index(args: argparse.Namespace) -> int:
    from sbir_jax.search import default_model, model, shards

    _keep_programs()
    known = (pathlib.Path(args.out) / "index.json").exists()
    if known and not args.model:
        source = shards.read_head(args.out).embedder
        embedder = model.make_embedder(source, args.out, args.batch_size)
    else:
        name = args.model or default_model.choose(args.task, args.encoder)
        if not args.model:
            print(f"sbir: {default_model.told(name)}", file=sys.stderr)
        embedder = model.open_model(name, args.task, args.batch_size, args.encoder)
    return _build(args, args.out, embedder)


def add(args: argparse.Namespace) -> int:
    from sbir_jax.search import model, shards

    _keep_programs()
    source = shards.read_head(args.index).embedder
    embedder = model.make_embedder(source, args.index, args.batch_size, args.model)
    return _build(args, args.index, embedder)


def _build(args: argparse.Namespace, out: str, embedder: "Embeds") -> int:
    """Returns: 1 where no photo at all could be used."""
    from tqdm import tqdm

    from sbir_jax.search import build, shards

    remembered = build.read_exclude(out)
    if remembered:
        print(f"passing over, as before: {clean(', '.join(remembered))}")
    done = build.build(
        args.photos,
        out,
        embedder,
        args.exclude,
        prune=args.prune,
        reread=args.reread,
    )
    names = "added changed unchanged moved removed".split()
    parts = [f"{getattr(done, name):,} {name}" for name in names]
    parts = [part for part in parts if not part.startswith("0 ")]
    parts += [f"{done.skipped:,} could not be used"] * bool(done.skipped)
    parts += [plural(done.others, "other file")] * bool(done.others)
    line = f"{', '.join(parts) or 'nothing to do'} in {done.seconds:.1f} s"
    if done.embedded:
        rate = tqdm.format_sizeof(done.embedded / max(done.seconds, 1e-9))
        line += f" ({rate} photos/s, {done.waiting_share:.0%} waiting for files)"
    print(f"{clean(out)}: {plural(done.photos, 'photo')}; {line}")
    if done.skipped:
        _print_skipped(shards.read_skipped(out), pathlib.Path(out) / "skipped.csv")
    _warn_vanished(done.vanished)
    return int(not done.photos)


def _print_skipped(
    skipped: Sequence["Skipped | tuple[str, str]"], where: pathlib.Path
) -> None:
    for path, reason in skipped[:REASONS]:
        print(clean(f"  not used: {path}: {reason}"))
    more = len(skipped) - REASONS
    if more > 0:
        print(clean(f"  and {more:,} more, in {where}"))


def _warn_vanished(vanished: Mapping[str, int]) -> None:
    for folder, count in vanished.items():
        line = (
            f"sbir: warning: {folder} does not show its {plural(count, 'photo')} any "
            "more (a share or drive that is away?): they stay in the index. If they "
            "are gone for good, run it again with --prune"
        )
        print(clean(line), file=sys.stderr)


def remove(args: argparse.Namespace) -> None:
    from sbir_jax.search.build import remove

    count = remove(args.paths, args.index)
    print(f"{clean(args.index)}: {plural(count, 'photo')} taken out")


def search(args: argparse.Namespace) -> None:
    from sbir_jax.search.sheet import save_sheet, search_sheet, sheet_format
    from sbir_jax.text_queries import WEIGHT

    # Before a model is loaded, which takes longer.
    for picture in filter(None, (args.save, args.show_prepared)):
        sheet_format(picture)
    sketch = _drawing(args) if args.sketch else None
    names = ("text", "k", "min_score", "text_weight", "folder", "rerank_text")
    asks = {name: value for name, value in vars(args).items() if name in names}
    asks["rerank"] = vars(args).get("rerank_first", RERANKED) if args.rerank else 0
    if args.imagine:
        asks["imagined_weight"] = vars(args).get("imagined_weight", WEIGHT)
    asks["fold"] = not args.all_copies
    _keep_programs()
    with _open(args) as opened:
        hits = opened.search(sketch, prepare=False, **asks)
        if args.show_prepared:
            save_sheet(_as_seen(sketch, opened.embedder), args.show_prepared)
    if args.save:
        save_sheet(search_sheet(args.sketch, hits, args.text), args.save)
    if args.json:
        print(json.dumps([hit._asdict() for hit in hits], indent=2))
        return
    if args.paths:
        _print_paths([hit.path for hit in hits])
        return
    _print_hits(hits)
    line = plural(len(hits), "photo") if hits else "no photo found"
    for name, path in (("sheet", args.save), ("as seen", args.show_prepared)):
        line += f"; {name}: {clean(path)}" if path else ""
    print(line)


def _drawing(args: argparse.Namespace) -> Any:
    """The drawing as it is searched with. Raises: BadImage, NoInk."""
    from sbir_jax.data import images
    from sbir_jax.data.sketch_preparation import prepare

    if args.as_drawn:
        return images.decode(args.sketch)
    return prepare(args.sketch)


def _as_seen(sketch: Any, embedder: Any) -> Any:
    """What the network sees, each of its pixels large enough to be looked at."""
    from PIL import Image

    from sbir_jax.data import images

    size = embedder.size
    seen = Image.fromarray(images.decode(sketch, size, images.FIT["sketch"]))
    side = size * max(1, 512 // size)
    return seen.resize((side, side), Image.Resampling.NEAREST)


def match(args: argparse.Namespace) -> None:
    from sbir_jax.data import images
    from sbir_jax.search.sheet import save_sheet, sheet_format
    from sbir_jax.tasks.matching import rivals, sections
    from sbir_jax.tasks.matching.matcher import Matcher

    if args.save:
        sheet_format(args.save)
    images.decode(args.photo, 64)  # what cannot be read is told before a model loads
    _keep_programs()
    scorer = rivals.open_scorer(args.model)
    scores = scorer.score([args.photo], args.texts)[0].tolist()
    found = sorted(zip(scores, args.texts, strict=True), key=lambda pair: -pair[0])
    if args.save:
        matcher = scorer if isinstance(scorer, Matcher) else scorer.matcher
        save_sheet(sections.word_sheet(matcher, args.photo, found[0][1]), args.save)
    if args.json:
        print(json.dumps([{"text": t, "score": s} for s, t in found], indent=2))
        return
    for score, text in found:
        print(f"{score:8.4f}  {clean(text)}")
    sheet = f"; sheet: {clean(args.save)}" if args.save else ""
    print(f"best first, of {plural(len(found), 'text')}{sheet}")


def imagine(args: argparse.Namespace) -> None:
    from sbir_jax.search import imagining

    _keep_programs()
    files = imagining.run(args)
    for path in files:
        print(clean(str(path)))
    print(f"{plural(len(files), 'picture')}, seed {args.seed}, in {clean(args.out)}")


def _print_paths(paths: Sequence[str]) -> None:
    """As they are for programs, harmless for a terminal."""
    for path in paths:
        print(clean(path) if sys.stdout.isatty() else path)


def explain(args: argparse.Namespace) -> None:
    from sbir_jax.search.explain import explain, save_sheet
    from sbir_jax.search.index import Index
    from sbir_jax.search.sheet import sheet_format

    sheet_format(args.save)  # a name it cannot have is told before any work
    sketch = _drawing(args)
    _keep_programs()
    given = {"model": args.model, "reranker": args.rerank}
    with Index.open(args.index, **given) as index:
        photo = args.photo
        if re.fullmatch("[0-9a-f]{16}", photo) and not os.path.exists(photo):
            try:
                photo = index.photo(photo)
            except KeyError as error:
                raise ValueError(str(error)) from error
        model: Any = index.reranker or index.embedder  # its own is a whole Embedder
        found = explain(model, sketch, photo)
    save_sheet(found, args.save)
    print(f"score {found.score:.3f}; sheet: {clean(args.save)}")


def _print_hits(hits: "list[Hit]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("stands out", justify="right")
    table.add_column("photo", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        # As Text: square brackets in a file name are no markup.
        copies = f"  (and {plural(len(hit.copies), 'copy')})" * bool(hit.copies)
        photo = Text(clean(hit.path) + copies)
        table.add_row(str(rank), standing(hit), photo)
    if hits:
        Console().print(table)


def info(args: argparse.Namespace) -> None:
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
        print(f"{name.replace('_', ' '):<{width}}  {clean(str(shown))}")


def export(args: argparse.Namespace) -> None:
    from sbir_jax.search.export import export

    count = export(args.index, args.out)
    print(f"{clean(args.out)}: {plural(count, 'photo')} written")


def segment(args: argparse.Namespace) -> int:
    from sbir_jax.dense.segmenter import Segmenter
    from sbir_jax.search import dense_photos

    _keep_programs()
    if args.run:
        segmenter = Segmenter.from_run(args.run)
    else:
        segmenter = Segmenter(args.model, args.encoder)
    words, out = args.words.split(","), pathlib.Path(args.out)
    done = dense_photos.segment_photos(args.photos, out, segmenter, words)
    return _say_made(done, out, "masks")


def depth(args: argparse.Namespace) -> int:
    from sbir_jax.dense.depth_estimator import DepthEstimator
    from sbir_jax.search import dense_photos

    _keep_programs()
    estimator, out = DepthEstimator.from_run(args.run), pathlib.Path(args.out)
    done = dense_photos.depth_photos(args.photos, out, estimator, args.place)
    return _say_made(done, out, "depth")


def _say_made(done: "Summary", out: pathlib.Path, kind: str) -> int:
    """Returns: 1 where no photo at all could be used."""
    if done.skipped:
        skipped = [(path, reason) for path, reason in done.skipped]
        _print_skipped(skipped, out / "skipped.csv")
    line = f"{plural(done.made, 'photo')} done"
    line += f", {done.before:,} before" if done.before else ""
    line += f", {len(done.skipped):,} could not be used" if done.skipped else ""
    print(clean(f"{line}; pictures in {out}, {kind} in {out / kind}"))
    return int(not done.made and not done.before)


def serve(args: argparse.Namespace) -> None:
    # First, so that a missing extra is told before a model is loaded.
    from sbir_jax.search import server

    _keep_programs()
    with _open(args) as index:
        server.serve(index, args.host, args.port, args.token)


def _open(args: argparse.Namespace) -> "Index":
    from sbir_jax.search.index import Index

    given = {name: vars(args)[name] for name in ("backend", "model", "matcher")}
    given |= {"reranker": args.rerank, "imaginer": args.imagine}
    return Index.open(args.index, **given)


def _keep_programs() -> None:
    from sbir_jax.runtime import hardware

    hardware.keep_programs()

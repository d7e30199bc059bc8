"""Flags that would be ignored beside others, or mean nothing: errors, all in here."""

import argparse
import math
import os


def check(args: argparse.Namespace) -> None:
    """Args:
      args: of a whole command, from `arguments.parser`.
    Raises: ValueError naming the flag, the rule and the remedy.
    """
    if vars(args).get("batch_size", 0) < 0:
        raise ValueError(
            f"--batch-size is {args.batch_size}; give 1 or more, 0 to find it"
        )
    if "" in vars(args).get("exclude", []):
        raise ValueError("--exclude is empty; give a name or a glob")
    if args.command in _COMMANDS:
        _COMMANDS[args.command](args)


def _index(args: argparse.Namespace) -> None:
    known = os.path.exists(os.path.join(args.out, "index.json"))
    for flag in ("task", "encoder"):
        if known and not args.model and vars(args)[flag]:
            raise ValueError(
                f"--{flag} is {vars(args)[flag]!r}, and {args.out} has its model "
                "already, which says so itself: leave it out, or give a new --out"
            )


def _search(args: argparse.Namespace) -> None:
    _search_words(args)
    _search_drawing(args)
    if args.min_score is not None and not math.isfinite(args.min_score):
        raise ValueError(
            f"--min-score is {args.min_score}; give a cosine, from -1 to 1"
        )


def _search_words(args: argparse.Namespace) -> None:
    if args.text is not None and not args.text.strip():
        raise ValueError("--text is blank; give words, or leave it out")
    if "text_weight" in args and not (args.text and args.sketch):
        raise ValueError(
            "--text-weight weighs words beside a drawing: give --text and a SKETCH"
        )
    if args.rerank_text and not args.text:
        raise ValueError("--rerank-text orders photos by words: give --text")
    if args.matcher and not args.rerank_text:
        raise ValueError("--matcher is for --rerank-text: give that too")


def _search_drawing(args: argparse.Namespace) -> None:
    if args.show_prepared and not args.sketch:
        raise ValueError("--show-prepared shows a drawing: give a SKETCH")
    if args.as_drawn and not args.sketch:
        raise ValueError("--as-drawn is about a drawing: give a SKETCH")
    if args.rerank and not args.sketch:
        raise ValueError("--rerank orders photos by a drawing: give one")
    if "rerank_first" in args and not args.rerank:
        raise ValueError(
            "--rerank-first says how many --rerank RUN orders: give that too"
        )
    if "rerank_first" in args and args.rerank_first < 1:
        raise ValueError(
            f"--rerank-first is {args.rerank_first}; give 1 or more photos, or leave "
            "--rerank out"
        )
    if args.imagine and not args.sketch:
        raise ValueError("--imagine makes photos of a drawing: give a SKETCH")
    if "imagined_weight" in args and not args.imagine:
        raise ValueError(
            "--imagined-weight weighs what --imagine RUN makes: give that too"
        )


def _explain(args: argparse.Namespace) -> None:
    if args.rerank and args.model:
        raise ValueError(
            "--model is the index's model, and --rerank explains without it: give one "
            "of the two"
        )


def _imagine(args: argparse.Namespace) -> None:
    if args.n < (2 if args.between else 1):
        raise ValueError(
            f"-n is {args.n}; give 1 or more pictures, 2 or more with --between"
        )
    if "guidance" in args and not args.text.strip():
        raise ValueError("--guidance is by words: give --text")


def _segment(args: argparse.Namespace) -> None:
    if args.run and args.encoder:
        raise ValueError(
            f"--encoder is {args.encoder!r}, and {args.run} says itself which one it "
            "was trained with: leave it out"
        )


_COMMANDS = {
    "index": _index,
    "search": _search,
    "explain": _explain,
    "imagine": _imagine,
    "segment": _segment,
}

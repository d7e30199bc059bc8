"""The console command `sbir`: index a folder of photos, then find them by drawing."""

import argparse
import math
import os
import sys
from collections.abc import Sequence

from sbir_jax.runtime import stops
from sbir_jax.search import arguments
from sbir_jax.search.terminal import clean, explained

# JAX and the data libraries take seconds to import: only commands that need them do.

SERVE = ("fastapi", "uvicorn", "multipart", "python_multipart")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status, 2 after an error on one line."""
    parser = arguments.parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        with stops.polite_kill_interrupts():
            _check(args)
            return _run(args)
    except KeyboardInterrupt:
        line = "stopped"
        if args.command in ("index", "add"):
            out = args.out if args.command == "index" else args.index
            line += f"; what was embedded is kept in {clean(out)}, and the same command"
            line += " goes on from here"
        print(f"\nsbir: {line}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has enough
        sys.stdout = open(os.devnull, "w")
        return 141
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in SERVE:
            raise
        message = str(error)
        if error.name in SERVE:
            message += ": pip install 'sbir_jax[serve]'"
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("SBIR_DEBUG"):
            raise
        message = explained(error)
    except KeyError as error:
        if type(error) is KeyError:  # not one of ours, which say what is wrong
            raise
        message = str(error)
    print(f"sbir: error: {clean(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _run(args: argparse.Namespace) -> int:
    from sbir_jax.backbones import hub
    from sbir_jax.search import commands, consent

    agree = None if getattr(args, "yes", False) else consent.ask
    with hub.asking(agree):
        return getattr(commands, args.command)(args) or 0


def _check(args: argparse.Namespace) -> None:
    """Flags that would be ignored, or mean nothing. Raises: ValueError."""
    given = vars(args)
    if given.get("batch_size", 0) < 0:
        raise ValueError(
            f"--batch-size is {args.batch_size}; give 1 or more, 0 to find it"
        )
    if "" in given.get("exclude", []):
        raise ValueError("--exclude is empty; give a name or a glob")
    if args.command == "index" and not args.model:
        known = os.path.exists(os.path.join(args.out, "index.json"))
        for flag in ("task", "encoder"):
            if known and given[flag]:
                raise ValueError(
                    f"--{flag} is {given[flag]!r}, and {args.out} has its model "
                    "already, which says so itself: leave it out, or give a new --out"
                )
    if args.command == "imagine" and args.n < (2 if args.between else 1):
        raise ValueError(
            f"-n is {args.n}; give 1 or more pictures, 2 or more with --between"
        )
    if args.command == "search":
        if args.show_prepared and not args.sketch:
            raise ValueError("--show-prepared shows a drawing: give a SKETCH")
        if args.as_drawn and not args.sketch:
            raise ValueError("--as-drawn is about a drawing: give a SKETCH")
        if "text_share" in given and not (args.text and args.sketch):
            raise ValueError(
                "--text-share weighs words beside a drawing: give --text and a SKETCH"
            )
        if args.rerank_text and not args.text:
            raise ValueError("--rerank-text orders photos by words: give --text")
        if args.rerank and not args.sketch:
            raise ValueError("--rerank orders photos by a drawing: give one")
        if args.imagine and not args.sketch:
            raise ValueError("--imagine makes photos of a drawing: give a SKETCH")
        if "imagined_share" in given and not args.imagine:
            raise ValueError(
                "--imagined-share weighs what --imagine RUN makes: give that too"
            )
        if args.matcher and not args.rerank_text:
            raise ValueError("--matcher is for --rerank-text: give that too")
        if args.min_score is not None and not math.isfinite(args.min_score):
            raise ValueError(
                f"--min-score is {args.min_score}; give a cosine, from -1 to 1"
            )


if __name__ == "__main__":
    sys.exit(main())

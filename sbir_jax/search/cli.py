"""The console command `sbir`: index a folder of photos, then find them by drawing."""

import argparse
import os
import sys
from collections.abc import Sequence

from sbir_jax.runtime import stops
from sbir_jax.search import arguments, flag_rules
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
            flag_rules.check(args)
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


if __name__ == "__main__":
    sys.exit(main())

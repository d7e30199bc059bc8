"""Research face: flags, devices, one run.

python -m sbir_jax.main --config configs/toybox.py --workdir runs/toybox
"""

import logging as python_logging
import os
import pathlib
import shlex
import sys

from absl import app, flags, logging
from ml_collections import config_flags

KEPT = "what was saved is whole"
FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    "config", None, "Experiment, e.g. configs/sketchy.py:split=21", lock_config=True
)
flags.DEFINE_string("workdir", None, "Run folder; the same one goes on with its run.")
flags.DEFINE_string(
    "distributed",
    "",
    "For one run as several processes: auto (the cluster says who is who), or "
    "HOST:PORT,PROCESSES,INDEX.",
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    from sbir_jax import config, experiment, printable
    from sbir_jax.runtime import hardware, multiprocess, stops

    hardware.keep_programs()
    if FLAGS.verbosity <= 0:
        quiet_libraries()

    workdir = pathlib.Path(FLAGS.workdir)
    try:
        with stops.polite_kill_interrupts(), stops.told_where_full(workdir, KEPT):
            multiprocess.start(FLAGS.distributed)
            setup = config.Experiment.from_config(FLAGS.config)
            command = shlex.join(["python", "-m", "sbir_jax.main", *sys.argv[1:]])
            run = experiment.open(setup, workdir)
            summary = run.go(command)
    except KeyboardInterrupt:
        place = printable.clean(str(workdir))
        sys.exit(f"\nstopped; {KEPT} in {place}, and the same command goes on")
    except stops.DiskFull as error:
        print(f"\n{printable.clean_lines(str(error))}", file=sys.stderr, flush=True)
        # At exit libraries would write once more, and tell at length that they fail.
        os._exit(1)
    except (ValueError, OSError, FloatingPointError, TypeError) as error:
        logging.debug("", exc_info=True)
        if FLAGS.verbosity > 0:
            raise
        message = printable.clean_lines(str(error))
        sys.exit(f"\n{type(error).__name__}: {message}")
    if not multiprocess.is_first():
        return
    for text in run.task.texts(summary).values():
        print(text)
    primary = summary["primary"]
    figures = ", ".join(
        f"{result['name']} {result['metrics'][primary]:.3f}"
        for result in summary["results"]
    )
    seconds = summary["timing"]["total_seconds"]
    print(f"{primary}: {figures}  ({seconds:.0f} s)  {summary['page']}")


def quiet_libraries() -> None:
    """Leaves libraries' INFO lines out, which come between the bars; --verbosity=1 not.

    Their warnings stay, and so does what this package says itself.
    """
    own = str(pathlib.Path(__file__).resolve().parent)

    def told(record: python_logging.LogRecord) -> bool:
        mine = record.pathname.startswith(own)
        return mine or record.levelno >= python_logging.WARNING

    logging.get_absl_handler().addFilter(told)


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does it, but for a key that the config lacks: that ends in a message."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        from sbir_jax import config

        found = config.unknown_override(argv)
        sys.exit(f"\n{found or f'{type(error).__name__}: {error}'}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

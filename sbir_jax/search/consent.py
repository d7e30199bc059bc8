"""Asking before a model is fetched: one word in a command can mean gigabytes."""

import sys

ASKED_FROM = 100_000_000  # bytes: of models; prompts and distilled encoders have less


class NotFetched(RuntimeError):
    """A model is not here, and nobody said that it may be fetched."""


def ask(what: str, size: int) -> None:
    """Lets a download of `size` bytes pass where it is small, or where the person at
    the terminal agrees; for `hub.asking`.

    Raises: NotFetched where they do not, and where nobody is at a terminal.
    """
    if size < ASKED_FROM:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotFetched(
            f"{what}, would be fetched, and there is no terminal to ask at: say --yes "
            "if that is right. sbir models lists others, with their sizes"
        )
    question = f"sbir: {what}, will be fetched. Go on? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotFetched(
            f"{what}, were not fetched. sbir models lists others, with their sizes"
        )

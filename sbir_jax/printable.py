"""Texts from anywhere made harmless for a terminal and a log."""

import unicodedata

# Controls, marks that turn the direction of text round, and lone surrogates.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def clean(text: str) -> str:
    r"""With `\x1b` and the like in place of what a terminal would obey.

    Names of files come from anybody, and may hold colours, titles, bells and line ends.
    """
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode()
        if unicodedata.category(c) in _HIDDEN
        else c
        for c in text
    )


def clean_lines(text: str) -> str:
    """As `clean`, with the line ends of a message that has several."""
    return "\n".join(map(clean, text.split("\n")))

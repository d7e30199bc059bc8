"""What was published of each benchmark: classes, splits, folder names, counts.

The lists are files in `splits/`, each with its source. Names are compared as `key` has
them: in lower case, with underscores, and with the known misspellings put right.
"""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sbir_jax.data.tree import DataError, normal_name, parse_names

# The first split of a benchmark is its default.
SPLITS = {
    "sketchy": {
        "21": "Yelamarthi et al. 2018, no class of ImageNet's 1000",
        "25": "drawn by SAKE, also ZSE-SBIR's",
        "25-sempcyc": "drawn by SEM-PCYC",
    },
    "tuberlin": {
        "sake": "30 classes drawn by SAKE, also ZSE-SBIR's",
        "sempcyc": "30 classes drawn by SEM-PCYC, also MARL's",
    },
    "quickdraw": {"30": "Doodle2Search, also ZSE-SBIR's"},
}
TITLES = {
    "sketchy": "Sketchy",
    "tuberlin": "TU-Berlin",
    "quickdraw": "QuickDraw",
    "chairv2": "ChairV2",
    "shoev2": "ShoeV2",
}


class Total(NamedTuple):
    """A published number of files, and of which copy."""

    count: int
    copy: str


# The first is the copy meant by a benchmark's name. QuickDraw's totals are published
# only as "about", so that its unseen classes alone are checked.
SKETCHES = {
    "sketchy": (
        Total(75_481, "the official archive"),
        Total(70_281, "the archive less the 50 sketches a class that SAKE held out"),
    ),
    "tuberlin": (Total(20_000, "the official archive"),),
    "chairv2": (Total(1_275, "the complete set"),),
    "shoev2": (
        Total(6_648, "the set with 5,982 and 666"),
        Total(6_730, "ZSE-SBIR's, with 6,051 and 679"),
    ),
}
PHOTOS = {
    "sketchy": {
        "basic": Total(12_500, "the official archive"),
        "extended": Total(73_002, "the extended archive"),
        "both": Total(85_502, "both archives, as in the lists of SAKE and ZSE-SBIR"),
    },
    "tuberlin": {"": Total(204_070, "ImageResized on disk; papers say 204,489")},
    "chairv2": {"": Total(400, "the complete set")},
    "shoev2": {"": Total(2_000, "the complete set")},
}


@dataclasses.dataclass(frozen=True)
class Split:
    """The unseen classes of a published division.

    Attributes:
      counts: for each unseen class (sketches, photos drawn, photos of the extended
        set); 0 where a benchmark has no such kind; empty where nobody counted.
    """

    benchmark: str
    name: str
    unseen: tuple[str, ...]
    origin: str
    counts: Mapping[str, tuple[int, int, int]]

    @property
    def title(self) -> str:
        return f"{TITLES[self.benchmark]}'s split {self.name}"

    def sketches(self) -> int:
        """How many queries the whole test has; 0 if not published."""
        return sum(sketches for sketches, _, _ in self.counts.values())

    def galleries(self) -> dict[str, int]:
        """How many photos each published gallery has, by the name of the gallery."""
        if not self.counts:
            return {}
        basic = sum(basic for _, basic, _ in self.counts.values())
        extended = sum(extended for _, _, extended in self.counts.values())
        if not basic:
            return {"": extended}
        return {"basic": basic, "extended": extended, "both": basic + extended}

    def expected(self, name: str, gallery: str = "") -> tuple[int, int]:
        """Sketches and photos of one class in a gallery."""
        sketches, basic, extended = self.counts[name]
        photos = {"basic": basic, "both": basic + extended}.get(gallery, extended)
        return sketches, photos


class Match(NamedTuple):
    """How a list of classes compares with the published split that is nearest."""

    split: Split
    missing: tuple[str, ...]  # of the split, not in the list
    extra: tuple[str, ...]  # in the list, not of the split

    @property
    def exact(self) -> bool:
        return not self.missing and not self.extra

    @property
    def overlap(self) -> float:
        """Shared classes over all classes of the two, in [0, 1]."""
        shared = len(self.split.unseen) - len(self.missing)
        return shared / (len(self.split.unseen) + len(self.extra))

    def __str__(self) -> str:
        if self.exact:
            return f"equal to {self.split.title} ({self.split.origin})"
        parts = [f"nearest to {self.split.title}"]
        if self.missing:
            parts.append(f"without its {some(self.missing)}")
        if self.extra:
            parts.append(f"with {some(self.extra)} besides")
        return ", ".join(parts)


@functools.cache
def classes(benchmark: str) -> tuple[str, ...]:
    """All class names of a benchmark, spelt as in the archive of its sketches."""
    return tuple(parse_names(_text(f"{benchmark}_classes.txt")))


@functools.cache
def split(benchmark: str, name: str) -> Split:
    """A published split. Raises: DataError for a name that nobody gave one."""
    known = SPLITS.get(benchmark, {})
    if name not in known:
        raise DataError(
            f"{TITLES.get(benchmark, benchmark)} has no split {name!r}; known are "
            f"{', '.join(known) or 'none'}. For classes of your own choice give "
            "unseen=."
        )
    unseen = tuple(parse_names(_text(f"{benchmark}_unseen_{name}.txt")))
    counts = {}
    for row in _rows("unseen_counts.csv"):
        if (row["benchmark"], row["split"]) == (benchmark, name):
            numbers = (row["sketches"], row["basic"] or 0, row["extended"])
            counts[row["class"]] = tuple(int(n) for n in numbers)
    return Split(benchmark, name, unseen, known[name], counts)


def key(name: str, benchmark: str | None = None) -> str:
    """The form in which class names are compared.

    Of a benchmark, a name that differs from a published one only in marks and spaces,
    or as in the list of folder names, stands for that class.
    """
    normal = normal_name(name)
    if benchmark not in SPLITS:
        return normal
    return _keys(benchmark).get(_squeezed(normal), normal)


def spelling(name: str, benchmark: str) -> str:
    """The published spelling of a class; the name itself where it is none of them."""
    return _spellings(benchmark).get(key(name, benchmark), name)


def nearest(names: Iterable[str], benchmark: str | None = None) -> Match:
    """The published split, of this benchmark or of any, that a list comes nearest to.

    Equal lists are found first; of others the one with the largest overlap.
    """
    names = list(dict.fromkeys(names))
    matches = []
    for one in [benchmark] if benchmark else SPLITS:
        mine = {key(n, one): n for n in names}
        for name in SPLITS[one]:
            published = split(one, name)
            theirs = {key(n, one): n for n in published.unseen}
            missing = tuple(n for k, n in theirs.items() if k not in mine)
            extra = tuple(n for k, n in mine.items() if k not in theirs)
            matches.append(Match(published, missing, extra))
    return max(matches, key=lambda m: m.overlap)


def differences(
    benchmark: str,
    found: Mapping[str, tuple[int, int]],
    name: str | None = None,
    gallery: str = "",
    skipped: int = 0,
) -> list[str]:
    """How a copy differs from the published benchmark, a sentence each, with reasons.

    Args:
      found: sketches and photos on disk, by class.
      name: the split whose unseen classes are counted one by one.
      gallery: Sketchy's "basic", "extended" or "both"; else empty.
      skipped: files that were left out as unreadable or strange.
    """
    notes = []
    if benchmark in SPLITS:
        there = {key(c, benchmark) for c in found}
        lost = [c for c in classes(benchmark) if key(c, benchmark) not in there]
        if lost:
            total = len(classes(benchmark))
            notes.append(f"{len(lost)} of {total} classes not there: {some(lost)}")
        known = {key(c, benchmark) for c in classes(benchmark)}
        new = [c for c in found if key(c, benchmark) not in known]
        if new:
            title = TITLES[benchmark]
            notes.append(f"{len(new)} class(es) that {title} has not: {some(new)}")
    sketches = sum(n for n, _ in found.values())
    photos = sum(n for _, n in found.values())
    of_sketches = SKETCHES.get(benchmark, ())
    of_photos = tuple(t for g, t in PHOTOS.get(benchmark, {}).items() if g == gallery)
    notes += _totals(sketches, of_sketches, "sketches", skipped)
    notes += _totals(photos, of_photos, "photos", skipped)
    if name:
        notes += _unseen(split(benchmark, name), found, gallery)
    return notes


def some(names: Iterable[str], limit: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _totals(count: int, known: tuple[Total, ...], what: str, skipped: int) -> list[str]:
    if not known or count == known[0].count:
        return []
    other = next((t for t in known[1:] if t.count == count), None)
    if other:
        return [f"{count:,} {what}, published {known[0].count:,}: {other.copy}"]
    published = f"{count:,} {what}, published {known[0].count:,} ({known[0].copy})"
    missing = known[0].count - count
    if missing < 0:
        return [f"{published}: {-missing:,} more than published"]
    if missing == skipped:
        return [f"{published}: as many as the {skipped} file(s) left out"]
    part = f"a part, {100 * count / known[0].count:.2g} %"
    left = f"; {skipped} file(s) left out" if skipped else ""
    return [f"{published}: {part}{left}"]


def _unseen(
    published: Split, found: Mapping[str, tuple[int, int]], gallery: str
) -> list[str]:
    if not published.counts:
        return []
    there = {key(c, published.benchmark): n for c, n in found.items()}
    wrong = []
    for name in published.unseen:
        wanted = published.expected(name, gallery)
        mine = there.get(key(name, published.benchmark), (0, 0))
        if mine != wanted:
            wrong.append(
                f"{name} {mine[0]} sketches of {wanted[0]}, {mine[1]} photos of "
                f"{wanted[1]}"
            )
    if not wrong:
        return []
    return [
        f"{len(wrong)} of {len(published.unseen)} unseen classes of {published.title} "
        f"differ in number: {some(wrong, 3)}. Figures on this copy are not those of "
        "the published test."
    ]


@functools.cache
def _spellings(benchmark: str) -> dict[str, str]:
    return {normal_name(c): c for c in classes(benchmark)}


@functools.cache
def _keys(benchmark: str) -> dict[str, str]:
    """From squeezed names, published and misspelt, to the key of their class."""
    keys = {_squeezed(k): k for k in _spellings(benchmark)}
    if benchmark == "tuberlin":
        for row in _rows("tuberlin_aliases.csv"):
            keys[_squeezed(normal_name(row["folder"]))] = normal_name(row["class"])
    return keys


def _squeezed(normal: str) -> str:
    return "".join(c for c in normal if c.isalnum())


def _text(file: str) -> str:
    folder = importlib.resources.files("sbir_jax.data").joinpath("splits")
    return folder.joinpath(file).read_text(encoding="utf-8")


def _rows(file: str) -> list[dict[str, str]]:
    lines = (line for line in _text(file).splitlines() if not line.startswith("#"))
    return list(csv.DictReader(lines))

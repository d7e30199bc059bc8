import importlib.resources

import pytest

from sbir_jax.data import DataError, published
from sbir_jax.data.tree import normal_name, parse_names

ALL = [(b, s) for b, splits in published.SPLITS.items() for s in splits]


@pytest.mark.parametrize(
    "benchmark, count", [("sketchy", 125), ("tuberlin", 250), ("quickdraw", 110)]
)
def test_class_lists(benchmark, count):
    names = published.classes(benchmark)
    assert len(names) == len({normal_name(n) for n in names}) == count
    # No two classes may share the form in which names are compared.
    assert len({published.key(n, benchmark) for n in names}) == count
    for name in names:
        assert published.spelling(name, benchmark) == name
        assert published.spelling(name.upper().replace("-", " "), benchmark) == name


@pytest.mark.parametrize(
    "benchmark, split, count, sketches, galleries",
    [
        ("sketchy", "21", 21, 12694, {"basic": 2100, "extended": 10453, "both": 12553}),
        ("sketchy", "25", 25, 15229, {"basic": 2500, "extended": 14601, "both": 17101}),
        ("sketchy", "25-sempcyc", 25, 0, {}),
        ("tuberlin", "sake", 30, 2400, {"": 27989}),
        ("tuberlin", "sempcyc", 30, 2400, {"": 25708}),
        ("quickdraw", "30", 30, 92291, {"": 54151}),
    ],
)
def test_splits_add_up_to_the_published_totals(
    benchmark, split, count, sketches, galleries
):
    found = published.split(benchmark, split)
    assert len(set(found.unseen)) == count
    known = {published.key(n, benchmark) for n in published.classes(benchmark)}
    assert {published.key(n, benchmark) for n in found.unseen} <= known
    assert found.sketches() == sketches and found.galleries() == galleries
    assert set(found.counts) in (set(found.unseen), set())


def test_counts_of_one_class():
    found = published.split("sketchy", "21")
    assert found.expected("skyscraper", "basic") == (545, 100)
    assert found.expected("skyscraper", "extended") == (545, 161)
    assert found.expected("skyscraper", "both") == (545, 261)
    assert published.split("tuberlin", "sake").expected("ant") == (80, 424)


def test_what_splits_share():
    def shared(benchmark, one, two):
        sets = [
            {published.key(n, benchmark) for n in published.split(benchmark, s).unseen}
            for s in (one, two)
        ]
        return sets[0] & sets[1]

    assert shared("sketchy", "21", "25") == {
        "scissors", "tree", "wheelchair", "windmill",
    }  # fmt: skip
    assert shared("sketchy", "25", "25-sempcyc") == {
        "bell", "squirrel", "tank", "wheelchair",
    }  # fmt: skip
    assert shared("tuberlin", "sake", "sempcyc") == {"rollerblades"}


@pytest.mark.parametrize("benchmark, split", ALL)
def test_a_list_finds_its_split_whatever_the_spelling(benchmark, split):
    names = published.split(benchmark, split).unseen
    odd = [n.replace("_", " ").replace("-", "_").title() for n in reversed(names)]
    for one in (benchmark, None):
        match = published.nearest(odd, one)
        assert match.exact and match.overlap == 1
        assert (match.split.benchmark, match.split.name) == (benchmark, split)
        assert str(match).startswith("equal to")


def test_a_wrong_list_is_told_its_differences():
    names = list(published.split("sketchy", "21").unseen)
    names[names.index("bat")] = "ape"
    match = published.nearest(names)
    assert not match.exact and match.split.name == "21"
    assert match.missing == ("bat",) and match.extra == ("ape",)
    assert match.overlap == pytest.approx(20 / 22)
    said = str(match)
    assert "nearest to Sketchy's split 21" in said
    assert "without its bat" in said and "with ape besides" in said
    # A shuffled order and doubled names change nothing.
    assert published.nearest(names[::-1] + names) == match


def test_palm_tree_is_palm_tree():
    # Doodle2Search's own list says palm_tree where the folder is "palm tree".
    assert published.spelling("palm_tree", "quickdraw") == "palm tree"
    assert published.spelling("Hot_Air_Balloon", "sketchy") == "hot-air_balloon"
    assert published.spelling("jack_o_lantern", "sketchy") == "jack-o-lantern"
    assert published.spelling("unicorn", "sketchy") == "unicorn"


def test_misspelt_photo_folders_of_tu_berlin():
    for folder, name in {
        "griaffe": "giraffe",
        "spidar": "spider",
        "tromobone": "trombone",
        "spacesshuttle": "space shuttle",
        "wristwatching": "wrist-watch",
        "hotairballoon": "hot air balloon",
        "mouse": "mouse (animal)",
        "pipe": "pipe (for smoking)",
        "computermouse": "computer-mouse",
    }.items():
        assert published.spelling(folder, "tuberlin") == name


def test_every_alias_is_of_a_published_class():
    rows = published._rows("tuberlin_aliases.csv")
    assert len(rows) == 52
    names = published.classes("tuberlin")
    for row in rows:
        assert published.spelling(row["folder"], "tuberlin") == row["class"] in names
    # And no alias takes the folder of another class.
    assert [published.spelling(n, "tuberlin") for n in names] == list(names)


def test_unknown_splits_name_the_known():
    with pytest.raises(DataError, match=r"known are 21, 25, 25-sempcyc.*unseen="):
        published.split("sketchy", "20")
    with pytest.raises(DataError, match="known are none"):
        published.split("toybox", "21")


def test_every_file_of_facts_says_where_it_is_from():
    folder = importlib.resources.files("sbir_jax.data").joinpath("splits")
    files = [f for f in folder.iterdir() if f.is_file()]
    assert len(files) == 3 + len(ALL) + 2
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# ") and "\n# Source: " in text, file.name


def whole(benchmark, split, gallery=""):
    """The counts of a perfect copy, as far as anybody published them by class."""
    found = published.split(benchmark, split)
    counts = {n: found.expected(n, gallery) for n in found.unseen}
    total = (
        published.SKETCHES[benchmark][0].count,
        published.PHOTOS[benchmark][gallery].count,
    )
    rest = [n for n in published.classes(benchmark) if n not in counts]
    counts |= dict.fromkeys(rest, (0, 0))
    left = tuple(t - sum(c[i] for c in counts.values()) for i, t in enumerate(total))
    counts[rest[0]] = left
    return counts


@pytest.mark.parametrize("gallery", ["basic", "extended", "both"])
@pytest.mark.parametrize("split", ["21", "25"])
def test_a_perfect_copy_has_no_differences(split, gallery):
    counts = whole("sketchy", split, gallery)
    assert published.differences("sketchy", counts, split, gallery) == []
    assert published.differences("tuberlin", whole("tuberlin", "sake"), "sake") == []


def test_differences_say_what_and_why():
    def said(change, skipped=0):
        counts = whole("sketchy", "21", "basic")
        change(counts)
        return published.differences("sketchy", counts, "21", "basic", skipped)

    def short(counts):
        counts["bat"] = (633, 100)

    (total, unseen) = said(short)
    assert "75,479 sketches, published 75,481" in total and "a part" in total
    assert "1 of 21 unseen classes" in unseen
    assert "bat 633 sketches of 635, 100 photos of 100" in unseen
    assert "as many as the 2 file(s) left out" in said(short, skipped=2)[0]

    def renamed(counts):
        counts["vampire"] = counts.pop("bat")

    lost, new, unseen = said(renamed)
    assert lost == "1 of 125 classes not there: bat"
    assert new == "1 class(es) that Sketchy has not: vampire"
    assert "bat 0 sketches of 635" in unseen

    def more(counts):
        counts["ape"] = (counts.get("ape", (0, 0))[0], 3)

    assert "3 more than published" in said(more)[0]

    def without_validation(counts):
        counts["airplane"] = (counts["airplane"][0] - 5200, counts["airplane"][1])

    (only,) = said(without_validation)
    assert "70,281 sketches" in only and "SAKE held out" in only


def test_lists_with_ids():
    # SAKE and ZSE-SBIR write a name, a space and an id; names may hold spaces.
    text = "\ufeffant 0\nhot air balloon 2\nt-shirt 1\n".lstrip("\ufeff")
    assert parse_names(text) == ["ant", "hot air balloon", "t-shirt"]
    # Numbers that are part of the names stay.
    assert parse_names("type 0\ntype 1\n") == ["type 0", "type 1"]
    assert parse_names("boeing 747\ncup\n") == ["boeing 747", "cup"]
    assert parse_names("# 0\n\nant\n") == ["ant"]

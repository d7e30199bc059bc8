"""The result page holds what it was given, loads nothing and is never half-written."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sbir_jax.report.charts import chart_svg, number, panels, smooth
from sbir_jax.report.figures import seconds
from sbir_jax.report.pictures import Hit, Ranking, photo_jpegs, sketch_file
from sbir_jax.report.sections import (
    ClassBars,
    Grid,
    RankedSheet,
    Table,
    Words,
    overlay,
)
from sbir_jax.report.writing import plain, write_report
from sbir_jax.types import Metric

HOSTILE = """<script>alert("1")</script>' & \x00\udc80$x$"""


def result(name, value, **more):
    return {"name": name, "metrics": {"mAP@all": value, "P@100": value / 2, **more}}


def full_report():
    return {
        "benchmark": "toybox",
        "split": "4 unseen classes",
        "protocol": {"task": "category", "queries": 1480, "gallery": 320, "classes": 4},
        "results": [
            result("frozen", 0.31),
            result("learned", 0.47),
            result("chance", 0.07),
        ],
        "definitions": {"mAP@all": "mean over queries of p", "where": "p is precision"},
        "primary": "mAP@all",
        "timing": {"train_seconds": 743.2, "total_seconds": 4012.0},
        "fingerprint": "9f2c51b7",
        "config": {"seed": 0, "prompt": {"border": 8, "taps": ["up.1.out"]}},
        "hardware": "cpu x1",
        "command": "python -m sbir_jax.main --config configs/toybox.py",
        "per_class": {"frozen": {"mug": 0.4, "chair": 0.2}, "learned": {"mug": 0.5}},
        "notes": ["A note."],
    }


def picture(seed, height=64, width=64):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo(name, place):
    """A photo of its own for each place of each result."""
    return picture([place, *name.encode("utf-8", "surrogatepass")])


def drawing(ink=(0, 0, 0), grain=0.0, side=64):
    paper = np.full((side, side, 3), 250.0)
    paper += np.random.default_rng(0).normal(0, 1, (side, side, 1)) * grain
    paper[side // 4 : side // 4 + 4] = ink
    return paper.clip(0, 255).astype(np.uint8)


def ranking(label="mug", right=(True, False, True), names=("frozen", "learned")):
    hits = {
        name: [
            Hit(photo(name, i), label if good else "chair", good, 0.9 - i / 10)
            for i, good in enumerate(right)
        ]
        for name in names
    }
    return Ranking(drawing(), label, hits)


CATEGORY = Words(claim="find the right photos")


def write_all(folder, report, rankings, history, words=CATEGORY):
    """As a retrieval run does it: the classes' figures are a section of its own."""
    per_class = plain(report.get("per_class") or {}, [])
    bars = ClassBars(per_class, Metric(report.get("primary") or "mAP@all"))
    return write_report(folder, report, [RankedSheet(rankings), bars], history, words)


HISTORY = [
    *({"step": s, "loss": 1 / s, "active": 0.5, "lr": 1e-3} for s in range(1, 60)),
    {"step": 30, "val/mAP@all": 0.40},
    {"step": 60, "val/mAP@all": 0.38},
]


def read(path):
    """The page as a tree; raises where it is not well-formed."""
    page = path.read_text("utf-8")
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def having(tree, word):
    return [e for e in tree.iter() if word in e.get("class", "").split()]


def words(element):
    return " ".join("".join(element.itertext()).split())


def words_of(tree, tag):
    return [words(element) for element in tree.iter(tag)]


def strict_json(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


@pytest.fixture
def page(tmp_path):
    return read(write_all(tmp_path, full_report(), [ranking()] * 3, HISTORY))


def test_json_comes_back_as_it_was_given(tmp_path):
    report = full_report()
    report["timing"]["embed_seconds"] = np.float32(0.5)
    report["protocol"]["left_out"] = np.int64(2)
    report["config"] |= {"shape": (1, 2), "root": Path("a/b"), "lr": jnp.float32(0.25)}
    before = repr(report)
    path = write_all(tmp_path / "new", report, [], [])
    assert path == tmp_path / "new" / "report.html"
    assert repr(report) == before
    report["timing"]["embed_seconds"], report["protocol"]["left_out"] = 0.5, 2
    report["config"] |= {"shape": [1, 2], "root": "a/b", "lr": 0.25}
    assert strict_json(tmp_path / "new" / "report.json") == report


def test_page_loads_nothing(page, tmp_path):
    tags = {e.tag for e in page.iter()}
    assert not tags & {"script", "iframe", "object", "embed", "base", "form"}
    for element in page.iter():
        assert not [name for name in element.keys() if name.startswith("on")]
        for name in ("src", "href"):
            assert element.get(name, "#").startswith(("#", "data:"))
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|url\(|@import|srcset", text)
    # A browser is told to refuse as well, should anything ever slip through.
    assert "default-src 'none'" in text


def test_every_query_and_mark_is_there(tmp_path):
    rankings = [
        ranking("mug", (True, False, True)),
        ranking("lamp", (False, False), names=("frozen",)),
        ranking("boat", (True,), names=("frozen", "learned", "oracle")),
    ]
    tree = read(write_all(tmp_path, full_report(), rankings, []))
    queries = having(tree, "query")
    assert [words(q.find(".//h3")) for q in queries] == ["mug", "lamp", "boat"]
    assert [len(having(q, "right")) for q in queries] == [4, 0, 3]
    assert [len(having(q, "wrong")) for q in queries] == [2, 2, 0]
    titles = [words(h) for h in queries[0].iter("h4")]
    assert titles == ["Learned prompts 2 of 3 right", "Frozen backbone 2 of 3 right"]
    assert [words(h) for h in queries[2].iter("h4")][2] == "oracle 1 of 1 right"
    for hit in having(tree, "hit"):
        right = "right" in hit.get("class")
        # Colour alone is not enough: a sign for the eye and a word for the ear.
        assert hit.find(".//use").get("href") == ("#tick" if right else "#cross")
        assert hit.find(".//img").get("alt").endswith("right" if right else "wrong")
    first = having(queries[0], "wrong")[0]
    assert first.find(".//img").get("alt") == "Photo 2: chair, wrong"
    assert words(first) == "0.800 chair"


def test_pictures_are_the_ones_given(page):
    query = having(page, "query")[0]
    for image, form in zip(query.iter("img"), ("PNG", *["JPEG"] * 6), strict=True):
        kind, data = image.get("src").split(";base64,")
        decoded = Image.open(io.BytesIO(base64.b64decode(data)))
        assert kind == f"data:image/{form.lower()}" and decoded.format == form
    places = [("learned", i) for i in range(3)] + [("frozen", i) for i in range(3)]
    for hit, place in zip(having(query, "hit"), places, strict=True):
        data = base64.b64decode(hit.find(".//img").get("src").split(",")[1])
        shown = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64)), float)
        error = {p: np.abs(shown - photo(*p)).mean() for p in places}
        assert min(error, key=error.__getitem__) == place


def test_figures_stand_beside_their_definitions(page):
    table = page.find(".//table")
    rows = [[words(cell) for cell in row] for row in table.iter("tr")]
    assert rows == [
        ["Metric", "Chance", "Frozen backbone", "Learned prompts", "Gain"],
        ["mAP@all primarymean over queries of p", "0.070", "0.310", "0.470", "+0.160"],
        ["P@100", "0.035", "0.155", "0.235", "+0.080"],
    ]
    assert words(table.find("caption")) == (
        "Over 1,480 drawings, 320 gallery photos, 4 classes."
    )
    assert [words(e) for e in having(page, "symbols")] == ["where: p is precision"]
    assert [words(e) for e in having(table, "best")] == ["0.470", "0.235"]


@pytest.mark.parametrize(
    ("results", "claim", "says"),
    [
        (
            {"learned": 0.47, "chance": 0.07, "frozen": 0.31},
            "find the right photos",
            "Learned prompts find the right photos with mAP@all 0.470; "
            "frozen backbone 0.310, chance 0.070.",
        ),
        (
            {"frozen": 0.31, "learned": 0.3},
            "find the very photo",
            "Learned prompts find the very photo with mAP@all 0.300, "
            "no better than without them; frozen backbone 0.310.",
        ),
        (
            {"frozen": 0.31},
            "find the right photos",
            "The frozen backbone finds the right photos with mAP@all 0.310.",
        ),
        (
            {"learned": float("nan"), "frozen": 0.31},
            "find the right photos",
            "Learned prompts find the right photos with mAP@all n/a; "
            "frozen backbone 0.310.",
        ),
    ],
)
def test_headline_says_what_the_numbers_say(tmp_path, results, claim, says):
    report = {"results": [result(name, value) for name, value in results.items()]}
    tree = read(write_all(tmp_path, report, [], [], Words(claim=claim)))
    assert words(tree.find(".//h1")) == says
    assert says in words(tree.find(".//title"))


def test_hostile_names_are_only_text(tmp_path):
    report = full_report()
    for key in ("benchmark", "split", "fingerprint", "hardware", "command", "primary"):
        report[key] = HOSTILE
    report |= {
        "results": [
            {"name": "frozen", "metrics": {HOSTILE: 0.5}},
            {"name": HOSTILE, "metrics": {HOSTILE: 0.5}},
        ],
        "protocol": {HOSTILE: HOSTILE},
        "definitions": {HOSTILE: HOSTILE},
        "config": {HOSTILE: {HOSTILE: [HOSTILE]}},
        "per_class": {HOSTILE: {HOSTILE: 0.5}},
        "timing": {HOSTILE: 1.0},
        "notes": [HOSTILE],
    }
    history = [{"step": 1, "val/" + HOSTILE: 0.4}, {"step": 2, "val/" + HOSTILE: 0.5}]
    rankings = [ranking(HOSTILE, names=("learned", HOSTILE))]
    tree = read(write_all(tmp_path, report, rankings, history))
    assert not list(tree.iter("script"))
    shown = HOSTILE.replace("\x00\udc80", "\N{REPLACEMENT CHARACTER}" * 2)
    assert words(tree.find(".//h3")) == shown
    assert words(tree.find(".//h1")).count(shown) == 2
    assert tree.find(".//img").get("alt") == f"Drawing of {shown}"
    assert shown in tree.find(".//figure/svg").get("aria-label")
    assert strict_json(tmp_path / "report.json")["notes"] == [shown]


OPTIONAL = sorted(full_report().keys() - {"results"})


@pytest.mark.parametrize("key", [*OPTIONAL, "all"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_optional_keys_may_be_missing(tmp_path, key, how):
    report = full_report()
    for name in OPTIONAL if key == "all" else [key]:
        report.pop(name)
        if how == "null":
            report[name] = None
    tree = read(write_all(tmp_path, report, [ranking()], []))
    assert "0.470" in words(tree.find(".//h1"))
    assert "None" not in words(tree) and "null" not in words(tree)
    assert key not in strict_json(tmp_path / "report.json")


def test_parts_without_data_are_left_out(tmp_path, page):
    titles = [words(h) for h in page.iter("h2")]
    assert titles == [
        "The figures",
        "What each drawing finds",
        "Class by class",
        "How training went",
        "How it was made",
    ]
    bare = read(write_all(tmp_path, {"results": [result("frozen", 0.3)]}, [], []))
    assert [words(h) for h in bare.iter("h2")] == ["The figures"]
    # Pictures of the earlier report would now show something else.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_not_a_number_is_named_and_shown(tmp_path):
    report = full_report()
    report["results"][1]["metrics"]["P@100"] = float("nan")
    report["per_class"]["learned"]["mug"] = np.float32("inf")
    tree = read(write_all(tmp_path, report, [], []))
    saved = strict_json(tmp_path / "report.json")
    assert saved["results"][1]["metrics"] == {"mAP@all": 0.47, "P@100": None}
    note = saved["notes"][1]
    assert "results[1].metrics.P@100, per_class.learned.mug" in note
    assert note in words(tree)
    row = [words(cell) for cell in list(tree.find(".//table").iter("tr"))[2]]
    assert row == ["P@100", "0.035", "0.155", "n/a", "n/a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": []}, "needs results"),
        ({"results": [{"name": "frozen"}]}, "its metrics"),
        ({"results": [result("a", 0.1), result("a", 0.2)]}, "share a name: a, a"),
        ({"results": [{"name": "a", "metrics": {"P": "0.1"}}]}, "P of a .* '0.1'"),
        ({"primary": "mAP@10"}, "'mAP@10' is in no result; known: mAP@all, P@100"),
        ({"config": {"a": [{1, 2}]}}, r"config\.a\[0\] = \{1, 2\} of type set"),
    ],
)
def test_a_broken_report_says_why_and_writes_nothing(tmp_path, change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        write_all(tmp_path, full_report() | change, [], [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sheet.png", "report.html", "report.json"])
def test_a_failure_midway_leaves_the_last_report_whole(tmp_path, monkeypatch, name):
    write_all(tmp_path, full_report(), [ranking()], HISTORY)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert len(before) == 4
    write = Path.write_bytes

    def disk_full(path, data):
        if name in path.name:
            write(path, data[: len(data) // 2])
            raise OSError("No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    new = full_report() | {"benchmark": "other"}
    with pytest.raises(OSError, match="No space"):
        write_all(tmp_path, new, [ranking("lamp")] * 2, HISTORY[:9])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_page_of_24_drawings_keeps_within_3_megabytes(tmp_path):
    # Noise and grainy scans are the hardest to compress; real ones stay far below.
    photos = [picture(i, 96, 96) for i in range(12)]
    hits = [Hit(photos[i % 12], "mug", i % 2 == 0, 0.5) for i in range(10)]
    rankings = [
        Ranking(drawing(grain=9.0, side=256), "mug", {"frozen": hits, "learned": hits})
    ] * 24
    path = write_all(tmp_path, full_report(), rankings, HISTORY)
    assert path.stat().st_size < 3_000_000
    assert len(having(read(path), "hit")) == 480


def test_few_photos_keep_their_detail():
    [file] = photo_jpegs([picture(0, 150, 300)])
    assert Image.open(io.BytesIO(file)).size == (192, 96)
    [file] = photo_jpegs([picture(0, 64, 64)])
    assert Image.open(io.BytesIO(file)).size == (128, 128)
    [small, same] = photo_jpegs([picture(0, 32, 64)] * 2, limit=100)
    assert Image.open(io.BytesIO(small)).size == (64, 32) and small == same


def test_a_drawing_keeps_its_lines_and_colours():
    shown = Image.open(io.BytesIO(sketch_file(drawing())))
    grey = np.asarray(shown.convert("L"))
    assert shown.format == "PNG" and shown.size == (256, 256)
    assert grey[72].max() < 40 and grey[30].min() > 240
    red = Image.open(io.BytesIO(sketch_file(drawing(ink=(250, 10, 10)))))
    pixel = red.convert("RGB").getpixel((128, 72))
    assert pixel[0] > 200 and max(pixel[1:]) < 60
    scan = Image.open(io.BytesIO(sketch_file(drawing(grain=9.0, side=256))))
    assert scan.format == "JPEG"


def test_a_lower_error_is_the_gain(tmp_path):
    """In the figures, the headline, the classes and the curves."""
    report = {
        "results": [
            {"name": "frozen", "metrics": {"RMSE": 4.0, "d1": 0.5}},
            {"name": "learned", "metrics": {"RMSE": 3.0, "d1": 0.6}},
        ],
        "metrics": {"RMSE": {"better": "lower", "unit": "m"}},
        "primary": "RMSE",
    }
    metric = Metric("RMSE", better="lower", unit="m")
    bars = ClassBars({"learned": {"near": 2.0, "far": 4.0}}, metric)
    history = [{"step": s, "val/RMSE": v} for s, v in ((1, 4.0), (2, 3.0), (3, 3.5))]
    called = Words(
        {"learned": "Learned heads", "frozen": "Mean depth"}, "measure depth"
    )
    tree = read(write_report(tmp_path, report, [bars], history, called))
    assert words_of(tree, "h1") == [
        "Learned heads measure depth with RMSE 3.000 m; mean depth 4.000."
    ]
    rows = [[words(cell) for cell in row] for row in tree.find(".//table").iter("tr")]
    assert rows[1] == [
        "RMSE (m) lower is better primary",
        "4.000",
        "3.000",
        "\N{MINUS SIGN}1.000",
    ]
    assert [words(e) for e in having(tree, "best")] == ["3.000", "0.600"]
    assert [words(e) for e in having(tree, "up")] == ["\N{MINUS SIGN}1.000", "+0.100"]
    assert not having(tree, "down")
    classes = having(tree, "classes")[0]
    assert [words(e) for e in classes.iter("b")] == ["near", "far"]
    assert "best 3.000 at step 2" in words(tree.find(".//figcaption"))
    assert "in m" in words(tree.find(".//header"))
    # The worse way round it is no gain.
    report["results"].reverse()
    for one, name in zip(report["results"], ("frozen", "learned"), strict=True):
        one["name"] = name
    tree = read(write_report(tmp_path, report, [], [], called))
    assert "no better than without them" in words_of(tree, "h1")[0]
    assert len(having(tree, "down")) == 2


def test_a_task_brings_tables_and_pictures_of_its_own(tmp_path):
    image = np.zeros((32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.float32)
    mask[:, 16:] = 0.5
    shown = overlay(image, mask, (200, 0, 0))
    assert shown[0, 0].tolist() == [0, 0, 0] and shown[0, 31].tolist() == [100, 0, 0]
    with pytest.raises(ValueError, match=r"overlay is \(8, 8\).*\(32, 32\)"):
        overlay(image, np.zeros((8, 8), np.float32), (0, 0, 0))
    table = Table("Mix-ups", ["class", "taken for", "times"], [["<mug>", "bowl", 3]])
    grid = Grid("Masks", [image, shown], ["before", "a & b"], columns=2)
    empty = Grid("Nothing", [], [])
    report = {"results": [result("frozen", 0.3)]}
    tree = read(write_report(tmp_path, report, [table, grid, empty], []))
    assert words_of(tree, "h2") == ["The figures", "Mix-ups", "Masks"]
    assert [words(row) for row in list(tree.iter("table"))[1].iter("tr")] == [
        "classtaken fortimes",
        "<mug>bowl3.000",
    ]
    tiles = having(tree, "grid-of")[0]
    assert [words(f) for f in tiles.iter("figcaption")] == ["before", "a & b"]
    assert len(list(tiles.iter("img"))) == 2
    with pytest.raises(ValueError, match="1 pictures and 0 captions"):
        Grid("Masks", [image], [])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_a_picture_must_be_one(shape):
    with pytest.raises((ValueError, TypeError), match=r"photo of 'mug'|image"):
        Hit(np.zeros(shape, np.uint8), "mug", True, 0.5)
    with pytest.raises((ValueError, TypeError), match=r"drawing of 'mug'|query"):
        Ranking(np.zeros((8, 8, 3), np.float32), "mug", {})


def test_slides_have_one_row_per_result(tmp_path):
    write_all(tmp_path, full_report(), [ranking()], HISTORY)
    one = Image.open(tmp_path / "sheet.png")
    write_all(tmp_path, full_report(), [ranking()] * 2, HISTORY)
    two = Image.open(tmp_path / "sheet.png")
    assert two.size == (one.width, 2 * one.height)
    green = (np.asarray(one) == (8, 116, 74)).all(axis=2)
    # Each of two rows rings its first and third photo, and leaves the second alone.
    columns = green.sum(axis=0) > 0.5 * one.height / 2
    assert np.count_nonzero(np.diff(columns.astype(int)) == 1) == 4
    assert Image.open(tmp_path / "curves.png").width > 1000


def test_curves_follow_the_history():
    history = [
        {"step": 20, "loss": 1.0},
        {"step": 10, "loss": 3.0},
        {"step": 30, "loss": float("nan")},
        {"loss": 5.0},
        {"step": 10, "val/mAP@all": 0.25},
        {"step": 20, "val/mAP@all": 0.5, "val/P@100": 0.125},
    ]
    loss, validation = panels(history)
    assert loss.lines == {"loss": [(10.0, 3.0), (20.0, 1.0)]}
    tree = ET.fromstring(chart_svg(loss))
    path = tree.find(".//path").get("d")
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in path[1:].split("L"))
    ticks = [e for e in tree.iter("text") if e.get("text-anchor") == "end"][:-1]
    values = [float(e.text) for e in ticks]
    heights = [float(e.get("y")) - 4 for e in ticks]
    assert x0 < x1 and values[0] == 0.0
    np.testing.assert_allclose([y0, y1], np.interp([3, 1], values, heights), atol=0.1)
    words = ET.fromstring(chart_svg(validation)).find("svg").get("aria-label")
    assert words == (
        "Validation: mAP@all: 0.250 at step 10, 0.500 at step 20, "
        "best 0.500 at step 20; P@100: 0.125 at step 20, best 0.125 at step 20"
    )


def test_smoothing_keeps_a_line_and_calms_noise():
    line = [(float(i), 2.0 * i) for i in range(100)]
    np.testing.assert_allclose(smooth(line)[5:-5], line[5:-5])
    noise = [(float(i), float((-1) ** i)) for i in range(400)]
    assert max(abs(v) for _, v in smooth(noise)[10:-10]) < 0.1
    assert smooth(line[:10]) == line[:10]


def test_numbers_read_well():
    assert [number(v) for v in (0.4712, -0.0071, 12345.6, None)] == [
        "0.471", "\N{MINUS SIGN}0.007", "12,345.6", "n/a",
    ]  # fmt: skip
    assert number(0.1, signed=True) == "+0.100"
    assert [seconds(v) for v in (41.66, 59.99, 743.2, 4012, None)] == [
        "41.7 s", "1 min 00 s", "12 min 23 s", "1 h 06 min", "n/a",
    ]  # fmt: skip

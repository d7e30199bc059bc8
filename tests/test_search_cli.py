import functools
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sbir_jax.embedder import Embedder
from sbir_jax.search import cli
from sbir_jax.search.shard_writer import Writer


@pytest.fixture(scope="module", autouse=True)
def loaded_once(tiny_folder):
    """Commands share the tiny model, which each would load and compile for itself.

    Words are pictures of one colour here: to draw them takes a model's other half,
    which `test_embedder` compiles.
    """
    load = Embedder.from_pretrained
    kept = functools.cache(load)

    def from_pretrained(source, *args, **more):
        return (kept if source == str(tiny_folder) else load)(source, *args, **more)

    def embed_words(self, texts):
        colours = [Image.new("RGB", (32, 32), text.split()[1]) for text in texts]
        return self.embed(colours, "photo")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "from_pretrained", from_pretrained)
        patch.setattr(Embedder, "embed_words", embed_words)
        yield


@pytest.fixture(scope="module")
def photos(shapes_root):
    return shapes_root / "photo"


@pytest.fixture(scope="module")
def sketch(shapes_root):
    return shapes_root / "sketch" / "box" / "box1-1.png"


@pytest.fixture(scope="module")
def made(photos, tiny_folder, tmp_path_factory):
    """An index of 24 photos by the tiny model."""
    out = tmp_path_factory.mktemp("cli") / "index"
    args = ["index", str(photos), "--out", str(out), "--model", str(tiny_folder)]
    assert cli.main([*args, "--batch-size", "8"]) == 0
    return out


def sbir(capsys, command, *args):
    """Runs one command; exit status, what it printed, and its errors."""
    status = cli.main([command, *map(str, args)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def error(capsys, *args):
    """The one line that a failing command prints."""
    status, _, err = sbir(capsys, *args)
    assert status == 2 and err.startswith("sbir: error: ") and err.count("\n") == 1
    return err


def test_index_add_remove_info(made, photos, tmp_path, capsys):
    status, out, err = sbir(capsys, "info", made, "--json")
    values = json.loads(out)
    assert status == 0 and err == "" and values["photos"] == 24
    assert values["embedder"]["kind"] == "pretrained"

    # The second time without --model: the index knows its own.
    status, out, _ = sbir(capsys, "index", photos, "--out", made, "--batch-size", 8)
    assert status == 0 and "24 photos; 24 unchanged in " in out

    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (32, 32), "red").save(more / "red [1].png")
    (more / "bad.png").write_bytes(b"")
    Image.new("RGB", (32, 32), "blue").save(more / "blue.png")
    status, out, err = sbir(
        capsys, "add", made, more, "--batch-size", 8, "--exclude", "blue*"
    )
    assert status == 0 and "25 photos; 1 added, 1 could not be used in " in out
    assert "photos/s, " in out and "% waiting for files" in out and "2/2" in err
    assert f"not used: {more / 'bad.png'}: empty file" in out

    status, out, _ = sbir(capsys, "info", made)
    assert status == 0 and "25" in out and "pretrained" in out
    status, out, _ = sbir(capsys, "export", made, tmp_path / "out")
    assert status == 0 and out == f"{tmp_path / 'out'}: 25 photos written\n"
    assert "give a new folder" in error(capsys, "export", made, tmp_path / "out")
    status, out, _ = sbir(capsys, "remove", made, more)
    assert status == 0 and "1 photo taken out" in out
    assert json.loads(sbir(capsys, "info", made, "--json")[1])["photos"] == 24


def test_search(made, photos, sketch, tmp_path, capsys):
    status, out, err = sbir(capsys, "search", made, sketch, "-k", 5, "--json")
    hits = json.loads(out)
    assert status == 0 and err == "" and len(hits) == 5
    fields = {"id", "path", "score", "above", "copies"}
    assert [set(hit) for hit in hits] == [fields] * 5
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)

    status, out, _ = sbir(capsys, "search", made, sketch, "-k", 5)
    assert status == 0 and "rank" in out and out.rstrip().endswith("5 photos")
    assert "".join(hits[0]["path"].split()) in "".join(out.split())

    # Words, a least score, a sheet.
    args = ["search", made, sketch, "--text", "a red box", "--json", "-k", 24]
    with_words = json.loads(sbir(capsys, *args)[1])
    assert [h["score"] for h in with_words[:5]] != scores
    limit = with_words[3]["score"]
    sheet = tmp_path / "new" / "sheet.png"
    args += ["--min-score", limit, "--save", sheet]
    assert json.loads(sbir(capsys, *args)[1]) == with_words[:4]
    with Image.open(sheet) as image:
        assert image.format == "PNG" and image.width > 700
    status, out, _ = sbir(capsys, "search", made, sketch, "--min-score", 2)
    assert status == 0 and out == "no photo found\n"


def test_a_drawing_is_prepared(made, sketch, tmp_path, capsys):
    """White on black, small in a corner: the same photos as of the plain drawing."""
    plain = Image.open(sketch).convert("L")
    odd = Image.new("L", (3 * plain.width, 2 * plain.height), 0)
    odd.paste(Image.eval(plain, lambda v: 255 - v), (2 * plain.width, plain.height))
    odd.save(tmp_path / "odd.png")
    shown = tmp_path / "seen.png"

    def found(*args):
        return json.loads(sbir(capsys, "search", made, *args, "-k", 24, "--json")[1])

    best = [hit["path"] for hit in found(sketch)]
    same = [hit["path"] for hit in found(tmp_path / "odd.png")]
    assert set(same[:6]) & set(best[:3])
    with Image.open(tmp_path / "odd.png") as image:
        assert np.asarray(image).mean() < 128
    args = ["search", made, tmp_path / "odd.png", "--show-prepared", shown]
    status, out, _ = sbir(capsys, *args)
    assert status == 0 and out.rstrip().endswith(f"as seen: {shown}")
    seen = np.asarray(Image.open(shown).convert("L"))
    assert seen.shape[0] == seen.shape[1] >= 256 and np.median(seen) > 250
    ink = (seen < 128).any(0)
    assert ink.sum() > 0.6 * len(ink)
    sbir(capsys, *args, "--as-drawn")
    assert np.median(np.asarray(Image.open(shown).convert("L"))) < 10


def test_nothing_drawn_is_an_error_before_a_model_is_loaded(made, tmp_path, capsys):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "blank.png")
    for command in (["search", made], ["explain", made]):
        more = ["x.png"] * (command[0] == "explain")
        line = error(capsys, *command, tmp_path / "blank.png", *more)
        assert "blank.png: no ink found" in line
    for flag in (["--as-drawn"], ["--show-prepared", "x.png"]):
        line = error(capsys, "search", made, "--text", "a box", *flag)
        assert flag[0] in line and "give a SKETCH" in line


def test_copies_and_folders_in_the_shell(made, sketch, photos, capsys):
    inside = photos / "box"
    args = ["search", made, sketch, "-k", 24, "--folder", inside, "--paths"]
    paths = sbir(capsys, *args)[1].splitlines()
    assert paths and all(path.startswith(f"{inside}/") for path in paths)
    assert "no photo below" in error(capsys, *args[:-2], "/nowhere")


def test_explain(made, photos, sketch, tmp_path, capsys):
    _, out, _ = sbir(capsys, "search", made, sketch, "-k", 1, "--json")
    [hit] = json.loads(out)
    sheets = tmp_path / "by path.png", tmp_path / "by id.png"
    for photo, sheet in zip((hit["path"], hit["id"]), sheets, strict=True):
        status, out, _ = sbir(capsys, "explain", made, sketch, photo, "--save", sheet)
        assert status == 0
        assert float(out.split()[1].rstrip(";")) == pytest.approx(
            hit["score"], abs=2e-3
        )
    pictures = [np.asarray(Image.open(sheet)) for sheet in sheets]
    np.testing.assert_array_equal(*pictures)
    assert "no photo" in error(capsys, "explain", made, sketch, "0" * 16)
    assert "ends in .png" in error(
        capsys, "explain", made, sketch, hit["path"], "--save", tmp_path / "why.txt"
    )


def test_scores_are_those_of_the_embedder(made, tiny_folder, photos, sketch, capsys):
    embedder = Embedder.from_pretrained(str(tiny_folder), batch_size=8)
    files = sorted(photos.rglob("*.png"))
    gallery = embedder.embed(files, "photo")
    scores = embedder.embed([sketch], "sketch")[0] @ gallery.T
    asks = "search", made, sketch, "-k", 24, "--json", "--as-drawn", "--all-copies"
    out = sbir(capsys, *asks)[1]
    found = {hit["path"]: hit["score"] for hit in json.loads(out)}
    assert len(found) == 24
    np.testing.assert_allclose([found[str(path)] for path in files], scores, atol=1e-3)


def test_the_sheet_shows_what_cannot_be_read(made, photos, sketch, tmp_path):
    from sbir_jax.search.index import Hit
    from sbir_jax.search.sheet import save_sheet, search_sheet

    photo = photos / "box" / "box1.png"
    hits = [Hit("0" * 16, str(photo), 0.9), Hit("1" * 16, str(tmp_path / "x.png"), 0.1)]
    whole = np.asarray(search_sheet(sketch, hits, "words"))
    alone = np.asarray(search_sheet(sketch, hits[:1], None))
    assert whole.shape[1] > alone.shape[1] and (whole != 255).any()
    # The photo's own colours are on the sheet.
    colours = {tuple(c) for c in np.asarray(Image.open(photo)).reshape(-1, 3)}
    assert colours & {tuple(c) for c in whole.reshape(-1, 3).tolist()}
    save_sheet(search_sheet(sketch, []), tmp_path / "none.jpg")
    with Image.open(tmp_path / "none.jpg") as image:
        assert image.format == "JPEG"


def test_errors_are_one_line(made, photos, sketch, tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    assert "no index in" in error(capsys, "search", nowhere, sketch)
    assert "no index in" in error(capsys, "add", nowhere, photos)
    assert "no index in" in error(capsys, "remove", nowhere, photos)
    assert "no such file" in error(capsys, "search", made, tmp_path / "no.png")
    assert "k is 0" in error(capsys, "search", made, sketch, "-k", 0)
    assert "backend is 'x'" in error(capsys, "search", made, sketch, "--backend", "x")
    assert "no photo of" in error(capsys, "remove", made, nowhere)
    assert "no file or folder" in error(capsys, "add", made, nowhere)
    assert "--batch-size is -1" in error(capsys, "add", made, photos, "--batch-size=-1")
    assert "no folder" in error(
        capsys, "index", photos, "--out", nowhere, "--model", str(tmp_path / "m")
    )
    save = ("--save", tmp_path / "sheet.txt")
    assert "give a name that ends in" in error(capsys, "search", made, sketch, *save)
    with Writer(made):
        assert "is being written by process" in error(capsys, "remove", made, photos)


def test_another_model_is_refused_with_both_fingerprints(made, photos, capsys):
    args = ("index", photos, "--out", made, "--model", "toybox")
    assert "fingerprint" in error(capsys, *args)


def test_a_model_that_changed_under_an_index_is_refused(
    photos, sketch, tiny_folder, tmp_path, capsys
):
    import shutil

    from safetensors.numpy import load_file, save_file

    model, out = tmp_path / "model", tmp_path / "index"
    shutil.copytree(tiny_folder, model)
    args = ("index", photos / "box", "--out", out, "--model", model)
    assert sbir(capsys, *args, "--batch-size", 8)[0] == 0
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name] + 1}, weights)
    assert "fingerprint" in error(capsys, "search", out, sketch)


def test_help_needs_no_heavy_import():
    code = (
        "import sys; from sbir_jax.search import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "usage: sbir" in out and out.endswith("[]\n")


def test_usage_errors(capsys):
    usage = ("search", "index photos", "search a b -k x", "dance")
    for command in (*usage, "search a --json --paths"):
        with pytest.raises(SystemExit) as caught:
            cli.main(shlex.split(command))
        assert caught.value.code == 2
    assert "usage: sbir" in capsys.readouterr().err


def test_bare_sbir_prints_help_and_version_a_version(capsys):
    assert cli.main([]) == 0
    assert "COMMAND" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out.startswith("sbir ")


def test_flags_that_would_be_ignored_are_errors(
    made, photos, sketch, tiny_folder, tmp_path, capsys
):
    for flag, value in (("--task", "fine_grained"), ("--encoder", "tiny")):
        err = error(capsys, "index", photos, "--out", made, flag, value)
        assert f"{flag} is '{value}'" in err and "already" in err
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"recipe": {}}')
    out = tmp_path / "new"
    args = ("index", photos, "--out", out, "--model", run, "--task", "category")
    assert "leave the task" in error(capsys, *args)
    for words in ((), ("--text", "a cup")):
        share = ("search", made, *words, "--text-weight", "0.3")
        assert "give --text and a SKETCH" in error(capsys, *share)
    assert "give --text" in error(capsys, "search", made, sketch, "--text-weight=0.3")
    for score in ("nan", "inf"):
        args = ("search", made, sketch, f"--min-score={score}")
        assert f"--min-score is {score}" in error(capsys, *args)
    assert "--exclude is empty" in error(capsys, "add", made, photos, "--exclude", "")


def test_folders_without_a_photo_are_an_error(made, tiny_folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    new = ("index", empty, "--out", tmp_path / "out", "--model", tiny_folder)
    assert f"no photos in {empty}. Give folders" in error(capsys, *new)
    (empty / "a.xmp").write_text("?")
    assert "1 other files" in error(capsys, "add", made, empty)
    assert not (tmp_path / "out").exists()
    (empty / "bad.jpg").write_text("?")
    status, out, _ = sbir(capsys, *new)
    assert status == 1 and "0 photos; 1 could not be used, 1 other file in" in out


def test_names_never_reach_the_terminal_raw(
    sketch, tiny_folder, tmp_path, capsys, monkeypatch
):
    photos = tmp_path / "photos"
    photos.mkdir()
    evil = photos / "\x1b]0;owned\x07\x1b[31m\u202egpj.jpg"
    Image.new("RGB", (32, 32), "red").save(evil, "PNG")
    (photos / "\x1b[2Jbad.jpg").write_text("?")
    out = tmp_path / "index"
    new = ("index", photos, "--out", out, "--model", tiny_folder, "--exclude", "\x1b")
    shown = [sbir(capsys, *new, "--batch-size", 8)]
    shown += [sbir(capsys, "add", out, photos, "--batch-size", 8)]
    shown += [sbir(capsys, "search", out, sketch)]
    shown += [sbir(capsys, "search", out, sketch, "--json")]
    shown += [(0, "", error(capsys, "search", out, tmp_path / "\x1bno.png"))]
    for _, printed, err in shown:
        text = printed + err.replace("\x1b[A", "")  # the bar's own
        assert not {"\x1b", "\x07", "\u202e"} & set(text), repr(text)
    assert "\\x1b]0;owned\\x07" in shown[2][1]
    # For a pipe as it is, one a line.
    assert sbir(capsys, "search", out, sketch, "--paths")[1] == f"{evil}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\x1b" not in sbir(capsys, "search", out, sketch, "--paths")[1]


def test_a_folder_that_vanished_is_told_loudly(photos, tiny_folder, tmp_path, capsys):
    import shutil

    root, out = tmp_path / "photos", tmp_path / "index"
    shutil.copytree(photos, root)
    new = ("index", root, "--out", out, "--batch-size", 8)
    assert sbir(capsys, *new, "--model", tiny_folder)[0] == 0
    shutil.rmtree(root / "box")
    status, printed, err = sbir(capsys, *new)
    assert status == 0 and "24 photos; 20 unchanged" in printed
    assert f"{root / 'box'} does not show its 4 photos" in err and "--prune" in err
    status, printed, err = sbir(capsys, *new, "--prune")
    assert "20 photos; 20 unchanged, 4 removed" in printed and "warning" not in err


def test_a_full_disk_is_named_with_its_file(made, photos, tmp_path, capsys):
    from sbir_jax.search import shard_writer

    Image.new("RGB", (32, 32), "red").save(tmp_path / "new.png")

    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer.os, "fsync", full)
        err = error(capsys, "add", made, tmp_path / "new.png", "--batch-size", 8)
    assert str(made) in err and "No space left" in err and "make room" in err
    assert not list(made.rglob("*.part"))


def test_a_polite_kill_says_what_is_kept(made, photos, capsys, monkeypatch):
    import os
    import signal

    from sbir_jax.search import build

    def killed(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(build, "build", killed)
    status, _, err = sbir(capsys, "add", made, photos, "--batch-size", 8)
    assert status == 130 and "the same command goes on from here" in err
    assert signal.getsignal(signal.SIGTERM) == before


def test_numbers_have_their_nouns():
    from sbir_jax.search.terminal import plural

    assert [plural(n, "photo") for n in (0, 1, 2, 1200)] == [
        *("0 photos", "1 photo", "2 photos", "1,200 photos")
    ]

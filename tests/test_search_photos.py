import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbir_jax.search.photos import list_photos, table_paths


@pytest.fixture
def root(tmp_path):
    """Photos and every trap we could think of; nothing here is decoded."""
    root = tmp_path / "my photos"
    for name in ("b.jpg", "a.PNG", "sub/c.jpeg", "sub/deep/d.webp", "raw/e.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    for name in (".hidden.jpg", "sub/Thumbs.db", ".git/x.jpg", "@eaDir/b.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"?")
    (root / "notes.txt").write_bytes(b"hello")
    (root / "sub" / "up").symlink_to("..", target_is_directory=True)
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "pipe.jpg")
    return root


def names(listing, root):
    return [os.path.relpath(photo.path, root) for photo in listing.photos]


ALL = ["a.PNG", "b.jpg", "raw/e.jpg", "sub/c.jpeg", "sub/deep/d.webp"]


def test_a_folder_is_read_with_all_below_it(root):
    listing = list_photos([root])
    assert names(listing, root) == ALL
    info = os.stat(root / "b.jpg")
    assert listing.photos[1] == (str(root / "b.jpg"), 5, info.st_mtime_ns)
    reasons = {os.path.relpath(s.path, root): s.reason for s in listing.skipped}
    assert reasons == {
        "gone.jpg": "cannot be reached: No such file or directory",
        "pipe.jpg": "not a regular file",
        "sub/up": "a link back to a folder that is read already",
    }
    assert listing.others == 1  # notes.txt


def test_paths_are_absolute_and_each_comes_once(root, monkeypatch):
    monkeypatch.chdir(root)
    twice = list_photos([".", "raw", "b.jpg", "./sub/../b.jpg", str(root)])
    assert twice.photos == list_photos([root]).photos
    assert all(os.path.isabs(photo.path) for photo in twice.photos)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["raw"], [n for n in ALL if n != "raw/e.jpg"]),
        (["raw/"], [n for n in ALL if n != "raw/e.jpg"]),
        (["*.jpg", "*.PNG"], ["sub/c.jpeg", "sub/deep/d.webp"]),
        (["sub/*/d.*"], [n for n in ALL if n != "sub/deep/d.webp"]),
        (["*/my photos/sub"], ["a.PNG", "b.jpg", "raw/e.jpg"]),
        (["my photos"], ALL),  # the source itself was asked for
    ],
)
def test_exclude(root, exclude, left):
    listing = list_photos([root], exclude)
    assert names(listing, root) == left
    # The same whether a folder is walked or its files come from a glob.
    globbed = list_photos([f"{root}/**/*"], exclude)
    assert names(globbed, root) == left


def test_the_index_itself_is_passed_over(root):
    inside = root / "sub" / "deep"
    listing = list_photos([root], avoid=inside)
    assert names(listing, root) == ALL[:-1]
    assert not [s for s in listing.skipped if s.path.startswith(str(inside))]


def test_globs(root):
    assert names(list_photos([f"{root}/*.jpg"]), root) == ["b.jpg"]
    assert names(list_photos([f"{root}/**/*.*p*g"]), root) == [
        "b.jpg",
        "raw/e.jpg",
        "sub/c.jpeg",
    ]
    assert names(list_photos([f"{root}/s*"]), root) == ["sub/c.jpeg", "sub/deep/d.webp"]
    with pytest.raises(ValueError, match=r"nothing matches .*\.tiff"):
        list_photos([f"{root}/*.tiff"])


def test_brackets_in_a_name_are_a_name_first(root):
    odd = root / "trip [1].jpg"
    odd.write_bytes(b"1")
    assert names(list_photos([odd]), root) == ["trip [1].jpg"]


def test_tables_of_paths(root, tmp_path):
    paths = ["b.jpg", str(root / "sub" / "c.jpeg"), "lost.jpg", ""]
    table = root / "list.csv"
    lines = [f'"{path}",{i}' for i, path in enumerate(paths)]
    table.write_text("\ufeffpath,id\n" + "\n".join(lines) + "\n", encoding="utf-8")
    listing = list_photos([table])
    assert names(listing, root) == ["b.jpg", "sub/c.jpeg"]
    (lost,) = listing.skipped
    assert lost.path == str(root / "lost.jpg") and "No such file" in lost.reason
    assert listing.covers(str(root / "lost.jpg"))
    assert not listing.covers(str(root / "a.PNG"))

    # A folder that looks like a partition of a data set must not add a column.
    folder = tmp_path / "path=elsewhere"
    folder.mkdir()
    pq.write_table(pa.table({"path": paths[:2]}), folder / "list.parquet")
    assert table_paths(folder / "list.parquet") == [str(folder / "b.jpg"), paths[1]]


@pytest.mark.parametrize("content", [b"file,label\na.jpg,1\n", b"", b"\xff\xfe\x00"])
def test_a_table_without_paths_is_refused(tmp_path, content):
    table = tmp_path / "list.csv"
    table.write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.csv.*(column 'path'|cannot be read)"):
        list_photos([table])
    other = tmp_path / "list.parquet"
    other.write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.parquet cannot be read"):
        list_photos([other])


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nothing"):
        list_photos([tmp_path / "nothing"])


def test_names_that_are_no_utf8_are_listed_with_a_remedy(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"1")
    listing = list_photos([tmp_path])
    assert not listing.photos
    (skipped,) = listing.skipped
    assert "rename" in skipped.reason and skipped.path.endswith("caf\ufffd.jpg")


def test_what_a_listing_decides_about(root):
    whole = list_photos([root / "sub"])
    assert whole.covers(str(root / "sub" / "old.jpg"))
    assert not whole.covers(str(root / "old.jpg"))
    assert not whole.covers(str(root / "subway.jpg"))
    some = list_photos([f"{root}/sub/*.jpeg"])
    assert some.covers(str(root / "sub" / "old.jpeg"))
    assert not some.covers(str(root / "sub" / "deep" / "d.webp"))
    assert not some.covers(str(root / "old.jpeg"))


def test_sidecars_are_counted_apart_from_what_cannot_be_used(root):
    for name in ("b.xmp", "b.MOV", "sub/c.json", "sub/.c.jpeg.swp"):
        (root / name).write_bytes(b"?")
    listing = list_photos([root])
    assert listing.others == 4 and not [s for s in listing.skipped if "b.x" in s.path]


def test_bins_of_systems_and_servers_are_clutter(root):
    names_ = ["#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
    for name in names_:
        (root / name).mkdir()
        (root / name / "old.jpg").write_bytes(b"1")
    listing = list_photos([root])
    assert names(listing, root) == ALL
    assert all(listing.excludes(str(root / name / "old.jpg")) for name in names_)
    assert not listing.excludes(str(root / "b.jpg"))


def test_a_photo_that_this_machine_cannot_read_is_skipped_with_its_remedy(
    root, monkeypatch
):
    (root / "phone.HEIC").write_bytes(b"1")
    (root / "list.csv").write_text("path\nphone.HEIC\n")
    remedies = {".heic": "pip install it"}
    monkeypatch.setattr("sbir_jax.data.tree.REMEDIES", remedies)
    monkeypatch.setattr("sbir_jax.search.photos.REMEDIES", remedies)
    for source in (root, root / "list.csv"):
        reasons = [s.reason for s in list_photos([source]).skipped]
        assert ".HEIC files are read after: pip install it" in reasons


def test_nothing_is_known_of_what_could_not_be_listed(root, monkeypatch):
    def scandir(path):
        if str(path) == str(root / "sub"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    for source in (root, f"{root}/**/*.*"):
        listing = list_photos([source])
        assert names(listing, root) == ["a.PNG", "b.jpg", "raw/e.jpg"]
        assert not listing.covers(str(root / "sub" / "c.jpeg"))
        assert listing.unreachable(str(root / "sub" / "deep" / "d.webp"))
        assert listing.covers(str(root / "raw" / "old.jpg"))

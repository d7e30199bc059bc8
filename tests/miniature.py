"""Small copies of data sets on disk, and every trap that a folder may hold."""

import os
import stat

from PIL import Image


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (value, value, value)).save(path)


def hostile(root, sketches, photos):
    """Three good classes, and every trap we could think of."""
    photo, sketch = root / photos, root / sketches
    for c, name in enumerate(("cup", "car_(sedan)", "Hot-Air Balloon")):
        for i in range(3):
            picture(photo / name / f"p-x_{i}.jpg", 10 * c + i)
            picture(sketch / name / f"p-x_{i}-1.png", 100 + 10 * c + i)
        picture(sketch / name / "p-x_0_7.png", 200)  # underscore
        picture(sketch / name / "free.png", 210)  # no photo
    picture(photo / "hot_air_balloon" / "extra.png", 5)  # same class, other spelling
    picture(photo / "Öl Fässer" / "ß [1].png", 6)  # photos only
    picture(sketch / "unicorn" / "u-1.png", 7)  # sketches only
    (sketch / "nothing").mkdir()
    (photo / "nothing").mkdir()
    picture(photo / "cup" / "sub" / "deep.png", 8)
    picture(photo / "cup" / "album.jpg" / "LOUD.JPG", 9)  # a folder, and an image
    picture(photo / "loose.png")
    bad = {
        photo / "cup" / "zero.jpg": b"",
        photo / "cup" / "page.jpg": b"<html>not found</html>",
        photo / "cup" / "notes.txt": b"hello",
        photo / "cup" / "line\u2028feed\x85.txt": b"hello",
        photo / "cup" / "noext": b"hello",
        photo / "cup" / "cut.jpg": (photo / "cup" / "p-x_0.jpg").read_bytes()[:-80],
        sketch / "cup" / "p-x_9-1.png": b"GIF89a",
    }
    for path, content in bad.items():
        path.write_bytes(content)
    for hidden in CLUTTER:
        (photo / "cup" / hidden).write_bytes(b"?")
    (photo / ".git").mkdir()
    for name, target in {
        "up": "..",
        "self": ".",
        "out": root.parent,
        "twin": "sub",
        "gone.jpg": "nowhere.jpg",
        "round.jpg": "round.jpg",
    }.items():
        (photo / "cup" / name).symlink_to(target)
    (photo / "round").symlink_to("round")
    os.mkfifo(photo / "cup" / "pipe.jpg")
    os.mkfifo(sketch / "pipe")
    os.mknod(photo / "cup" / "socket.png", stat.S_IFSOCK | 0o600)
    return root


CLUTTER = (".DS_Store", "Thumbs.db", "._p-x_0.jpg", "desktop.ini", ".hidden.jpg")
SKIPPED = {
    "photo/loose.png": "outside",
    "photo/round": "outside",
    "photo/cup/zero.jpg": "empty",
    "photo/cup/page.jpg": "not an image",
    "photo/cup/notes.txt": "'.txt'",
    "photo/cup/line\u2028feed\x85.txt": "'.txt'",
    "photo/cup/noext": "no extension",
    "photo/cup/cut.jpg": "runcated",
    "photo/cup/up": "link back",
    "photo/cup/self": "link back",
    "photo/cup/out": "link back",
    "photo/cup/twin": "link back",
    "photo/cup/gone.jpg": "cannot be reached",
    "photo/cup/round.jpg": "cannot be reached",
    "photo/cup/pipe.jpg": "not a regular file",
    "photo/cup/socket.png": "not a regular file",
    "sketch/pipe": "outside",
    "sketch/cup/p-x_9-1.png": "not an image",
    "sketch/unicorn/u-1.png": "no photo to find",
}


def all_names(root):
    """Every file below a root, and every link to a folder, but for clutter."""
    return [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, folders, files in os.walk(root)
        for name in [*files, *folders]
        if name not in CLUTTER
        and (name in files or os.path.islink(os.path.join(folder, name)))
    ]

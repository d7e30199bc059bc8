"""Image files as cameras, scanners, phones and disks hand them over."""

import contextlib
import io
import os
import struct
import threading
import zlib

import numpy as np
import psutil
import pytest
from PIL import Image, ImageCms, features

from sbir_jax.data import image_files, images
from sbir_jax.data.image_files import BadImage, Budget, Unreachable
from sbir_jax.data.images import decode


def encoded(image, format="PNG", **kwargs):
    out = io.BytesIO()
    image.save(out, format=format, **kwargs)
    return out.getvalue()


def colours():
    """Four flat quarters: red, green, blue, yellow."""
    out = np.empty((64, 48, 3), np.uint8)
    out[:32, :24], out[:32, 24:] = (255, 0, 0), (0, 255, 0)
    out[32:, :24], out[32:, 24:] = (0, 0, 255), (255, 255, 0)
    return out


@contextlib.contextmanager
def memory_below(megabytes):
    """Samples this process's memory while the block runs."""
    process, most, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch():
        while not done.wait(0.002):
            most[0] = max(most[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert most[0] < megabytes * 1e6, f"{most[0] / 1e6:.0f} MB"


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_is_turned_once(tmp_path, tag, compression):
    turned = {  # stored as `colours`, seen as this
        1: colours(),
        2: colours()[:, ::-1],
        3: colours()[::-1, ::-1],
        4: colours()[::-1],
        5: colours().swapaxes(0, 1),
        6: np.rot90(colours(), -1),
        7: colours()[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(colours()),
    }
    exif = Image.Exif()
    exif[0x0112] = tag
    path = tmp_path / "a.tif"
    Image.fromarray(colours()).save(path, exif=exif, compression=compression)
    np.testing.assert_array_equal(decode(path), turned[tag])
    np.testing.assert_array_equal(decode(path.read_bytes()), turned[tag])


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_fewer_bits_in_sixteen_are_scaled_by_their_own_white(bits):
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    wide = np.rint(ramp * (2**bits - 1)).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        out = decode(encoded(Image.fromarray(wide), format))
        np.testing.assert_allclose(out[..., 0], ramp * 255, atol=1)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("form", ["png", "png with alpha", "II", "MM", "II deflate"])
def test_fewer_bits_in_sixteen_in_colour(bits, form):
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64, 1) * [1, 0.5, 0.25]
    wide = np.rint(ramp * (2**bits - 1)).astype(np.uint16)
    if form == "png with alpha":
        alpha = np.full((64, 64, 1), 2**bits - 1, np.uint16)
        data = deep_png(np.concatenate([wide, alpha], -1))
    else:
        data = deep_png(wide) if form == "png" else deep_tiff(wide, *form.split())
    np.testing.assert_allclose(decode(data), ramp * 255, atol=1)
    found = images.decode_rgba(data, 64)
    np.testing.assert_allclose(found[..., :3], ramp * 255, atol=1)
    assert (found[..., 3] == 255).all()


def test_a_picture_that_is_given_stays_as_it_is(tmp_path):
    data = deep_png(np.full((16, 16, 3), 1023, np.uint16))
    (tmp_path / "a.png").write_bytes(data)
    for source in (io.BytesIO(data), tmp_path / "a.png"):
        with Image.open(source) as given:
            assert (decode(given) == 255).all()
            assert np.asarray(given).max() == 3


def test_what_is_stored_of_deep_colours_is_plain(tmp_path):
    (tmp_path / "a.png").write_bytes(deep_png(np.full((16, 16, 3), 1023, np.uint16)))
    with Image.open(io.BytesIO(images.checked_bytes(tmp_path / "a.png"))) as stored:
        assert (np.asarray(stored) == 255).all()


def deep_png(wide):
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    height, width, channels = wide.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    kind = {3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def deep_tiff(wide, order, compression=""):
    """A TIFF of 16 bits a channel in one strip."""
    sign = {"II": "<", "MM": ">"}[order]
    height, width, channels = wide.shape
    pixels = wide.astype(f"{sign}u2").tobytes()
    pixels = zlib.compress(pixels) if compression else pixels
    start, kinds = 8 + 2 + 9 * 12 + 4, {"H": 3, "I": 4}
    tags = [(256, "I", width), (257, "I", height), (258, "bits", start)]
    tags += [(259, "H", 8 if compression else 1), (262, "H", 2)]
    tags += [(273, "I", start + 6), (277, "H", channels), (278, "I", height)]
    tags += [(279, "I", len(pixels))]
    out = order.encode() + struct.pack(f"{sign}HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        if kind == "bits":  # one for each channel, behind the tags
            out += struct.pack(f"{sign}HHII", tag, 3, channels, value)
        else:
            entry = struct.pack(f"{sign}HHI{kind}", tag, kinds[kind], 1, value)
            out += entry.ljust(12, b"\0")
    return out + bytes(4) + struct.pack(f"{sign}3H", 16, 16, 16) + pixels


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [None, 16])
def test_a_jpeg_may_lack_its_end_marker_but_no_row(tmp_path, progressive, size):
    noise = Image.effect_noise((80, 70), 60).convert("RGB")
    data = encoded(noise, "JPEG", quality=90, progressive=progressive)
    np.testing.assert_array_equal(decode(data[:-2], size), decode(data, size))
    for cut in (data[:-40], data[: len(data) // 2]):
        if progressive and cut is not data[: len(data) // 2]:
            continue  # only a little of the last refinement is missing
        with pytest.raises(BadImage, match=r"truncated|broken data stream"):
            decode(cut, size)
    (tmp_path / "a.jpg").write_bytes(data[:-2])
    assert images.checked_bytes(tmp_path / "a.jpg") == data


def test_grey_profiles_are_applied():
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    out = decode(encoded(Image.fromarray(grey), icc_profile=linear_grey()))
    np.testing.assert_allclose(
        out[3, 2:, 0], curve(np.arange(64) * 4 / 255)[2:], atol=3
    )


def test_profiles_that_say_nothing_change_nothing():
    plain = decode(encoded(Image.fromarray(colours())))
    other, srgb = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
        for space in ("LAB", "sRGB")
    )
    # A damaged one, one of other channels, and that of sRGB itself.
    for harmless in (b"garbage", other, linear_grey()[:60], other_inks(), srgb):
        data = encoded(Image.fromarray(colours()), icc_profile=harmless)
        np.testing.assert_array_equal(decode(data), plain)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_colour_profiles_are_applied(format):
    """Adobe RGB (1998), whose green is none of sRGB's."""
    given = np.empty((32, 32, 3), np.uint8)
    given[:, :16], given[:, 16:] = (100, 150, 200), (180, 140, 90)
    options = {"lossless": True} if format == "WEBP" else {"quality": 100}
    options = options if format in ("WEBP", "JPEG") else {}
    data = encoded(Image.fromarray(given), format, icc_profile=adobe_rgb(), **options)
    wanted = curve((given / 255) ** GAMMA @ ADOBE @ INTO_SRGB)
    assert np.abs(wanted - given).max() > 15
    np.testing.assert_allclose(decode(data)[:, [8, 24]], wanted[:, [8, 24]], atol=3)


def test_colour_profiles_are_applied_beside_transparency():
    given = Image.new("RGBA", (32, 32), (100, 150, 200, 255))
    given.paste((100, 150, 200, 0), (0, 0, 16, 32))
    data = encoded(given, icc_profile=adobe_rgb())
    wanted = curve((np.array([100, 150, 200]) / 255) ** GAMMA @ ADOBE @ INTO_SRGB)
    for found in (decode(data), images.decode_rgba(data, 32)):
        np.testing.assert_allclose(found[4, 24, :3], wanted, atol=2)
    assert decode(data)[4, 4].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(found[4, [4, 24], 3], [0, 255])


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_profiles_of_inks_are_applied(format):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert decode(encoded(cyan, format))[8, 8, 0] < 10
    found = decode(encoded(cyan, format, icc_profile=other_inks()))[8, 8]
    np.testing.assert_allclose(found, (255, 0, 0), atol=12)
    paper = encoded(Image.new("CMYK", (16, 16)), format, icc_profile=other_inks())
    assert decode(paper).min() > 250


def curve(linear):
    """sRGB's, from light to values of 8 bits."""
    light = np.clip(linear, 0, 1)
    steep = 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    return 255 * np.where(light <= 0.0031308, 12.92 * light, steep)


# Rows are what red, green and blue are in XYZ, for the white of profiles (D50).
ADOBE = np.array(
    [
        [0.60974, 0.31111, 0.01947],
        [0.20528, 0.62567, 0.06087],
        [0.14919, 0.06322, 0.74457],
    ]
)
SRGB = np.array(
    [
        [0.43607, 0.22249, 0.01392],
        [0.38515, 0.71687, 0.09708],
        [0.14307, 0.06061, 0.71410],
    ]
)
INTO_SRGB = np.linalg.inv(SRGB)
GAMMA = 2 + 51 / 256
WHITE = (0.9642, 1.0, 0.8249)


def linear_grey():
    """Grey values in proportion to light."""
    line = b"curv" + struct.pack(">II", 0, 0)
    return profile(b"GRAY", wtpt=place(WHITE), kTRC=line)


def adobe_rgb():
    power = b"curv" + struct.pack(">IIH", 0, 1, round(256 * GAMMA))
    tags = {f"{name}XYZ": place(row) for name, row in zip("rgb", ADOBE, strict=True)}
    tags |= {f"{name}TRC": power for name in "rgb"}
    return profile(b"RGB ", wtpt=place(WHITE), **tags)


def other_inks():
    """Inks of which the first is red; a table of two points for each of the four."""
    lab = np.full((2, 2, 2, 2, 3), (0, 128, 128), np.uint8)
    lab[0, 0, 0, 0], lab[1, 0, 0, 0] = (255, 128, 128), (139, 209, 198)
    straight = bytes(range(256))
    table = b"mft1" + struct.pack(">I4B", 0, 4, 3, 2, 0)
    table += struct.pack(">9i", *np.eye(3, dtype=int).ravel() << 16)
    table += straight * 4 + lab.tobytes() + straight * 3
    return profile(b"CMYK", b"Lab ", b"prtr", wtpt=place(WHITE), A2B0=table)


def place(xyz):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in xyz))


def profile(space, through=b"XYZ ", kind=b"mntr", **tags):
    """An ICC profile with these tags alone."""
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I", start + len(body)) + b"lcms" + b"\x02\x10\0\0"
    head += kind + space + through + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + place(WHITE)[8:]
    return head.ljust(128, b"\0") + table + body


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_is_read():
    out = decode(encoded(Image.fromarray(colours()), "AVIF", quality=95))
    assert np.abs(out.astype(int) - colours()).mean() < 4
    assert ".avif" in images.EXTENSIONS


def test_jpeg_xl_is_read_where_there_is_a_reader():
    pytest.importorskip("pillow_jxl")
    out = decode(encoded(Image.fromarray(colours()), "JXL", quality=95))
    assert np.abs(out.astype(int) - colours()).mean() < 4
    assert ".jxl" in images.EXTENSIONS


def test_a_very_large_photo_is_decoded_scaled_down():
    data = encoded(Image.new("RGB", (16_000, 12_000), (200, 30, 90)), "JPEG")
    with memory_below(60):
        assert decode(data, 64).shape == (64, 64, 3)
    with memory_below(400):
        out = decode(data)
    assert out.shape == (3000, 4000, 3) and np.ptp(out[5, 5] - (200, 30, 90)) < 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P", "1"])
def test_memory_is_that_of_the_stored_rows(mode):
    side, stored = 6_000, {"RGBA": 4, "I;16": 2}.get(mode, 1)
    picture = Image.new(mode, (side, side), 1)
    data = encoded(picture, compress_level=1)
    del picture
    with memory_below(side**2 * stored / 1e6 + 130):
        assert decode(data, 64).shape == (64, 64, 3)


def test_a_long_screenshot_is_read():
    page = np.full((20_000, 500, 3), 255, np.uint8)
    page[9_800:10_200] = (10, 200, 30)
    assert np.abs(decode(page, 64)[32, 32].astype(int) - (10, 200, 30)).max() < 2
    padded = decode(page, 64, "pad")
    assert (padded[:, 0] == 255).all() and padded[32, 32, 0] < 120


def test_reducing_a_large_image_by_bands_changes_little():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 13, 3), np.uint8))
    picture = coarse.resize((2_880, 2_100), Image.Resampling.BICUBIC)
    for fit in ("pad", "crop", "stretch"):
        found = decode(picture, 96, fit).astype(int)
        wanted = images._square(picture, 96, fit)
        assert 0 < np.abs(found - np.asarray(wanted).astype(int)).mean() < 0.6


def test_a_file_is_bounded_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.jpg"
    path.write_bytes(encoded(Image.fromarray(colours()), "JPEG"))
    os.truncate(path, 40 << 30)  # takes no room on the disk
    with memory_below(20), pytest.raises(BadImage, match="42,950 MB: more than 2,000"):
        decode(path, 64)
    path.write_bytes(b"")
    os.truncate(path, 1 << 30)
    with memory_below(20), pytest.raises(BadImage, match="not an image"):
        decode(path, 64)
    path.write_bytes(encoded(Image.fromarray(colours()), "WEBP"))
    os.truncate(path, 1 << 30)
    with memory_below(20), pytest.raises(BadImage, match="a WEBP file of 1,074 MB"):
        decode(path, 64)


def test_what_is_no_file_is_refused_at_once_and_without_its_path(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg", "none.jpg"):
        with pytest.raises(BadImage) as caught:
            decode(tmp_path / name)
        assert str(tmp_path) not in caught.value.reason
    assert type(caught.value) is Unreachable


def test_an_error_of_the_machine_is_not_the_files(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(colours())))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_files, "_identified", full)
    with pytest.raises(OSError, match="No space left"):
        decode(path)


def test_the_budget_is_shared_and_large_ones_get_their_turn():
    budget, running, most = Budget(10), [0], [0]
    lock, done = threading.Lock(), []

    def work(count):
        with budget.hold(count):
            with lock:
                running[0] += count
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.002)
            with lock:
                running[0] -= count
        done.append(count)

    threads = [threading.Thread(target=work, args=(n,)) for n in [3, 10, 4, 7, 1] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(done) == 40 and most[0] == 10 and budget.used == 0
    with pytest.raises(ValueError, match="so many pixels"), budget.hold(11):
        pass


def test_decoding_on_many_threads_stays_within_the_budget(monkeypatch):
    monkeypatch.setattr(images, "DECODING", Budget(160_000_000))
    data = encoded(Image.new("L", (11_000, 11_000), 7), compress_level=1)
    with memory_below(330):
        found = list(images.threaded(lambda i: decode(data, 64), range(8), threads=8))
    assert all(image.shape == (64, 64, 3) for image in found)


def tiff_with(tag, kind, count, unit):
    """A small grey TIFF with a tag of so many values, each of `unit` bytes."""
    tags = {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1)}
    tags |= {262: (3, 1, 1), 273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 16)}
    tags |= {279: (4, 1, 256), tag: (kind, count, 200)}
    entries = [struct.pack("<HHII", name, *tags[name]) for name in sorted(tags)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries)
    return head.ljust(200, b"\0") + b"\7\1" * (count * unit // 2) + bytes(256)


def jpeg_with(segments):
    """A JPEG with so many segments of 64 KB before its pixels."""
    plain = encoded(Image.fromarray(colours()), "JPEG")
    segment = b"\xff\xed" + struct.pack(">H", 65535) + bytes(65533)
    return plain[:2] + segment * segments + plain[2:]


def png_with(kind, size, behind):
    """A PNG with a chunk of so many bytes before or behind its pixels."""
    plain, body = encoded(Image.fromarray(colours())), bytes(size)
    check = struct.pack(">I", zlib.crc32(kind + body))
    chunk = struct.pack(">I", size) + kind + body + check
    place = len(plain) - 12 if behind else 33
    return plain[:place] + chunk + plain[place:]


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiff_with(273, 3, 15_000_000, 2),
        lambda: tiff_with(37724, 7, 30_000_000, 1),
        lambda: jpeg_with(500),
        lambda: png_with(b"prVt", 30_000_000, behind=False),
        lambda: png_with(b"prVt", 30_000_000, behind=True),
        lambda: b"GIF89a\x10\0\x10\0\0\0\0!\xfe" + (b"\xff" + bytes(255)) * 120_000,
        lambda: b"P5 #" + b" " * 30_000_000,
    ],
    ids=["numbers", "layers", "segments", "front", "behind", "comment", "byte by byte"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_stands_beside_the_pixels_is_bounded(tmp_path, make):
    path = tmp_path / "heavy"
    path.write_bytes(make())
    with memory_below(40), pytest.raises(BadImage, match="more than 24 MB of tags"):
        decode(path, 64)


def test_a_heavy_header_is_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg_with(100))
    assert decode(tmp_path / "a.jpg").shape == (64, 48, 3)
    assert decode(jpeg_with(1)).shape == (64, 48, 3)
    assert decode(png_with(b"prVt", 5_000_000, behind=True)).shape == (64, 48, 3)


def test_a_jpeg_without_its_end_is_mended_without_a_copy_of_its_file(tmp_path):
    path = tmp_path / "a.jpg"
    data = encoded(Image.fromarray(colours()), "JPEG")
    thumbs = b"\xff\xed" + struct.pack(">H", 65535) + bytes(65533)
    path.write_bytes(data[:2] + thumbs * 300 + data[2:-2])
    with memory_below(75):
        np.testing.assert_array_equal(decode(path), decode(data))


def test_what_is_fetched_is_bounded(monkeypatch):
    monkeypatch.setattr(image_files, "SPOOLED_BYTES", 1_000)
    assert image_files.fetched(io.BytesIO(b"x" * 5_000)).read() == b"x" * 5_000
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 4_000)
    with pytest.raises(ValueError, match="a file of more than"):
        image_files.fetched(io.BytesIO(b"x" * 5_000))

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


@pytest.mark.parametrize(("bits", "error"), [(10, 86), (12, 18), (14, 5), (16, 1)])
def test_fewer_bits_in_sixteen_in_colour(bits, error):
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64, 1).repeat(3, -1)
    wide = np.rint(ramp * (2**bits - 1)).astype(">u2")
    out = decode(png48(wide)).astype(float)
    assert np.abs(out - ramp * 255).max() <= error and out.max() == 255


def png48(wide):
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    height, width, _ = wide.shape
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


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


def wide_gamut():
    """A profile whose red is not that of sRGB: its channels change places."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def test_colour_profiles_are_applied(tmp_path):
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    profile = linear_grey()
    out = decode(encoded(Image.fromarray(grey), icc_profile=profile))
    linear = np.arange(64) * 4 / 255
    curve = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    np.testing.assert_allclose(out[3, 2:, 0], 255 * curve[2:], atol=3)
    # A damaged one, one of other channels, and that of sRGB itself change nothing.
    plain = decode(encoded(Image.fromarray(colours())))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for harmless in (b"garbage", wide_gamut(), profile[:60], srgb):
        data = encoded(Image.fromarray(colours()), icc_profile=harmless)
        np.testing.assert_array_equal(decode(data), plain)


def linear_grey():
    """The smallest ICC profile there is: grey values in proportion to light."""

    def tag(body):
        return body + b"\0" * (-len(body) % 4)

    white = tag(b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061))
    curve = tag(b"curv\0\0\0\0" + struct.pack(">I", 0))
    start = 128 + 4 + 2 * 12
    table = struct.pack(">I", 2)
    table += b"wtpt" + struct.pack(">II", start, len(white))
    table += b"kTRC" + struct.pack(">II", start + len(white), len(curve))
    body = table + white + curve
    head = struct.pack(">I", 128 + len(body)) + b"lcms" + b"\x02\x10\0\0mntrGRAYXYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


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

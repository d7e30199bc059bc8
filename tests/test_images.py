import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from sbir_jax.data import image_colour, images
from sbir_jax.data.images import BadImage, decode

RAMP = np.linspace(0, 255, 64 * 64).reshape(64, 64)


def encoded(image, format="PNG", **kwargs):
    out = io.BytesIO()
    image.save(out, format=format, **kwargs)
    return out.getvalue()


def colours():
    """Four flat quarters: red, green, blue, grey."""
    out = np.empty((64, 64, 3), np.uint8)
    out[:32, :32], out[:32, 32:] = (255, 0, 0), (0, 255, 0)
    out[32:, :32], out[32:, 32:] = (0, 0, 255), (128, 128, 128)
    return out


def png(width, height, data=b""):
    """A PNG that claims this size; its pixels are whatever `data` is."""

    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_plain_images_come_out_as_they_are(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(colours())))
    np.testing.assert_array_equal(decode(path), colours())
    np.testing.assert_array_equal(decode(str(path), 64), colours())
    np.testing.assert_array_equal(decode(colours()), colours())
    np.testing.assert_array_equal(decode(Image.fromarray(colours())), colours())


def test_grey_of_8_bits():
    grey = RAMP.astype(np.uint8)
    out = decode(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(out, np.stack([grey] * 3, -1))


def test_grey_of_16_bits_is_scaled_not_clipped():
    wide = (RAMP * 257).astype(np.uint16)
    out = decode(encoded(Image.fromarray(wide)))
    np.testing.assert_allclose(out[..., 0], RAMP, atol=1)


@pytest.mark.parametrize("top", [1, 255])
def test_float_grey(top):
    image = Image.fromarray((RAMP / 255 * top).astype(np.float32))
    np.testing.assert_allclose(decode(encoded(image, "TIFF"))[..., 1], RAMP, atol=1)


def test_float_grey_beyond_any_scale_is_refused():
    image = Image.fromarray((RAMP - 100).astype(np.float32))
    with pytest.raises(BadImage, match="-100 to 155"):
        decode(encoded(image, "TIFF"))


def test_palette_with_and_without_transparency():
    image = Image.fromarray(colours()).quantize(4)
    np.testing.assert_allclose(decode(encoded(image)), colours(), atol=1)
    red = image.getpixel((0, 0))
    out = decode(encoded(image, transparency=red))
    expected = colours()
    expected[:32, :32] = 255
    np.testing.assert_allclose(out, expected, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_shown_on_white(mode):
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, 32:] = 255
    image = Image.new("RGB", (64, 64)).convert(mode)  # black where it is not seen
    image.putalpha(Image.fromarray(alpha))
    out = decode(encoded(image))
    assert (out[:, :32] == 255).all() and (out[:, 32:] == 0).all()


def test_half_transparency_is_mixed():
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 128))
    np.testing.assert_allclose(decode(encoded(image)), 127, atol=1)


def test_cmyk():
    image = Image.fromarray(colours()).convert("CMYK")
    out = decode(encoded(image, "JPEG", quality=95)).astype(int)
    assert np.abs(out[8:24, 8:24] - colours()[8:24, 8:24]).max() < 12
    assert np.abs(out[40:56, 40:56] - 128).max() < 12


@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_rotation(tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    upright = Image.fromarray(colours()[:, :48])
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(tag, tag)  # the turn that undoes the tag's
    stored = upright.transpose(image_colour._TURNS[back]) if tag > 1 else upright
    out = decode(encoded(stored, "JPEG", exif=exif, quality=95, subsampling=0))
    assert out.shape == (64, 48, 3)
    assert np.abs(out.astype(int) - colours()[:, :48]).mean() < 3


@pytest.mark.parametrize("exif", [b"garbage!!", b"II*\0\x08"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_does_no_harm(exif, format):
    data = encoded(Image.fromarray(colours()), format, exif=exif)
    assert decode(data).shape == (64, 64, 3)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"<html>404 not found</html>" * 9, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not an image"),
        (encoded(Image.fromarray(colours()), "JPEG")[:-200], "[Tt]runcated"),
        (encoded(Image.effect_noise((64, 64), 99))[:-900], "[Tt]runcated"),
        (png(30_000, 30_000), "so many pixels .* MB are allowed"),
        (png(9_000, 8_900), "[Tt]runcated"),
        (png(30_000, 100), "longer than 100"),
        (png(4, 400), "under 8"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_hostile_files_are_refused_by_name(tmp_path, data, reason):
    path = tmp_path / "photo (1).jpg"
    path.write_bytes(data)
    with pytest.raises(BadImage, match=reason) as caught:
        decode(path, 64)
    assert caught.value.path == str(path) and caught.value.reason
    with pytest.raises(BadImage, match=reason):
        images.checked_bytes(path)
    with pytest.raises(BadImage):
        decode(data, 64)


def test_size_is_read_from_the_header_alone(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: 1 / 0)
    with pytest.raises(BadImage, match="so many pixels"):
        decode(png(30_000, 30_000))
    with pytest.raises(BadImage, match="30000 x 100 pixels"):
        decode(png(30_000, 100))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(BadImage, match="no such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(BadImage):
        decode(tmp_path)


def test_bad_image_crosses_process_borders():
    error = pickle.loads(pickle.dumps(BadImage("a.jpg", "empty file")))
    assert (error.path, error.reason, str(error)) == (
        "a.jpg",
        "empty file",
        "a.jpg: empty file",
    )


def test_fits():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :40], wide[:, 40:80], wide[:, 80:] = 40, 80, 120
    padded = decode(wide, 60, "pad")
    assert (padded[:19] == 255).all() and (padded[-19:] == 255).all()
    assert (padded[21:39] < 125).all()
    assert (decode(wide, 60, "crop")[:, 4:-4] == 80).all()
    stretched = decode(wide, 60, "stretch")
    assert (stretched[:, :16] == 40).all() and (stretched[:, -16:] == 120).all()
    tall = np.swapaxes(wide, 0, 1)
    np.testing.assert_array_equal(decode(tall, 60, "pad"), np.swapaxes(padded, 0, 1))


def test_sketches_are_padded_and_photos_cropped():
    wide = np.zeros((40, 120, 3), np.uint8)
    assert images.load(wide, 60, "sketch")[0, 0, 0] == 1
    assert images.load(wide, 60, "photo")[0, 0, 0] == -1


@pytest.mark.parametrize("offset", range(17))
def test_thin_lines_survive_reduction(offset):
    drawing = np.full((1088, 1088, 3), 255, np.uint8)
    drawing[:, 500 + offset : 502 + offset] = 0  # two pixels wide, 17 become one
    small = decode(drawing, 64, "pad").astype(float)
    lost = (255 - small[32, :, 0]).sum()
    assert 255 * 2 / 17 * 0.9 < lost < 255 * 2 / 17 * 1.5


def test_jpeg_draft_changes_little_and_is_used(monkeypatch):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (120, 160, 3), np.uint8))
    data = encoded(coarse.resize((1600, 1200)), "JPEG", quality=95)
    for fit in ("pad", "crop", "stretch"):
        fast = decode(data, 160, fit).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(images, "_draft", lambda *_: None)
            slow = decode(data, 160, fit).astype(int)
        assert 0 < np.abs(fast - slow).mean() < 1


def test_batches_equal_single_images():
    rng = np.random.default_rng(0)
    sources = [
        encoded(Image.fromarray(rng.integers(0, 255, (40 + i, 50, 3), np.uint8)))
        for i in range(9)
    ]
    batch = images.decode_batch(sources, 32, "pad")
    for source, image in zip(sources, batch, strict=True):
        np.testing.assert_array_equal(image, decode(source, 32, "pad"))


def test_float_range_and_back():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    floats = images.to_float(values)
    assert floats.dtype == np.float32 and (floats.min(), floats.max()) == (-1, 1)
    np.testing.assert_array_equal(images.to_uint8(floats), values)
    assert images.to_uint8(floats * 2).min() == 0


def test_stored_bytes(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    plain = {
        "rgb.png": encoded(Image.fromarray(colours())),
        "grey.png": encoded(Image.fromarray(colours()).convert("L")),
        "rgb.jpg": encoded(Image.fromarray(colours()), "JPEG"),
        "turned.jpg": encoded(Image.fromarray(colours()), "JPEG", exif=turned),
        "rgb.webp": encoded(Image.fromarray(colours()), "WEBP"),
    }
    odd = {
        "palette.png": encoded(Image.fromarray(colours()).quantize(4)),
        "alpha.png": encoded(Image.fromarray(colours()).convert("RGBA")),
        "wide.png": encoded(Image.fromarray((RAMP * 257).astype(np.uint16))),
        "cmyk.jpg": encoded(Image.fromarray(colours()).convert("CMYK"), "JPEG"),
        "alpha.webp": encoded(Image.new("RGBA", (32, 32), (9, 9, 9, 99)), "WEBP"),
        "key.png": encoded(Image.fromarray(colours()), transparency=(255, 0, 0)),
        "one.bmp": encoded(Image.fromarray(colours()).convert("1"), "BMP"),
    }
    for name, data in {**plain, **odd}.items():
        (tmp_path / name).write_bytes(data)
        stored = images.checked_bytes(tmp_path / name)
        assert (stored == data) == (name in plain), name
        np.testing.assert_array_equal(decode(stored), decode(data))
        with Image.open(io.BytesIO(stored)) as image:
            assert image.mode in ("RGB", "L")


def test_threaded_keeps_order_and_yields_errors():
    def invert(x):
        return 1 / x

    out = list(images.threaded(invert, [1, 2, 0, 4], threads=2, ahead=2))
    assert out[:2] == [1, 0.5] and out[3] == 0.25
    assert isinstance(out[2], ZeroDivisionError)


def test_photos_of_phones_come_upright():
    pytest.importorskip("pillow_heif")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (220, 30, 30), (30, 30, 220)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn clockwise: the red left side comes on top
    found = decode(encoded(Image.fromarray(pixels), "HEIF", exif=turned.tobytes()))
    assert found.shape == (64, 48, 3) and ".heic" in images.EXTENSIONS
    assert found[10, 20, 0] > 180 > 80 > found[50, 20, 0]

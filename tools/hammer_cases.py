"""The cases of `tools.hammer`: hostile pictures, index folders, models, prompts, runs
and requests."""

import io
import json
import pathlib
import random
import struct

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def hostile_image(rng: random.Random) -> tuple[str, bytes]:
    """A name, and the bytes of a picture that was cut, turned over or blown up."""
    forms = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
    forms |= {"TIFF": "tif", "PPM": "ppm"}
    form = rng.choice(sorted(forms))
    mode = rng.choice(("RGB", "L", "P", "1", "RGBA", "CMYK"))
    if mode not in {"TIFF": ("RGB", "L", "P", "1", "RGBA", "CMYK")}.get(form, ("RGB",)):
        mode = "L" if form in ("JPEG", "PNG", "GIF", "BMP", "PPM") else "RGB"
    side = rng.choice((9, 64, 300))
    noise = Image.effect_noise((side, side + 7), 80).convert(mode)
    out = io.BytesIO()
    noise.save(out, form)
    content = bytearray(bytes(out.getbuffer()))
    how = rng.choice(("cut", "flip", "head", "zeros", "grown", "joined", "other"))
    place = rng.randrange(len(content))
    if how == "cut":
        del content[place:]
    elif how == "flip":
        for _ in range(rng.choice((1, 9, 99))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "head":  # sizes and counts stand here
        for _ in range(4):
            content[rng.randrange(min(64, len(content)))] = rng.choice((0, 255, 127))
    elif how == "zeros":
        content[place : place + 500] = bytes(len(content[place : place + 500]))
    elif how == "grown":
        content += rng.randbytes(10_000)
    elif how == "joined":
        content += bytes(content)
    else:
        content = bytearray(rng.randbytes(rng.choice((0, 1, 30, 9_000))))
    return f"{how}.{forms[form]}", bytes(content)


def heavy_image(rng: random.Random) -> tuple[str, bytes]:
    """A small picture with much beside its pixels; half of it may be read."""
    size = rng.choice((20_000_000, 40_000_000))
    out, form = io.BytesIO(), rng.choice(("numbers", "layers", "segments", "comment"))
    small = Image.new("L", (16, 16), 90)
    if form == "comment":
        part = b"\xff" + bytes(255)
        return "comment.gif", b"GIF89a\x10\0\x10\0\0\0\0!\xfe" + part * (size >> 8)
    if form == "segments":
        small.save(out, "JPEG")
        plain, part = out.getvalue(), b"\xff\xed\xff\xff" + bytes(65533)
        return "segments.jpg", plain[:2] + part * (size >> 16) + plain[2:]
    # Strips' places are read as numbers, Photoshop's layers as bytes.
    mine = {"numbers": (273, 3, size // 2, 200), "layers": (37724, 7, size, 200)}[form]
    tags = {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1)}
    tags |= {262: (3, 1, 1), 273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 16)}
    tags |= {279: (4, 1, 256), mine[0]: mine[1:]}
    entries = [struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries)
    return f"{form}.tif", head.ljust(200, b"\0") + b"\7\1" * (size // 2) + bytes(256)


VALUES = (None, -1, 0, 1e300, 10**30, "", "x", [], {}, [[[]]] * 9, True, "é\x00")


def damage(rng: random.Random, folder: pathlib.Path) -> str:
    """Spoils one file of an index; its name, and how."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name != "lock"]
    path = rng.choice(files)
    how = rng.choice(
        ("cut", "flip", "gone", "folder", "zeros", "value", "deep", "long", "bytes")
    )
    content = bytearray(path.read_bytes())
    if how == "deep" and path.suffix == ".json":
        path.write_text("[" * 100_000 + "]" * 100_000)
    elif how in ("long", "bytes"):
        spoilt = {"long": b"a,b\na," + b"x" * 200_000, "bytes": b"\xff\xfe\0\n" * 9}
        path.write_bytes(spoilt[how])
    elif how in ("value", "deep") or path.name == "index.json":
        path = folder / "index.json"
        values = json.loads(path.read_text())
        key = rng.choice(sorted(values))
        if rng.random() < 0.3:
            del values[key]
        else:
            values[key] = rng.choice(VALUES)
        path.write_text(json.dumps(values))
    elif how == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    elif how == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
    return f"{path.relative_to(folder)} {how}"


def spoil_json(rng: random.Random, path: pathlib.Path) -> str:
    """Changes one value of a JSON file, somewhere in it; how."""
    how = rng.choice(("value", "value", "value", "gone", "cut", "deep", "other"))
    text = path.read_text()
    if how == "cut":
        path.write_text(text[: rng.randrange(len(text))])
    elif how == "deep":
        path.write_text("[" * 100_000 + "]" * 100_000)
    elif how == "other":
        path.write_text(json.dumps(rng.choice(VALUES)))
    else:
        values = json.loads(text)
        place = values
        while True:
            key = rng.choice(sorted(place))
            if isinstance(place[key], dict) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            break
        how = f"{key} {how}"
        if how.endswith("gone"):
            del place[key]
        else:
            place[key] = rng.choice((*VALUES, 10**9, "up.9.out", [1] * 9999))
        path.write_text(json.dumps(values))
    return f"{path.name} {how}"


def spoil_bytes(rng: random.Random, path: pathlib.Path, head: int = 0) -> str:
    """Cuts, turns or clears a file; how. Args: head: only within so many bytes."""
    content = bytearray(path.read_bytes())
    how = rng.choice(("cut", "flip", "zeros", "gone", "empty"))
    within = min(head or len(content), len(content))
    if how == "cut":
        del content[rng.randrange(len(content)) :]
    elif how == "flip":
        content[rng.randrange(within)] ^= 1 << rng.randrange(8)
    elif how == "zeros":
        content[:within] = bytes(within)
    elif how == "empty":
        content.clear()
    path.write_bytes(content)
    if how == "gone":
        path.unlink()
    return f"{path.name} {how}"


def damage_model(rng: random.Random, folder: pathlib.Path) -> str:
    """Spoils one file of a model in the layout of diffusers; its name, and how."""
    parts = ("unet", "vae", "text_encoder", "scheduler")
    part = rng.choice(parts)
    if part == "scheduler" or rng.random() < 0.6:
        path = next((folder / part).glob("*.json"))
        return f"{part}/{spoil_json(rng, path)}"
    path = next((folder / part).glob("*.safetensors"))
    head = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    return f"{part}/{spoil_bytes(rng, path, head)}"


def damage_prompts(rng: random.Random, path: pathlib.Path) -> str:
    """Spoils a prompts file: its header's words, its tensors, or its bytes; how."""
    kind = rng.choice(("head", "head", "tensor", "bytes"))
    if kind == "bytes":
        return spoil_bytes(rng, path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    if kind == "head":
        aside = path.with_suffix(".json")
        aside.write_text(metadata["sbir_jax"])
        how = spoil_json(rng, aside)
        metadata["sbir_jax"] = aside.read_text()
        aside.unlink()
    else:
        how = rng.choice(("nan", "short", "type", "gone", "flat"))
        value = tensors.pop(name)
        changed = {
            "nan": value * np.nan,
            "short": value[:1].copy(),
            "type": value.astype(np.int16),
            "flat": value.reshape(-1),
        }
        tensors |= {name: changed[how]} if how in changed else {}
        how = f"{name} {how}"
    save_file(tensors, path, metadata)
    return f"{path.name} {how}"


def damage_run(rng: random.Random, folder: pathlib.Path) -> str:
    """Spoils one file of a run folder; its name, and how."""
    if rng.random() < 0.6:
        return spoil_json(rng, folder / rng.choice(("config.json", "owner.json")))
    files = [path for path in (folder / "checkpoints").rglob("*") if path.is_file()]
    return spoil_bytes(rng, rng.choice(sorted(files)))


def hostile_request(rng: random.Random) -> tuple[str, str, dict]:
    """Method, path and arguments of httpx's `request`."""
    good = {"image": "iVBORw0KGgo=", "k": 3, "text": "a cup"}
    path = rng.choice(
        (
            *("/", "/api/search", "/api/explain", "/api/similar/{}", "/api/photo/{}"),
            *("/api/thumbnail/{}", "/api/info", "/openapi.json", "/../etc/passwd"),
        )
    ).format(rng.choice(("0" * 16, "..%2f..", "é", "%00", "a" * 5000, "")))
    method = rng.choice(("GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"))
    given: dict = {"headers": {"Host": rng.choice(("localhost", "evil.example", "::"))}}
    kind = rng.randrange(5)
    if kind == 0:
        given["json"] = {**good, rng.choice(sorted(good)): rng.choice(VALUES[:3])}
    elif kind == 1:
        given["content"] = rng.randbytes(rng.choice((0, 10, 100_000)))
        given["headers"]["Content-Type"] = rng.choice(
            ("application/json", "multipart/form-data; boundary=b", "text/plain", "")
        )
    elif kind == 2:
        given["files"] = {"image": hostile_image(rng)}
    elif kind == 3:
        given["content"] = b"[" * 200_000
        given["headers"]["Content-Type"] = "application/json"
    else:
        given["params"] = {"k": rng.choice(("-1", "nan", "9" * 40)), "token": "x"}
    return method, path, given

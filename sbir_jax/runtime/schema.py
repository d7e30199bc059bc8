"""Foreign JSON against a schema: types and bounds, before anything is made of it.

A schema is a dataclass whose fields are annotated with pydantic's bounds. Numbers that
count something have an upper one: a config that asks for a billion layers must fail
here, not when they are traced.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

T = TypeVar("T")
MOST_JSON = 2**25  # bytes; the index of a large model's shards has some 100,000


# Making one takes longer than using it.
_adapter = functools.cache(pydantic.TypeAdapter)


def read_json(path: pathlib.Path, remedy: str = "Copy or fetch it again") -> dict:
    """The object in a JSON file.

    Raises:
      FileNotFoundError: no such file. ValueError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}. {remedy}")
    size = path.stat().st_size
    if size > MOST_JSON:
        raise ValueError(
            f"{path} has {size} bytes; such files have at most {MOST_JSON}. {remedy}"
        )
    try:
        return parsed(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} {error}. {remedy}") from error


def parsed(text: str | bytes) -> dict:
    """The object in a JSON text. Raises: ValueError saying what else it is."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from error
    except RecursionError:
        raise ValueError("is not valid here: it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, not an object")
    return value


def validated(
    schema: type[T],
    values: Mapping[str, Any],
    what: str,
    remedy: str = "Take the file from where the model was published, unchanged",
) -> T:
    """The dataclass `schema` with these JSON values.

    Args:
      what: named in errors, such as "UNet config".
    Raises: ValueError in one line: the key, the value, the rule and the remedy.
    """
    try:
        # Read as JSON: there lists are tuples, and nothing is converted silently.
        return _adapter(schema).validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "constrained-int")
        given = repr(first["input"])
        given = f"{given[:60]}..." if len(given) > 60 else given
        rule = first["msg"].replace(" after validation", "")
        told = f"{key} is {given}, but {rule[:1].lower()}{rule[1:]}"
        if first["type"] == "missing":  # what is given then is all around it
            told = f"{key} is missing"
        raise ValueError(f"{what}: {told}. {remedy}") from None

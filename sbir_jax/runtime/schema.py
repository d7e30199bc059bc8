"""Foreign JSON against a schema: types and bounds, before anything is made of it.

A schema is a dataclass whose fields are annotated with pydantic's bounds. Numbers that
count something have an upper one: a config that asks for a billion layers must fail
here, not when they are traced.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

T = TypeVar("T")


def validated(schema: type[T], values: Mapping[str, Any], what: str) -> T:
    """The dataclass `schema` with these JSON values.

    Args:
      what: named in errors, such as "UNet config".
    Raises: ValueError in one line: the key, the value, the rule and the remedy.
    """
    try:
        # Read as JSON: there lists are tuples, and nothing is converted silently.
        adapter = pydantic.TypeAdapter(schema)
        return adapter.validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "constrained-int")
        given = repr(first["input"])
        given = f"{given[:60]}..." if len(given) > 60 else given
        rule = first["msg"].replace(" after validation", "")
        raise ValueError(
            f"{what}: {key} is {given}, but {rule[:1].lower()}{rule[1:]}. Take the "
            "file from where the model was published, unchanged"
        ) from None

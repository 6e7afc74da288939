"""Values of the contract's record: defaults, parameters and JSON trees, the same on every machine."""

from __future__ import annotations

import enum
import inspect
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, get_args

from fastapi.testclient import TestClient

# Everything taken from the project. Ray is optional, so its module is imported by name.
from linewise.service import settings
from linewise.service.app import create_app
from tests.service.conftest import draw_line, encode, wait_until_ready

RAY_SERVING = "linewise.service.ray_serving"

RECORD = Path(__file__).parents[1] / "contract.json"
PICTURES = Path(__file__).parents[1] / "data"
FILES = ("receipt.png", "sign.jpg")
RENEW = os.environ.get("LINEWISE_RENEW_CONTRACT") == "1"

PROSE = {"description", "title", "summary", "example", "examples"}
TOLERANCES = {"confidence": 0.02, "confidence_min": 0.02, "confidences": 0.02, "polygon": 2.0}  # by key
KEY = "a-key-of-the-contract"


def plain(value: Any) -> Any:
    """A default value as JSON, the same on every machine."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return "<machine>" if value.is_absolute() else str(value)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return spelled(value)


def spelled(value: Any) -> str:
    """The representation of a value or type, without module paths and addresses."""
    text = value.__name__ if isinstance(value, type) and not get_args(value) else repr(value)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"(?<![\w'\"/.])(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def parameters(function: Any) -> list[str]:
    """Names, kinds and defaults of the parameters, without annotations."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return []
    found = []
    for one in signature.parameters.values():
        default = "" if one.default is one.empty else f" = {json.dumps(plain(one.default), ensure_ascii=False)}"
        found.append(f"{one.name}: {one.kind.description}{default}")
    return found


def tree(value: Any) -> Any:
    """The keys of a JSON document with the types of their values."""
    if isinstance(value, dict):
        return {key: tree(one) for key, one in value.items()}
    if isinstance(value, list):
        kinds = {json.dumps(tree(one), sort_keys=True) for one in value}
        return [json.loads(kind) for kind in sorted(kinds)]
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names[type(value)]


@contextmanager
def running(reader: Any, pages: Any, **chosen: Any) -> Iterator[TestClient]:
    """A client of a ready application."""
    app = create_app(settings.Settings(threads=1, **chosen), reader, pages)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


def picture() -> bytes:
    """A small picture of a line of text."""
    return encode(draw_line())

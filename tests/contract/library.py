"""Library, errors, answers and checkpoint of the contract."""

from __future__ import annotations

import ast
import inspect
import io
import json
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pypdfium2
import pytest
from PIL import Image
from safetensors import safe_open

# Everything taken from the project. Ray is optional, so its module is imported by name.
from linewise import model
from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service import client, errors
from tests.contract.values import (
    FILES,
    KEY,
    PICTURES,
    RAY_SERVING,
    parameters,
    picture,
    running,
    spelled,
    tree,
)
from tests.service.conftest import FakePages, FakeReader, encode

PROTOCOL = {"__enter__", "__exit__", "__aenter__", "__aexit__", "__call__", "__iter__", "__len__", "__getitem__"}


def assigned(kind: type) -> set[str]:
    """Public attributes that the initialiser of a class sets."""
    initialise = vars(kind).get("__init__")
    try:
        source = textwrap.dedent(inspect.getsource(initialise)) if inspect.isfunction(initialise) else ""
    except OSError:  # generated, as for a dataclass
        return set()
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if isinstance(node.value, ast.Name) and node.value.id == "self" and not node.attr.startswith("_")
    }


def member(value: Any) -> dict[str, Any]:
    """One attribute in the namespace of a class."""
    if isinstance(value, property):
        return {"kind": "property"}
    wrapper = {classmethod: "class method", staticmethod: "static method"}.get(type(value), "method")
    function = getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return {"kind": "attribute"}
    marks = (inspect.iscoroutinefunction(function), inspect.isasyncgenfunction(function))
    return {"kind": ("async " if any(marks) else "") + wrapper, "parameters": parameters(function)}


def described(value: Any) -> dict[str, Any]:
    """One public name of a module."""
    if not isinstance(value, type):
        if inspect.isfunction(value):
            return {"kind": "function", "parameters": parameters(value)}
        return {"kind": "value", "value": spelled(value)}
    home = value.__module__.partition(".")[0]
    members: dict[str, Any] = {}
    for kind in reversed(value.__mro__):
        if kind.__module__.partition(".")[0] != home:
            continue
        names = inspect.get_annotations(kind).keys() | assigned(kind)
        members |= {name: {"kind": "attribute"} for name in names if not name.startswith("_")}
        members |= {
            name: member(one)
            for name, one in vars(kind).items()
            if not name.startswith("_") or (name in PROTOCOL and inspect.isfunction(one))
        }
    made = getattr(value, "__dataclass_params__", None)
    return {
        "kind": "class",
        "bases": [kind.__name__ for kind in value.__mro__[1:-1]],
        "parameters": parameters(value),
        "members": members,
        "frozen": bool(made and made.frozen),
    }


def public(module: ModuleType) -> list[str]:
    """The public names of a module: its ``__all__``, else what it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    names: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return sorted(name for name in names if not name.startswith("_"))


def library() -> dict[str, Any]:
    """The public names of the library and of the client."""
    return {
        "model": {name: described(getattr(model, name)) for name in public(model)},
        "client": {name: described(getattr(client, name)) for name in public(client)},
    }


def ray() -> dict[str, Any]:
    """The application builder for Ray Serve."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    return {"build": described(import_module(RAY_SERVING).build)}


def kinds(base: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    """An error class and those derived from it."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def problems() -> dict[str, Any]:
    """Problem codes with their status, and headers and members of answers."""
    codes = {
        kind.code: kind.status
        for kind in kinds(errors.ServiceError)
        if "code" in vars(kind) and kind.__module__ == errors.ServiceError.__module__
    }
    given = {"Authorization": f"Bearer {KEY}"}
    answers: dict[str, Any] = {}
    with running(FakeReader(), FakePages(), api_keys=KEY, rate_limit="3/year") as client:

        def note(name: str, method: str, path: str, **options: Any) -> None:
            answer = client.request(method, path, **options)
            body = answer.json()
            answers[name] = {
                "status": answer.status_code,
                "code": body.get("code"),
                "content_type": answer.headers["content-type"],
                "headers": sorted(answer.headers),
                "members": tree(body),
            }

        note("ok", "POST", "/recognize", content=picture(), headers=given)
        note("undecodable", "POST", "/recognize", content=picture()[:60], headers=given)
        note("wrong option", "POST", "/recognize", content=picture(), params={"mode": "x"}, headers=given)
        note("too often", "POST", "/recognize", content=picture(), headers=given)
        note("no key", "POST", "/recognize", content=picture())
        note("no such address", "GET", "/nowhere")
        note("wrong method", "GET", "/recognize")
    return {"codes": codes, "answers": answers}


def condensed(value: Any, key: str = "") -> Any:
    """What an answer says, with characters and corners in short."""
    if key == "polygon":
        return [round(float(number), 1) for corner in value for number in corner]
    if key == "chars":
        return {
            "text": "".join(one["text"] for one in value),
            "confidences": [round(one["confidence"], 3) for one in value],
            "polygon": condensed(value[len(value) // 2]["polygon"], "polygon") if value else [],  # of the middle one
        }
    if isinstance(value, dict):
        left_out = ("request_id", "timing_ms", "revision", "total_ms")
        return {name: condensed(one, name) for name, one in value.items() if name not in left_out}
    if isinstance(value, list):
        return [condensed(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def stacked(*pictures: bytes) -> bytes:
    """A page with several pictures, one below the other."""
    opened = [Image.open(io.BytesIO(one)).convert("RGB") for one in pictures]
    page = Image.new("RGB", (max(one.width for one in opened) + 40, sum(one.height + 40 for one in opened)), "white")
    top = 20
    for one in opened:
        page.paste(one, (20, top))
        top += one.height + 40
    return encode(page)


def outline(text: str) -> list[str]:
    """The elements of an XML document with names of attributes, identifiers and texts, one a line."""

    def lines(element: ET.Element, depth: int) -> Iterator[str]:
        identity = [f"{key}={element.attrib[key]}" for key in ("class", "id", "ID", "CONTENT") if key in element.attrib]
        others = sorted(local(key) for key in element.attrib.keys() - {"class", "id", "ID", "CONTENT"})
        words = (element.text or "").strip()
        yield " ".join(["  " * depth + local(element.tag), *identity, *others, *([f"| {words}"] if words else [])])
        for child in element:
            yield from lines(child, depth + 1)

    def local(name: str) -> str:
        return name.rpartition("}")[2]

    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    return [f"namespace {root.tag.rpartition('}')[0][1:]}", *lines(root, 0)]


def answers() -> dict[str, Any]:
    """What is read in the pictures of the tests, in every form."""
    if not DEFAULT_PATH.exists():
        pytest.skip("no weights in this tree")
    pictures = {name: (PICTURES / name).read_bytes() for name in FILES}
    pictures["both"] = stacked(*pictures.values())
    reader = model.load(device="cpu", precision="float32")  # the one that every processor has
    found: dict[str, Any] = {"json": {}, "keys": {}, "keys without options": {}, "forms": {}}
    with running(reader, model.load_page_reader(reader=reader)) as client:

        def post(name: str, accept: str = "application/json", **options: Any) -> Any:
            answer = client.post(
                "/recognize",
                content=pictures[name],
                params=options,
                headers={"Accept": accept, "X-Request-Timeout": "100"},
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].partition(";")[0] == accept
            return answer

        for name, mode in (*product(FILES, ("line", "page")), ("both", "page")):
            body = post(name, mode=mode, detail="chars", alternatives=3).json()
            found["json"][f"{name} {mode}"] = condensed(body)
            found["keys"][f"{name} {mode}"] = tree(body)
        for name, mode in (("sign.jpg", "line"), ("receipt.png", "page"), ("both", "page")):
            found["keys without options"][f"{name} {mode}"] = tree(post(name, mode=mode).json())
            written = post(name, "application/pdf", mode=mode).content
            found["forms"][f"{name} {mode}"] = {
                "text": post(name, "text/plain", mode=mode).text,
                "hocr": outline(post(name, "text/vnd.hocr+html", mode=mode).text),
                "alto": outline(post(name, "application/alto+xml", mode=mode).text),
                "pdf": [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(written)],
            }
        batch = client.post(
            "/recognize/batch",
            files=[("files", pictures["sign.jpg"]), ("files", b"no picture")],
            headers={"X-Request-Timeout": "100"},
        ).json()
        found["keys"]["batch"] = tree(batch)
    return found


def checkpoint() -> dict[str, Any]:
    """The metadata and the keys of the configuration of each shipped file of weights."""
    if not DEFAULT_PATH.exists():
        pytest.skip("no weights in this tree")
    found: dict[str, Any] = {}
    for path in sorted(DEFAULT_PATH.parent.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        found[path.name] = {"metadata": sorted(metadata), "config": sorted(json.loads(metadata["config"]))}
    return found

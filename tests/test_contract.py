"""Comparison of the public contract with its record in ``contract.json``.

The record holds what programs rely on: routes, options, settings, metrics, names, codes, answers. It leaves out texts
for people. After an intended change, renew it and review the difference:

    LINEWISE_RENEW_CONTRACT=1 python -m pytest tests/test_contract.py
"""

from __future__ import annotations

import ast
import difflib
import enum
import inspect
import io
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Literal, cast, get_args, get_origin
from xml.etree import ElementTree as ET

import pypdfium2
import pytest
import typer
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from safetensors import safe_open

# Everything taken from the project. Ray is optional, so its module is imported by name.
from linewise import model
from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service import client, errors, settings
from linewise.service.app import create_app
from linewise.service.cli import main as cli
from tests.service.conftest import FakePages, FakeReader, draw_line, encode, wait_until_ready

RAY_SERVING = "linewise.service.ray_serving"

RECORD = Path(__file__).with_name("contract.json")
PICTURES = Path(__file__).with_name("data")
FILES = ("receipt.png", "sign.jpg")
RENEW = os.environ.get("LINEWISE_RENEW_CONTRACT") == "1"

PROSE = {"description", "title", "summary", "example", "examples"}
TOLERANCES = {"confidence": 0.02, "confidence_min": 0.02, "confidences": 0.02, "polygon": 2.0}  # by key
KEY = "a-key-of-the-contract"


# Values ---------------------------------------------------------------------------------------------------------------


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


# OpenAPI and routes ---------------------------------------------------------------------------------------------------


def without_prose(schema: Any, *, names: bool = False) -> Any:
    """A JSON Schema without texts for people; with ``names`` the keys are property names."""
    if isinstance(schema, list):
        return [without_prose(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value
        if not names and key in ("default", "enum", "const", "required")
        else without_prose(value, names=not names and key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or key not in PROSE
    }


def content(described: dict[str, Any]) -> dict[str, Any]:
    """Schemas by content type."""
    return {kind: without_prose(one.get("schema", {})) for kind, one in described.get("content", {}).items()}


def openapi() -> dict[str, Any]:
    """Operations and schemas of the OpenAPI document."""
    document = create_app(settings.Settings(), FakeReader(), FakePages()).openapi()
    operations = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody")
            operations[f"{method.upper()} {path}"] = {
                "operationId": operation["operationId"],
                "tags": operation.get("tags", []),
                "parameters": {
                    f"{one['in']} {one['name']}": {
                        "required": one.get("required", False),
                        "schema": without_prose(one["schema"]),
                    }
                    for one in operation.get("parameters", ())
                },
                "requestBody": body and {"required": body.get("required", False), "content": content(body)},
                "responses": {status: content(one) for status, one in operation["responses"].items()},
                "security": operation.get("security", []),
            }
    components = {kind: without_prose(named, names=True) for kind, named in document["components"].items()}
    return {"openapi": document["openapi"], "operations": operations, "components": components}


def routes() -> dict[str, Any]:
    """Status and content type of every address, with those outside the OpenAPI document."""
    asked = {
        "GET": (
            "/", "/docs", "/healthz/live", "/healthz/ready", "/metrics", "/nowhere", "/openapi.json", "/v1/models",
            "/v2/health/live", "/v2/health/ready", "/web/page.css", "/web/page.js",
        ),
        "POST": ("/recognize", "/v1/recognize"),
    }  # fmt: skip
    found: dict[str, Any] = {}
    with running(FakeReader(), FakePages()) as client:
        for method, paths in asked.items():
            for path in paths:
                body = picture() if method == "POST" else None
                answer = client.request(method, path, content=body)
                found[f"{method} {path}"] = [answer.status_code, answer.headers["content-type"]]
        for path in ("/recognize/batch", "/v1/recognize/batch"):
            answer = client.post(path, files=[("files", picture())])
            found[f"POST {path}"] = [answer.status_code, answer.headers["content-type"]]
        found["models"] = tree(client.get("/v1/models").json())
        found["health"] = {path: client.get(path).json() for path in ("/healthz/live", "/healthz/ready")}
    return found


# Command line and settings --------------------------------------------------------------------------------------------


def parameter(one: Any) -> dict[str, Any]:
    """One option or argument of a command."""
    kind = one.type_descriptor.annotation
    repeated = get_origin(kind) is list
    if repeated:
        (kind,) = get_args(kind)
    choices = None
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
    about = one.type_descriptor.parameter_info
    return {
        "kind": one.param_type_name,
        "options": [*one.opts, *one.secondary_opts],
        "type": "choice" if choices else spelled(kind),
        "choices": choices,
        "required": one.required,
        "default": plain(one.default),
        "multiple": repeated or one.multiple or one.nargs == -1,
        "is_flag": getattr(one, "is_flag", False),
        "bounds": [about.min, about.max],
        "file": [name for name in ("exists", "file_okay", "dir_okay") if getattr(about, name)],
        "env": one.envvar,
    }


def command(one: Any) -> dict[str, Any]:
    """One command with its parameters in order, and its commands."""
    found: dict[str, Any] = {
        "parameters": {each.name: parameter(each) for each in one.params},
        "arguments": [each.name for each in one.params if each.param_type_name == "argument"],
        "hidden": one.hidden,
    }
    if hasattr(one, "commands"):
        found["commands"] = {name: command(each) for name, each in one.commands.items()}
    return found


def command_line() -> dict[str, Any]:
    """The tree of commands."""
    top = typer.main.get_command(cli.app)
    return {"name": top.name, **command(top)}


def fields(kind: Any) -> dict[str, Any]:
    """The fields of a settings class by environment variable."""
    found = {}
    for name, field in kind.model_fields.items():
        alias = field.validation_alias
        names = [f"{kind.model_config['env_prefix']}{name}".upper()] if alias is None else [spelled(alias)]
        found[" ".join(names)] = {
            "name": name,
            "type": spelled(field.annotation),
            "constraints": [spelled(one) for one in field.metadata],
            "required": field.is_required(),
            "default": plain(field.get_default(call_default_factory=True)),
        }
    return found


def all_settings() -> dict[str, Any]:
    """The settings of the service and of its replicas."""
    return {
        kind.__name__: {"extra": kind.model_config.get("extra"), "fields": fields(kind)}
        for kind in (settings.Settings, settings.Replicas)
    }


# Metrics --------------------------------------------------------------------------------------------------------------


def metrics() -> dict[str, Any]:
    """Names, kinds, labels and buckets after good and refused requests."""
    with running(FakeReader(), FakePages()) as client:
        assert client.post("/recognize", content=picture()).status_code == 200
        assert client.post("/recognize", content=b"no picture").status_code == 415
        assert client.post("/recognize", content=picture(), params={"detail": "x"}).status_code == 422
        answer = client.get("/metrics")
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(answer.text):
        samples: dict[str, list[str]] = {}
        buckets: list[str] = []
        for sample in family.samples:
            samples[sample.name] = sorted(sample.labels)
            if sample.labels.get("le", "") not in ("", *buckets):
                buckets.append(sample.labels["le"])
        found[family.name] = {"type": family.type, "samples": samples, "buckets": buckets}
    return found


# Library --------------------------------------------------------------------------------------------------------------

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


# Errors ---------------------------------------------------------------------------------------------------------------


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


# Answers with the shipped weights -------------------------------------------------------------------------------------


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


# Checkpoint -----------------------------------------------------------------------------------------------------------


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


# Comparison -----------------------------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "answers": answers,
    "checkpoint": checkpoint,
    "cli": command_line,
    "errors": problems,
    "library": library,
    "metrics": metrics,
    "openapi": openapi,
    "ray": ray,
    "routes": routes,
    "settings": all_settings,
}


def as_text(section: Any) -> str:
    """Indented JSON with sorted keys and short lists on one line."""
    text = json.dumps(section, ensure_ascii=False, indent=2, sort_keys=True)

    def joined(match: re.Match[str]) -> str:
        line = "[" + " ".join(one.strip() for one in match[1].splitlines()) + "]"
        return line if len(line) <= 100 or not re.search(r'"', line) else match[0]

    return re.sub(r"\[\n((?:[^\[\]{}\n]+\n)+)\s*\]", joined, text) + "\n"


def settled(found: Any, kept: Any, tolerance: float = 0.0) -> Any:
    """What was found, with recorded numbers in place of those within tolerance of them."""
    if isinstance(found, dict) and isinstance(kept, dict):
        return {key: settled(one, kept.get(key), TOLERANCES.get(key, 0.0)) for key, one in found.items()}
    if isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        return [settled(one, other, tolerance) for one, other in zip(found, kept, strict=True)]
    if isinstance(found, float) and isinstance(kept, float):
        return kept if abs(found - kept) <= tolerance else found
    return found


def recorded() -> dict[str, Any]:
    """The record, empty where there is none yet."""
    return cast(dict[str, Any], json.loads(RECORD.read_text("utf-8"))) if RECORD.exists() else {}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LINEWISE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_contract_is_kept(section: str) -> None:
    record = recorded()
    kept = record.get(section)
    found = settled(json.loads(json.dumps(SECTIONS[section]())), kept)
    if RENEW:
        record[section] = found
        RECORD.write_text(as_text(record), "utf-8")
        return
    difference = "\n".join(
        difflib.unified_diff(
            as_text(kept).splitlines(), as_text(found).splitlines(), "recorded", "found", n=12, lineterm=""
        )
    )
    if found != kept or difference:
        pytest.fail(f"the contract has changed in its section {section}:\n{difference}", pytrace=False)


def test_the_record_has_the_sections_and_the_form_that_are_written() -> None:
    record = recorded()
    assert sorted(record) == sorted(SECTIONS)
    assert RECORD.read_text("utf-8") == as_text(record)

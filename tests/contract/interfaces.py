"""Interfaces of the contract: OpenAPI, routes, command line, settings, metrics."""

from __future__ import annotations

import enum
from typing import Any, Literal, get_args, get_origin

import typer
from prometheus_client.parser import text_string_to_metric_families

# Everything taken from the project. Ray is optional, so its module is imported by name.
from linewise.service import settings
from linewise.service.app import create_app
from linewise.service.cli import main as cli
from tests.contract.values import (
    PROSE,
    picture,
    plain,
    running,
    spelled,
    tree,
)
from tests.service.conftest import FakePages, FakeReader


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
            "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/linewise", "/v2/models/linewise/ready",
            "/v2/models/linewise/versions/1", "/v2/models/linewise/versions/1/ready", "/web/card.js", "/web/page.css",
            "/web/page.js", "/web/picture.js", "/web/service.js",
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

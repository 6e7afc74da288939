"""The service's import graph: packages depend in one direction, and on the model's public names only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from linewise import model, service

FOLDER = Path(service.__file__).resolve().parent
PUBLIC = set(model.__all__)
ALL = sorted(FOLDER.rglob("*.py"))
# The command line also starts training, rendering, evaluation and benchmarks.
SERVICE = [file for file in ALL if "cli" not in file.relative_to(FOLDER).parts]

# What each package may import of the service. The modules at the top (app, settings, server, ...) wire them together.
ALLOWED = {
    "documents": {"errors"},
    "formats": {"documents", "errors"},
    "inference": {"cpu", "documents", "errors"},
    "middleware": {"errors", "metrics"},
    "api": {"documents", "errors", "formats", "inference", "metrics", "middleware", "settings"},
    "bulk": {"documents", "errors", "formats", "inference", "settings"},
    "cli": {
        "app", "bulk", "cpu", "documents", "errors", "formats", "inference", "integrations", "ray_serving", "server",
        "settings",
    },
    "client": set(),
    "integrations": {"cpu", "documents", "errors", "formats", "inference", "settings"},
    "web": {"api", "documents", "errors", "inference", "middleware"},
}  # fmt: skip


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def names(file: Path) -> set[str]:
    """The dotted names below `linewise.service` that a file imports, as modules or from them."""
    full = {f"{module}.{name}" for module, name in imports(file)}
    return {name.removeprefix("linewise.service.") for name in full if name.startswith("linewise.service.")}


def module_name(file: Path) -> str:
    """The dotted name below `linewise.service` of a file."""
    parts = file.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_only_public_names_of_the_model_are_used() -> None:
    for file in SERVICE:
        for module, name in imports(file):
            if module.startswith("linewise.model") or (module, name) == ("linewise", "model"):
                allowed = module == "linewise" or (module == "linewise.model" and name in PUBLIC)
                assert allowed, f"{file}: {module}.{name}"


def test_no_tensors_and_no_opencv_in_the_service() -> None:
    for file in SERVICE:
        used = {module.split(".")[0] for module, _ in imports(file)}
        assert not used & {"torch", "cv2", "torchvision"}, file


def test_every_package_is_named_here() -> None:
    assert {folder.name for folder in FOLDER.iterdir() if (folder / "__init__.py").exists()} == set(ALLOWED)


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_in_one_direction(package: str) -> None:
    files = list((FOLDER / package).rglob("*.py"))
    assert files
    for file in files:
        assert {n.split(".")[0] for n in names(file)} <= ALLOWED[package] | {package}, file


def test_the_client_stands_alone() -> None:
    for file in (FOLDER / "client").rglob("*.py"):
        assert all(name.startswith("client") for name in names(file)), file
        assert not any(module.startswith("linewise.model") for module, _ in imports(file)), file


def test_the_batcher_knows_no_http_and_none_of_its_users() -> None:
    names = ("batcher", "queue", "results", "scheduler")
    used = {module for name in names for module, _ in imports(FOLDER / "inference" / f"{name}.py")}
    used -= {f"linewise.service.inference.{name}" for name in names}
    assert not {module.split(".")[0] for module in used} & {"linewise", "fastapi", "starlette", "uvicorn", "asyncio"}


def test_ray_is_imported_where_it_was_asked_for_and_nowhere_else() -> None:
    others = [file for file in ALL if not file.name.startswith("ray_")]
    for file in others:
        assert "ray" not in {module.split(".")[0] for module, _ in imports(file)}, file
    modules = ", ".join(f"linewise.service.{module_name(file)}".rstrip(".") for file in others)
    code = f"import sys, {modules}; print({{'ray', 'pyarrow', 'pandas'}} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_modules_import_without_cycles() -> None:
    modules = {module_name(file): file for file in ALL if file.name != "__init__.py"}
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        used = names(file)
        graph[module] = {other for other in modules if other in used or other in {n.rpartition(".")[0] for n in used}}
    assert sum(map(len, graph.values())) > len(graph)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle

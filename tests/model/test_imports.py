"""Import graph of the model: one direction between packages, few libraries in the core."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from linewise import model

FOLDER = Path(model.__file__).resolve().parent

# What each package may import of the others. `explain`, `export` and the public names of `model` stand above them all.
ALLOWED = {
    "network": set(),
    "runtime": {"network"},
    "decoding": {"network"},
    "recognition": {"network", "runtime", "decoding"},
    "page": {"network", "runtime", "decoding", "recognition"},
    "evaluation": {"network", "runtime", "decoding", "recognition", "page", "synth"},
    "synth": {"network"},
    "train": {"network", "runtime", "decoding", "recognition", "page", "evaluation", "synth"},
    "annotate": {"recognition"},
    "explain": {"network", "runtime", "decoding", "recognition"},
    "export": {"network", "runtime", "recognition"},
}  # fmt: skip
CORE = ("network", "runtime", "decoding", "recognition")
LIBRARIES_OF_THE_CORE = {"numpy", "torch", "cv2", "safetensors", "onnx", "onnxruntime"}


def files(package: str) -> list[Path]:
    """Every file of a package at any depth, or the file of a top-level module."""
    folder = FOLDER / package
    found = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert found, package
    return found


def imports(file: Path) -> Iterator[str]:
    """Full names of all imports of a file, nested ones included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_used(file: Path) -> set[str]:
    """Packages of `linewise.model` that a file imports from."""
    return {name.split(".")[2] for name in imports(file) if name.startswith("linewise.model.")}


def module_name(file: Path) -> str:
    """Dotted name of a file below `linewise.model`."""
    parts = file.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_package_is_named_here() -> None:
    assert {p.stem for p in FOLDER.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} == {
        "__init__",
        *ALLOWED,
    }


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_in_one_direction(package: str) -> None:
    for file in files(package):
        assert parts_used(file) <= ALLOWED[package] | {package}, file


@pytest.mark.parametrize("package", CORE)
def test_the_core_needs_few_libraries(package: str) -> None:
    for file in files(package):
        roots = {name.split(".")[0] for name in imports(file)}
        assert roots <= LIBRARIES_OF_THE_CORE | {"linewise"} | sys.stdlib_module_names, file


def test_the_model_imports_nothing_of_the_service() -> None:
    for file in FOLDER.rglob("*.py"):
        assert not any(name.startswith("linewise.service") or name == "linewise.service" for name in imports(file)), (
            file
        )


def test_the_renderer_knows_the_alphabet_only_and_no_tensors() -> None:
    for file in files("synth"):
        used = {name for name in imports(file) if name.startswith("linewise.model.network")}
        assert all(name.startswith("linewise.model.network.charset") for name in used), file
        assert not any(name.split(".")[0] == "torch" for name in imports(file)), file


def test_modules_import_without_cycles() -> None:
    modules = {module_name(file): file for file in FOLDER.rglob("*.py") if file.name != "__init__.py"}
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        used = {name.removeprefix("linewise.model.") for name in imports(file) if name.startswith("linewise.model.")}
        graph[module] = {other for other in modules if other in used or other in {n.rpartition(".")[0] for n in used}}
    assert sum(map(len, graph.values())) > len(graph)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_the_public_names_are_these() -> None:
    lines = {"Alternative", "Character", "CheckpointError", "Decoding", "Reader", "Reading", "Word", "load"}
    pages = {"FoundLine", "PageLine", "PageReader", "PageReading", "PageSteps", "draw_words", "load_page_reader"}
    elsewhere = {
        "ModelConfig",
        "Pages",
        "is_sure_line",
        "likelier",
        "width_bucket",
    }  # for a parent process whose worker holds the networks
    assert set(model.__all__) == lines | pages | elsewhere
    assert all(getattr(model, name) for name in model.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = model.Nothing


def test_a_parent_process_needs_no_torch() -> None:
    names = "ModelConfig, Pages, width_bucket, Reading, FoundLine, PageReading"
    program = f"import sys; from linewise.model import {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)

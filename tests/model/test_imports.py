"""Who may import whom: the road does not know what stands beside it, and the recogniser knows no service."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import model

FOLDER = Path(model.__file__).parent
CORE = {
    "charset", "config", "preprocess", "looks", "crnn", "fused", "quantised", "ctc", "beam", "language", "rescore",
    "checkpoint", "reading", "reader",
}  # fmt: skip
LIBRARIES_OF_THE_CORE = {"numpy", "torch", "cv2", "safetensors"}


def imports(file: Path) -> Iterator[str]:
    """The full name of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_used(file: Path) -> set[str]:
    """The modules and packages of `model` that a file imports."""
    return {name.split(".")[1] for name in imports(file) if name.startswith("model.")}


def test_the_core_leans_on_few_libraries_and_on_itself() -> None:
    for name in CORE:
        file = FOLDER / f"{name}.py"
        roots = {found.split(".")[0] for found in imports(file)}
        assert roots <= LIBRARIES_OF_THE_CORE | {"model"} | sys.stdlib_module_names, name
        assert parts_used(file) <= CORE, name


def test_nothing_imports_the_service() -> None:
    for file in FOLDER.rglob("*.py"):
        assert not any(name.split(".")[0] == "service" for name in imports(file)), file.name


def test_the_renderer_knows_the_alphabet_only_and_no_tensors() -> None:
    for file in (FOLDER / "synth").glob("*.py"):
        assert parts_used(file) <= {"charset", "synth"}, file.name
        assert not any(name.split(".")[0] == "torch" for name in imports(file)), file.name


def test_nothing_but_the_training_imports_the_training() -> None:
    for file in FOLDER.rglob("*.py"):
        if file.parent.name != "train":
            assert "train" not in parts_used(file), file.name


def test_there_are_no_circles() -> None:
    graph = {file.stem: parts_used(file) for file in FOLDER.glob("*.py") if file.stem != "__init__"}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_public_names_are_these() -> None:
    lines = {"Alternative", "Character", "CheckpointError", "Decoding", "Reader", "Reading", "load"}
    pages = {"FoundLine", "PageLine", "PageReader", "PageReading", "PageSteps", "load_page_reader"}
    elsewhere = {"ModelConfig", "Pages", "width_bucket"}  # for who has the networks in another process
    assert set(model.__all__) == lines | pages | elsewhere
    assert all(getattr(model, name) for name in model.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = model.Nothing


def test_what_is_needed_beside_a_network_elsewhere_comes_without_torch() -> None:
    names = "ModelConfig, Pages, width_bucket, Reading, FoundLine, PageReading"
    program = f"import sys; from model import {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent, check=True, timeout=300)

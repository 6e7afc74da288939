"""The service leans on the model's public names, on nothing below them, and on itself without circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import model
import service

FOLDER = Path(service.__file__).parent
# The command line also starts what stands beside the road: training, rendering, evaluation, benchmarks.
SERVICE = [file for file in FOLDER.glob("*.py") if file.name not in ("cli.py", "workshop.py")]
PUBLIC = set(model.__all__)


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_only_public_names_of_the_model_are_used() -> None:
    for file in SERVICE:
        for module, name in imports(file):
            if module.split(".")[0] == "model":
                assert module == "model" and (not name or name in PUBLIC), f"{file.name}: {module}.{name}"


def test_no_tensors_and_no_opencv_in_the_service() -> None:
    for file in SERVICE:
        used = {module.split(".")[0] for module, _ in imports(file)}
        assert not used & {"torch", "cv2", "torchvision"}, file.name


def test_the_batching_engine_knows_no_http_and_none_of_its_users() -> None:
    used = {module for name in ("batching.py", "jobs.py") for module, _ in imports(FOLDER / name)} - {"service.jobs"}
    assert not {module.split(".")[0] for module in used} & {
        "service", "model", "fastapi", "starlette", "uvicorn", "asyncio"
    }  # fmt: skip


def test_ray_is_imported_where_it_was_asked_for_and_nowhere_else() -> None:
    for file in FOLDER.glob("*.py"):
        if not file.name.startswith("ray_"):
            assert "ray" not in {module.split(".")[0] for module, _ in imports(file)}, file.name
    modules = ", ".join(f"service.{file.stem}" for file in FOLDER.glob("*.py") if not file.name.startswith("ray_"))
    code = f"import sys, {modules}; print({{'ray', 'pyarrow', 'pandas'}} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for file in FOLDER.glob("*.py"):
        graph[file.stem] = set()
        for module, name in imports(file):
            if module == "service":
                graph[file.stem].add(name)
            elif module.startswith("service."):
                graph[file.stem].add(module.split(".")[1])
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle

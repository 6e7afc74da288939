"""The wheel, installed beside modules of the user that have the names of the repository's folders."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from linewise.model.network.checkpoint import DEFAULT_PATH

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "tests" / "data" / "receipt.png"
TIMEOUT_S = 600

pytestmark = pytest.mark.slow
needs_weights = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")

READ_AS_LIBRARY = """
import sys
import linewise
import numpy as np
from PIL import Image
(reading,) = linewise.load(device="cpu").read([np.asarray(Image.open(sys.argv[1]).convert("RGB"))])
print(reading.text)
"""


def pip(*arguments: str | Path) -> None:
    program = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    result = subprocess.run(program, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []  # else pip downloads the build backend
    pip("wheel", ROOT, "--no-deps", "--wheel-dir", folder, *isolation)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder that comes before the environment's packages."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--no-deps", "--target", folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write modules of the user that raise on import."""
    for name in ("model", "service", "weights"):
        (tmp_path / f"{name}.py").write_text(f'raise RuntimeError("the user\'s {name}.py was imported")\n')
    return tmp_path


def run(installed: Path, project: Path, *arguments: str | Path) -> str:
    """Run Python in the user's folder with the installed wheel and return its standard output."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(installed)},
        timeout=TIMEOUT_S,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_holds_one_typed_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    version = wheel.name.split("-")[1]
    assert {name.split("/")[0] for name in names} == {"linewise", f"linewise-{version}.dist-info"}
    assert "linewise/py.typed" in names
    assert not [name for name in names if name.endswith(".pyc") or "/tests/" in name]
    assert ("linewise/weights/linewise.safetensors" in names) == DEFAULT_PATH.is_file()


def test_importing_the_package_imports_no_torch(installed: Path, project: Path) -> None:
    code = "import sys, linewise; print('torch' in sys.modules, linewise.__version__, linewise.__file__)"
    loaded, version, file = run(installed, project, "-c", code).split()
    assert loaded == "False"
    assert (installed / f"linewise-{version}.dist-info").is_dir()
    assert Path(file).is_relative_to(installed)


@needs_weights
def test_command_and_library_read_a_picture_beside_modules_of_the_same_names(installed: Path, project: Path) -> None:
    text = run(installed, project, "-m", "linewise", "read", "--device", "cpu", PICTURE)
    assert text.strip()
    assert run(installed, project, "-c", READ_AS_LIBRARY, PICTURE) == text

"""The release: one version, the notes of the changelog, and scripts that refuse what cannot be released."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def release(checkout: Path, folder: Path, *tag: str) -> subprocess.CompletedProcess[str]:
    """Run the release of a checkout as far as the notes; the tools that follow are missing."""
    program = shutil.which("python3")
    assert program is not None
    (checkout / "bin").mkdir(exist_ok=True)
    # Stops where the first environment is made, before anything is downloaded.
    (checkout / "bin" / "python3").write_text(f'#!/bin/sh\n[ "$1" = - ] || exit 99\nexec {program} "$@"\n')
    (checkout / "bin" / "python3").chmod(0o755)
    return subprocess.run(
        [checkout / ".ci" / "release", folder, *tag],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"},
        timeout=60,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that the release reads first, with a version and a section of their own."""
    folder = tmp_path / "checkout"
    for name in (".ci/release", "pyproject.toml", ".github/CHANGELOG.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    text = (folder / "pyproject.toml").read_text("utf-8")
    (folder / "pyproject.toml").write_text(
        re.sub('^version = ".*"', 'version = "7.8.9"', text, flags=re.MULTILINE), "utf-8"
    )
    return folder


def test_the_version_is_stated_in_one_place() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    texts = [name for name in files if name.endswith((".py", ".toml", ".yml", ".yaml", "Dockerfile"))]
    pattern = re.compile(rf'(linewise|version)["\s:=@v]+{re.escape(PROJECT["version"])}\b')
    assert [name for name in texts if pattern.search((ROOT / name).read_text("utf-8"))] == ["pyproject.toml"]


def test_a_tag_of_another_version_is_refused_with_one_line(checkout: Path, tmp_path: Path) -> None:
    result = release(checkout, tmp_path / "release", "v1.2.3")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "v1.2.3" in line and "it should be v7.8.9" in line


def test_a_version_without_notes_is_refused_with_one_line(checkout: Path, tmp_path: Path) -> None:
    result = release(checkout, tmp_path / "release", "v7.8.9")
    assert result.returncode == 1
    assert result.stderr == "release: .github/CHANGELOG.md has no section '## 7.8.9' with content\n"


def test_the_notes_are_the_section_of_the_version(checkout: Path, tmp_path: Path) -> None:
    changelog = checkout / ".github" / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    changelog.write_text(
        text.replace("## 0.1.0\n", "## 7.8.9 - 2026-11-30\n\n### Added\n\n- News.\n\n## 0.1.0\n"), "utf-8"
    )
    result = release(checkout, tmp_path / "release", "v7.8.9")
    assert result.returncode == 99, result.stderr  # the first environment
    assert (tmp_path / "release" / "notes.md").read_text("utf-8") == "### Added\n\n- News.\n"


def test_without_a_tag_the_notes_are_those_of_what_is_unreleased(checkout: Path, tmp_path: Path) -> None:
    assert release(checkout, tmp_path / "release").returncode == 99
    assert (tmp_path / "release" / "notes.md").read_text("utf-8").startswith("### ")


def test_a_folder_with_files_is_refused(checkout: Path, tmp_path: Path) -> None:
    result = release(checkout, tmp_path)
    assert (result.returncode, result.stderr) == (2, f"release: {tmp_path} is not empty\n")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=[path.name for path in WORKFLOWS])
def test_workflows_run_existing_scripts_with_few_rights(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text("utf-8"))
    assert content["permissions"] == {"contents": "read"}  # each job asks for what it needs beyond that
    for script in re.findall(r"(?<![\w/])\.ci/\w+", workflow.read_text("utf-8")):
        assert os.access(ROOT / script, os.X_OK), script
    for job in content["jobs"].values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), "values reach a shell through env only"


def test_ci_runs_on_the_supported_pythons() -> None:
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]["checks"]
    versions = [entry.removeprefix("Programming Language :: Python :: ") for entry in PROJECT["classifiers"]]
    supported = [version for version in versions if re.fullmatch(r"3\.\d+", version)]
    assert matrix["strategy"]["matrix"]["python"] == supported
    assert PROJECT["requires-python"] == f">={supported[0]}"

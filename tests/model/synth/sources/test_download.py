"""Download of fonts: the files kept, packages that fail, and packages already downloaded."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from linewise.model.synth.sources import download
from linewise.service.cli import main

FILES = {
    "package/files/alpha-latin-400-normal.woff": b"plain",
    "package/files/alpha-latin-700-normal.woff": b"bold",
    "package/files/alpha-latin-900-normal.woff": b"black",
    "package/files/alpha-greek-400-normal.woff": b"greek",
    "package/../../../evil-latin-400-normal.woff": b"evil",
    "package/index.css": b"css",
}


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Registry:
    """A registry with the package alpha, an empty one, and one that is no archive."""

    def __init__(self) -> None:
        self.requested: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.requested.append(path)
        if path.endswith("/latest"):
            name = path.removesuffix("/latest").split("/")[-1]
            if name == "missing":
                return httpx2.Response(404)
            return httpx2.Response(200, json={"dist": {"tarball": f"{download.REGISTRY}/{name}.tgz"}})
        contents = {"/alpha.tgz": archive(FILES), "/empty.tgz": archive({"package/index.css": b""})}
        return httpx2.Response(200, content=contents.get(path, b"no archive"))


@pytest.fixture
def registry() -> Registry:
    return Registry()


def fetch_all(registry: Registry, folder: Path, *names: str) -> dict[str, str | None]:
    problems: dict[str, str | None] = {}
    client = httpx2.Client(transport=httpx2.MockTransport(registry))
    download.fetch_all(folder, list(names), problems.__setitem__, client)
    return problems


def test_latin_plain_and_bold_are_kept_and_nothing_leaves_the_folder(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert fetch_all(registry, folder, "alpha") == {"alpha": None}
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.woff")}
    assert files == {
        "a/b/alpha/files/alpha-latin-400-normal.woff": b"plain",
        "a/b/alpha/files/alpha-latin-700-normal.woff": b"bold",
    }


def test_a_downloaded_package_is_not_fetched_again(registry: Registry, tmp_path: Path) -> None:
    fetch_all(registry, tmp_path, "alpha")
    requests = len(registry.requested)
    assert fetch_all(registry, tmp_path, "alpha") == {"alpha": None}
    assert len(registry.requested) == requests


def test_a_failed_package_is_reported_and_does_not_affect_the_others(registry: Registry, tmp_path: Path) -> None:
    problems = fetch_all(registry, tmp_path, "missing", "empty", "broken", "alpha")
    assert problems["alpha"] is None
    assert "404" in str(problems["missing"])
    assert "no usable font" in str(problems["empty"])
    assert problems["broken"]
    assert [path.name for path in tmp_path.iterdir()] == ["alpha"]


def test_the_list_names_each_family_once_and_the_digits() -> None:
    names = download.packages()
    assert len(set(names)) == len(names) > 1000
    assert names[-1] == "mnist"
    assert all(name.startswith("@fontsource/") for name in names[:-1])


def test_the_command_fails_when_every_package_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "packages", lambda: ["alpha", "beta"])
    monkeypatch.setattr(
        download, "fetch_all", lambda folder, names, on_progress: [on_progress(n, "unreachable") for n in names]
    )
    result = CliRunner().invoke(main.app, ["fonts", str(tmp_path)])
    assert result.exit_code == 1
    assert "beta: unreachable" in result.stderr
    assert "0 of 2 packages" in result.stdout

"""The documents: their links, pictures, commands and modules exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

from linewise.service.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
COMMAND = re.compile(r"(?<!from )(?<![\w.-])linewise ([a-z][a-z-]*)([^#|;&\n]*)")
OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
MODULE = re.compile(r"python -m (tests\.[a-z_.]+)")


def documents() -> Iterator[Path]:
    """Every Markdown file of the repository."""
    yield from ROOT.glob("*.md")
    for folder in (".github", "model", "service", "tests", "weights"):
        yield from (ROOT / folder).rglob("*.md")


DOCUMENTS = sorted(documents())
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=[str(d.relative_to(ROOT)) for d in DOCUMENTS])


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(bool(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor)) for anchor in found)
        found.add(f"{slug}-{count}" if count else slug)
    return found


def broken_links(document: Path) -> list[str]:
    """The relative links of a document that lead to no file, folder or heading."""
    text = document.read_text(encoding="utf-8")
    broken = []
    for link in LINK.findall(INLINE_CODE.sub("", FENCE.sub("", text))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def code(document: Path) -> str:
    """The code of a document, blocks and spans, one statement a line."""
    text = document.read_text(encoding="utf-8")
    return "\n".join([*FENCE.findall(text), *INLINE_CODE.findall(FENCE.sub("", text))])


@every_document
def test_every_link_and_picture_exists(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# Two words\n[a](b.md) [b](#two-words) [c](a.md#three) ![d](d.png) [e](https://e.example)\n"
    )
    assert broken_links(tmp_path / "a.md") == ["b.md", "a.md#three", "d.png"]


@every_document
def test_every_command_and_its_options_exist(document: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, arguments in COMMAND.findall(code(document)):
        assert name in commands, f"linewise {name}"
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(OPTION.findall(arguments)) <= known | {"--help"}, f"linewise {name}{arguments}"


@every_document
def test_every_module_that_is_run_exists(document: Path) -> None:
    for module in MODULE.findall(code(document)):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150

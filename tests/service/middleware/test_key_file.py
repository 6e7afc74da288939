"""The file of API keys: what it may hold, and how it may be replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from linewise.service.middleware.auth import KeyRing
from linewise.service.settings import Settings, explain

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"# keys\n" + FIRST.encode() + b"\nshort\n", "line 3 has fewer than 16 characters"),
        (b"short # with a comment that is long\n", "line 1 has fewer than 16 characters"),
        (b"\xe9-0123456789-0123456789\n", "not UTF-8"),
    ],
)
def test_an_invalid_key_file_prevents_the_start_with_one_line(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValidationError) as caught:
        Settings(api_keys_file=file)
    line = explain(caught.value)
    assert line.startswith("LINEWISE_API_KEYS_FILE: ") and words in line
    assert "\n" not in line and "short" not in line and "0123456789" not in line


@pytest.mark.parametrize(
    "content",
    [
        FIRST.encode(),
        b"\xef\xbb\xbf" + FIRST.encode() + b"\r\n",
        FIRST.encode() + b" # of the scanner\n",
        b"\t" + FIRST.encode() + b"\t# of the scanner\n",
        b"# none\n\n  # none\n" + FIRST.encode() + b"  \n",
    ],
    ids=["plain", "bom", "comment", "tabs", "blank-lines"],
)
def test_a_key_is_a_line_without_its_comment(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    ring = KeyRing(file=Settings(api_keys_file=file).api_keys_file)
    assert ring.accepts(FIRST) and not ring.accepts(SECOND)


def test_a_hash_within_a_key_belongs_to_it(file: Path) -> None:
    file.write_text("key#with#hashes-0123\n")
    assert KeyRing(file=file).accepts("key#with#hashes-0123")


def rewritten(file: Path, content: bytes) -> None:
    """Write the file in place with a new modification time, whatever the resolution of the file system."""
    file.write_bytes(content)
    times = os.stat(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("moment", [b"", SECOND.encode()[:5], b"# new keys\n"], ids=["empty", "torn", "comment"])
def test_a_file_that_is_being_rewritten_keeps_the_keys_read_before(file: Path, moment: bytes) -> None:
    file.write_text(f"{FIRST}\n")
    ring = KeyRing(file=file)
    rewritten(file, moment)
    assert ring.accepts(FIRST)
    file.write_text(f"{SECOND}\n")
    assert ring.accepts(SECOND) and not ring.accepts(FIRST)


def test_a_torn_last_line_is_read_when_it_is_whole(file: Path) -> None:
    file.write_text(f"{FIRST}\n")
    ring = KeyRing(file=file)
    rewritten(file, f"{SECOND}\n{FIRST[:-2]}".encode())
    assert ring.accepts(FIRST)
    rewritten(file, f"{SECOND}\n{FIRST}\n".encode())
    assert ring.accepts(FIRST) and ring.accepts(SECOND)


def test_a_file_that_stays_empty_revokes_its_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"{FIRST}\n")
    ring = KeyRing(file=file)
    now = [0.0]
    monkeypatch.setattr("linewise.service.middleware.auth.time.monotonic", lambda: now[0])
    rewritten(file, b"")
    assert ring.accepts(FIRST)
    now[0] = 60.0
    assert not ring.accepts(FIRST)

"""The file of API keys: its format, and its keys while it is being replaced."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("linewise.service")

MIN_API_KEY_CHARACTERS = 16
REWRITE_GRACE_S = 2.0  # in which a file that looks half written is not believed

_COMMENT = re.compile(r"(^|\s+)#.*")


class InvalidKeyFile(ValueError):
    """A key file that cannot be read, or a line of it that is no key; the message shows no key."""


@dataclass(frozen=True)
class KeyFileContent:
    """The keys of a file, and whether its last line ends with a newline."""

    keys: tuple[str, ...] = ()
    terminated: bool = True


def read_key_file(file: Path) -> KeyFileContent:
    """Read one API key per line, without blank lines and comments. Raises ``InvalidKeyFile``.

    A comment is a ``#`` at the start of a line or after white space. A byte order mark is ignored.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidKeyFile(f"cannot read the file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidKeyFile("the file is not UTF-8 text; save it as UTF-8 with one API key per line") from None
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        key = _COMMENT.sub("", line).strip()
        if key and len(key) < MIN_API_KEY_CHARACTERS:
            raise InvalidKeyFile(f"the key in line {number} has fewer than {MIN_API_KEY_CHARACTERS} characters")
        if key:
            keys.append(key)
    return KeyFileContent(tuple(keys), text.endswith("\n"))


class WatchedKeyFile:
    """The keys of a file that may change; a file in the middle of a rewrite does not take effect.

    A changed file that is missing, invalid or without keys, or whose last line is unterminated after a write in place,
    counts as half written: for ``REWRITE_GRACE_S`` the keys read before stay valid. They stay valid for as long as the
    file is missing or invalid.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version: tuple[int, int, int] | None = None  # modification time, size and inode of what was read
        self._doubtful_since: float | None = None

    def read_changes(self) -> tuple[str, ...] | None:
        """Return the keys if the file has changed since they were last returned, else None."""
        now = time.monotonic()
        try:
            status = os.stat(self._file)
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._version:
                self._doubtful_since = None
                return None
            content = read_key_file(self._file)
        except (OSError, InvalidKeyFile) as error:
            if self._doubtful_since is None:
                reason = error.strerror if isinstance(error, OSError) else error
                log.warning("the API key file is not used, the keys read before stay valid: %s", reason)
                self._doubtful_since = now
            return None
        in_place = self._version is not None and version[2] == self._version[2]
        if not content.keys or (in_place and not content.terminated):
            self._doubtful_since = now if self._doubtful_since is None else self._doubtful_since
            if now - self._doubtful_since < REWRITE_GRACE_S:
                return None
        self._version, self._doubtful_since = version, None
        log.info("%d API keys read from the file", len(content.keys))
        return content.keys

"""Comparison of the public contract with its record in ``contract.json``.

The record holds what programs rely on: routes, options, settings, metrics, names, codes, answers. It leaves out texts
for people. After an intended change, renew it and review the difference:

    LINEWISE_RENEW_CONTRACT=1 python -m pytest tests/test_contract.py
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

# Everything taken from the project. Ray is optional, so its module is imported by name.
from tests.contract.interfaces import (
    all_settings,
    command_line,
    metrics,
    openapi,
    routes,
)
from tests.contract.library import (
    answers,
    checkpoint,
    library,
    problems,
    ray,
)
from tests.contract.values import (
    RECORD,
    RENEW,
    TOLERANCES,
)

SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "answers": answers,
    "checkpoint": checkpoint,
    "cli": command_line,
    "errors": problems,
    "library": library,
    "metrics": metrics,
    "openapi": openapi,
    "ray": ray,
    "routes": routes,
    "settings": all_settings,
}


def as_text(section: Any) -> str:
    """Indented JSON with sorted keys and short lists on one line."""
    text = json.dumps(section, ensure_ascii=False, indent=2, sort_keys=True)

    def joined(match: re.Match[str]) -> str:
        line = "[" + " ".join(one.strip() for one in match[1].splitlines()) + "]"
        return line if len(line) <= 100 or not re.search(r'"', line) else match[0]

    return re.sub(r"\[\n((?:[^\[\]{}\n]+\n)+)\s*\]", joined, text) + "\n"


def settled(found: Any, kept: Any, tolerance: float = 0.0) -> Any:
    """What was found, with recorded numbers in place of those within tolerance of them."""
    if isinstance(found, dict) and isinstance(kept, dict):
        return {key: settled(one, kept.get(key), TOLERANCES.get(key, 0.0)) for key, one in found.items()}
    if isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        return [settled(one, other, tolerance) for one, other in zip(found, kept, strict=True)]
    if isinstance(found, float) and isinstance(kept, float):
        return kept if abs(found - kept) <= tolerance else found
    return found


def recorded() -> dict[str, Any]:
    """The record, empty where there is none yet."""
    return cast(dict[str, Any], json.loads(RECORD.read_text("utf-8"))) if RECORD.exists() else {}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LINEWISE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_contract_is_kept(section: str) -> None:
    record = recorded()
    kept = record.get(section)
    found = settled(json.loads(json.dumps(SECTIONS[section]())), kept)
    if RENEW:
        record[section] = found
        RECORD.write_text(as_text(record), "utf-8")
        return
    difference = "\n".join(
        difflib.unified_diff(
            as_text(kept).splitlines(), as_text(found).splitlines(), "recorded", "found", n=12, lineterm=""
        )
    )
    if found != kept or difference:
        pytest.fail(f"the contract has changed in its section {section}:\n{difference}", pytrace=False)


def test_the_record_has_the_sections_and_the_form_that_are_written() -> None:
    record = recorded()
    assert sorted(record) == sorted(SECTIONS)
    assert RECORD.read_text("utf-8") == as_text(record)

"""Other engines are opened by the names of their packages, or refused."""

from __future__ import annotations

import pytest

from linewise.model import Reader
from linewise.model.evaluation.baselines import LINE_BASELINES
from linewise.model.evaluation.benchmark import open_engines
from tests.model.conftest import bars


def test_an_engine_that_is_not_there_is_refused(bar_reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown engine abbyy"):
        open_engines(bar_reader, ["abbyy"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in LINE_BASELINES:
        with pytest.raises(ValueError, match=f"{name} is not installed"):
            open_engines(bar_reader, [name])


def test_a_baseline_reads_beside_ours(bar_reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setitem(LINE_BASELINES, "tesserocr", lambda: ("Tesseract", lambda images: ["text"] * len(images)))
    engines = open_engines(bar_reader, ["tesseract"])
    assert next(iter(engines)) == "Tesseract"
    assert engines["Tesseract"]([bars(32, {})]) == ["text"]

"""Settings come from the environment and are validated before the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from linewise.service.cli import main
from linewise.service.settings import Settings, as_markdown, describe, explain


def test_the_default_address_is_this_machine_only() -> None:
    assert (Settings().host, Settings().port) == ("127.0.0.1", 8000)


def test_the_environment_sets_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEWISE_PORT", "9000")
    monkeypatch.setenv("LINEWISE_MAX_PIXELS", "1000")
    assert (Settings().port, Settings().image_limits.max_pixels) == (9000, 1000)


def test_invalid_values_are_explained_in_one_line_without_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEWISE_PORT", "secret-port")
    monkeypatch.setenv("LINEWISE_MAX_BODY_BYTES", "-1")
    with pytest.raises(ValidationError) as caught:
        Settings()
    line = explain(caught.value)
    assert "LINEWISE_PORT: " in line and "LINEWISE_MAX_BODY_BYTES: " in line
    assert "\n" not in line and "secret" not in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_address_needs_an_explicit_flag(host: str) -> None:
    with pytest.raises(ValidationError, match="ALLOW_ANONYMOUS"):
        Settings(host=host)
    assert Settings(host=host, allow_anonymous=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_flag(host: str) -> None:
    assert Settings(host=host).host == host


def test_every_setting_is_in_the_help_and_in_the_documentation() -> None:
    shown = CliRunner().invoke(main.app, ["serve", "--help"]).stdout
    for name, default, text in describe():
        assert text.endswith("."), name
        assert name in shown and default in shown
    document = (Path(__file__).parents[2] / "service" / "README.md").read_text(encoding="utf-8")
    assert as_markdown() in document, "renew the table: print(linewise.service.settings.as_markdown())"


@pytest.mark.parametrize(
    "settings",
    [
        {"max_in_flight": 63},
        {"max_in_flight_bytes": 10**6},
        {"max_batch_body_bytes": 10**9},
        {"linger": -1},
        {"port": 70_000},
    ],
)
def test_contradictory_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)


def test_telemetry_without_its_packages_prevents_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.settings.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"linewise\[telemetry\]"):
        Settings(telemetry=True)

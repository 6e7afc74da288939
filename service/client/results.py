"""Result types of the client, and their construction from the service's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

_WRONG_SHAPE = (LookupError, TypeError, ValueError, AttributeError)  # of JSON that another program wrote


@dataclass(frozen=True)
class Character:
    """One character; ``polygon`` is clockwise from its top left, in pixels of the upright image."""

    text: str
    confidence: float
    polygon: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Word:
    """One word; ``confidence`` is that of its weakest character, ``polygon`` as for a character."""

    text: str
    confidence: float
    polygon: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Alternative:
    """An alternative text with its confidence."""

    text: str
    confidence: float


@dataclass(frozen=True)
class Line:
    """One line of a page; ``polygon`` is clockwise from the top left of its text.

    Lines with the same ``row`` are side by side, such as the cells of a table.
    """

    text: str
    confidence: float
    confidence_min: float
    polygon: tuple[tuple[float, float], ...]
    row: int
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Result:
    """The text of one image; confidences in [0, 1], sizes in pixels.

    ``words`` needs the option ``words=True`` or ``chars=True``, ``characters`` the option ``chars=True``,
    ``alternatives`` the option of that name. ``mode`` is ``line`` or ``page``; only pages have ``lines``, in reading
    order. A PDF or TIFF with several pages has ``pages`` instead.
    """

    text: str
    confidence: float
    confidence_min: float
    width: int
    height: int
    orientation_applied: int
    warnings: tuple[str, ...]
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    mode: str = "line"
    lines: tuple[Line, ...] = ()
    pages: tuple[Result, ...] = ()
    words: tuple[Word, ...] = ()


class ServiceFailure(Exception):
    """A failed request or image; ``status`` is 0 if no response or no file could be read.

    ``code`` is an error code of the service, ``unreachable``, ``unreadable_file``, ``invalid_url``, ``invalid_key``, or
    ``unexpected`` for a response that is not from a Linewise service.
    """

    def __init__(self, status: int, code: str, detail: str, request_id: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


def parse_response(response: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object of a successful response. Raises ``ServiceFailure``."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if response.status_code == 200 and isinstance(body, dict):
        return body
    raise _parse_problem(body if isinstance(body, dict) else {}, response.status_code)


def foreign_response(status: int) -> ServiceFailure:
    """Build the failure for a response that another program wrote."""
    with_status = f" with status {status}" if status else ""
    return ServiceFailure(
        status, "unexpected", f"the response{with_status} is not from a Linewise service; check the URL"
    )


def parse_single(body: Mapping[str, Any]) -> Result:
    """Build the result of one image. Raises ``ServiceFailure`` if the response is not from a Linewise service."""
    try:
        return _parse_result(body)
    except _WRONG_SHAPE:
        raise foreign_response(200) from None


def parse_items(body: Mapping[str, Any], count: int) -> list[Result | ServiceFailure]:
    """Build the outcome of each image of a batch response.

    Raises ``ServiceFailure`` if the response is not from a Linewise service.
    """
    try:
        outcomes = [_parse_item(item) for item in body["results"]]
    except _WRONG_SHAPE:
        raise foreign_response(200) from None
    if len(outcomes) != count:
        raise foreign_response(200)
    return outcomes


def _parse_item(item: Mapping[str, Any]) -> Result | ServiceFailure:
    if item["status"] == "ok":
        return _parse_result(item)
    return _parse_problem(item["error"], int(item["error"]["status"]))


def _parse_result(body: Mapping[str, Any]) -> Result:
    """Build the result of one image, or of one page of a document."""
    image = body["image"]
    return Result(
        text=body["text"],
        confidence=body["confidence"],
        confidence_min=body["confidence_min"],
        width=image["width"],
        height=image["height"],
        orientation_applied=image["orientation_applied"],
        warnings=tuple(body["warnings"]),
        characters=_parse_characters(body),
        alternatives=_parse_alternatives(body),
        mode=body.get("mode", "page" if "page" in body else "line"),
        lines=tuple(_parse_line(line) for line in body.get("lines", ())),
        pages=tuple(_parse_result(page) for page in body.get("pages", ())),
        words=_parse_words(body),
    )


def _parse_line(line: Mapping[str, Any]) -> Line:
    return Line(
        text=line["text"],
        confidence=line["confidence"],
        confidence_min=line["confidence_min"],
        polygon=_parse_polygon(line),
        row=line["row"],
        characters=_parse_characters(line),
        alternatives=_parse_alternatives(line),
        words=_parse_words(line),
    )


def _parse_characters(body: Mapping[str, Any]) -> tuple[Character, ...]:
    return tuple(
        Character(character["text"], character["confidence"], _parse_polygon(character))
        for character in body.get("chars", ())
    )


def _parse_words(body: Mapping[str, Any]) -> tuple[Word, ...]:
    return tuple(Word(word["text"], word["confidence"], _parse_polygon(word)) for word in body.get("words", ()))


def _parse_alternatives(body: Mapping[str, Any]) -> tuple[Alternative, ...]:
    return tuple(
        Alternative(alternative["text"], alternative["confidence"]) for alternative in body.get("alternatives", ())
    )


def _parse_polygon(body: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in body["polygon"])


def _parse_problem(problem: Mapping[str, Any], status: int) -> ServiceFailure:
    if "code" not in problem:
        return foreign_response(status)
    return ServiceFailure(
        status, str(problem["code"]), str(problem.get("detail", "")), str(problem.get("request_id", ""))
    )

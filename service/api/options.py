"""Recognition options, from the query, form fields or the JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from linewise.service.errors import InvalidOption

MAX_ALTERNATIVES = 10
MAX_CHARSET_CHARACTERS = 1000
MAX_LEXICON_ENTRIES = 100_000
MAX_ENTRY_CHARACTERS = 256


def without_null(schema: dict[str, Any]) -> None:
    """Remove null from a schema: queries, headers and forms have no null."""
    schema.update(schema.pop("anyOf")[0])


class Detail(StrEnum):
    """Level of detail of a result; each level adds to the one before."""

    TEXT = "text"
    WORDS = "words"
    CHARS = "chars"


class QueryOptions(BaseModel):
    """Options allowed in the query; they apply to every image of the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detail: Detail = Field(
        default=Detail.TEXT,
        description="`words` adds each word with its confidence and polygon, `chars` each character as well.",
        examples=["words"],
    )
    alternatives: int = Field(
        default=0,
        ge=0,
        le=MAX_ALTERNATIVES,
        description="Number of alternative texts to add, most likely first; there may be fewer.",
        examples=[3],
    )
    charset: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CHARSET_CHARACTERS,
        json_schema_extra=without_null,
        description="Allowed characters; a space must be listed to be allowed.",
        examples=["0123456789.,"],
    )
    charset_exclude: str = Field(
        default="",
        max_length=MAX_CHARSET_CHARACTERS,
        description="Excluded characters.",
        examples=["|"],
    )
    min_confidence: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Withhold texts with a lower confidence: `text` is then empty, with the warning `low_confidence`.",
        examples=[0.5],
    )
    orientation: Literal["0", "90", "180", "270", "auto"] | None = Field(
        default=None,
        json_schema_extra=without_null,
        description=(
            "Clockwise rotation before recognition, in degrees, in addition to the EXIF orientation; no other is tried,"
            " except that a line much taller than wide is also read at 90 and 270. By default, and with `auto`, pages"
            " are turned where their upright reading is not sure. With `mode=line`, the default is 0, and `auto` tries"
            " 0 and 180 and keeps the more confident text."
        ),
        examples=["auto"],
    )
    mode: Literal["line", "page", "auto"] = Field(
        default="auto",
        description=(
            "`line` reads the image as one line of text; `page` detects lines and reads each; `auto` reads the image as"
            " one line and, where that is not sure, as a page as well, and keeps the likelier result."
        ),
        examples=["page"],
    )


class Options(QueryOptions):
    """All options: those of the query, and those allowed in a body only."""

    lexicon: tuple[Annotated[str, Field(max_length=MAX_ENTRY_CHARACTERS)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_LEXICON_ENTRIES,
        json_schema_extra=without_null,
        description=(
            "Allowed texts: the result is one entry, or several separated by spaces. A list in JSON, one entry per line"
            " in a form."
        ),
        examples=[["INVOICE", "RECEIPT"]],
    )

    @field_validator("lexicon", mode="before")
    @classmethod
    def _split_lines(cls, value: object) -> object:
        """Split text into its lines; without the byte order mark with which files of some editors begin."""
        if isinstance(value, str):
            return tuple(line for line in value.removeprefix("\ufeff").splitlines() if line.strip())
        if isinstance(value, list | tuple) and value and isinstance(value[0], str):
            return (value[0].removeprefix("\ufeff"), *value[1:])
        return value

    @property
    def turns(self) -> tuple[int, ...]:
        """Clockwise rotations to try, in degrees, before the text itself shows whether it is upright."""
        if self.orientation == "auto" and self.mode == "line":
            return (0, 180)
        return (0,) if self.orientation in (None, "auto") else (int(self.orientation),)

    @property
    def finds_orientation(self) -> bool:
        """Whether pages may be turned as their text suggests."""
        return self.orientation in (None, "auto")

    @property
    def decoded_otherwise(self) -> bool:
        """Whether decoding needs constraints or alternatives, beyond the best text."""
        constrained = self.charset is not None or bool(self.charset_exclude) or self.lexicon is not None
        return constrained or self.alternatives > 0


def merge(query: QueryOptions, body: Mapping[str, object]) -> Options:
    """Merge the options of query and body; the body takes precedence. Raises ``InvalidOption``."""
    try:
        return Options.model_validate(query.model_dump(exclude_unset=True) | dict(body))
    except ValidationError as error:
        raise InvalidOption(describe(error)) from None


def describe(error: ValidationError) -> str:
    """Describe each invalid option, without the values sent."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)

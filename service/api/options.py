"""What a caller may ask for beside the text, from the query, the form or the JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from linewise.service.errors import InvalidOption

MAX_ALTERNATIVES = 10
MAX_CHARSET = 1000  # characters; an alphabet has fewer
MAX_LEXICON = 100_000  # entries; sorting so many takes a tenth of a second
MAX_ENTRY = 256  # characters


def without_null(schema: dict[str, Any]) -> None:
    """Make of the schema for a value or null one for the value: queries, headers and forms have no null."""
    schema.update(schema.pop("anyOf")[0])


class Detail(StrEnum):
    """How much is told about the text."""

    TEXT = "text"
    CHARS = "chars"


class QueryOptions(BaseModel):
    """The options that are short enough for an address; they hold for every image of the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detail: Detail = Field(
        default=Detail.TEXT,
        description="`chars` adds each character with its confidence and place.",
        examples=["chars"],
    )
    alternatives: int = Field(
        default=0,
        ge=0,
        le=MAX_ALTERNATIVES,
        description="How many of the next best texts to add, the likeliest first; there may be fewer.",
        examples=[3],
    )
    charset: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CHARSET,
        json_schema_extra=without_null,
        description="The only characters that may be read; the space is one like any other.",
        examples=["0123456789.,"],
    )
    charset_exclude: str = Field(
        default="",
        max_length=MAX_CHARSET,
        description="Characters that may not be read.",
        examples=["|"],
    )
    min_confidence: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="A less confident text is withheld: the answer has an empty one and the warning `low_confidence`.",
        examples=[0.5],
    )
    orientation: Literal["0", "90", "180", "270", "auto"] = Field(
        default="0",
        description=(
            "Clockwise turn in degrees to make before reading, on top of the one that the image file asks for;"
            " `auto` reads upright and upside down and keeps the surer text. A picture that is then much taller"
            " than wide is read turned to either side as well."
        ),
        examples=["auto"],
    )

    mode: Literal["line", "page", "auto"] = Field(
        default="line",
        description=(
            "`line` takes the image for one line of text, `page` looks for the lines in it and answers with each;"
            " `auto` looks for lines, and takes an image with one at most for a line."
        ),
        examples=["page"],
    )


class Options(QueryOptions):
    """All options: those of the query, and those that only a body can hold."""

    lexicon: tuple[Annotated[str, Field(max_length=MAX_ENTRY)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_LEXICON,
        json_schema_extra=without_null,
        description=(
            "The texts that may be read: one of these, or several with spaces between. A list in JSON, lines in a form."
        ),
        examples=[["INVOICE", "RECEIPT"]],
    )

    @field_validator("lexicon", mode="before")
    @classmethod
    def _lines(cls, given: object) -> object:
        return tuple(line for line in given.splitlines() if line.strip()) if isinstance(given, str) else given

    @property
    def turns(self) -> tuple[int, ...]:
        """The clockwise turns to try, in degrees."""
        return (0, 180) if self.orientation == "auto" else (int(self.orientation),)

    @property
    def decoded_otherwise(self) -> bool:
        """Whether more is asked of the decoding than the best text."""
        constrained = self.charset is not None or bool(self.charset_exclude) or self.lexicon is not None
        return constrained or self.alternatives > 0


def merge(query: QueryOptions, given: Mapping[str, object]) -> Options:
    """The query's options, overruled by those of the body. Raises ``InvalidOption``."""
    try:
        return Options.model_validate(query.model_dump(exclude_unset=True) | dict(given))
    except ValidationError as error:
        raise InvalidOption(describe(error)) from None


def describe(error: ValidationError) -> str:
    """One sentence per wrong option, without the values that were sent."""
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong)

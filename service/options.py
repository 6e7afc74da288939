"""What a caller may ask for beside the text, from the query, the form or the JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import InvalidOption


class Detail(StrEnum):
    """How much is told about the text."""

    TEXT = "text"
    CHARS = "chars"


class Options(BaseModel):
    """The options of one request; they hold for every image in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detail: Detail = Field(
        default=Detail.TEXT,
        description="`chars` adds each character with its confidence and place.",
        examples=["chars"],
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
            " `auto` reads upright and upside down and keeps the surer text."
        ),
        examples=["auto"],
    )

    @property
    def turns(self) -> tuple[int, ...]:
        """The clockwise turns to try, in degrees."""
        return (0, 180) if self.orientation == "auto" else (int(self.orientation),)


def merge(query: Options, given: Mapping[str, object]) -> Options:
    """The query's options, overruled by those of the body. Raises ``InvalidOption``."""
    if not given:
        return query
    try:
        return Options.model_validate(query.model_dump(exclude_unset=True) | dict(given))
    except ValidationError as error:
        raise InvalidOption(describe(error)) from None


def describe(error: ValidationError) -> str:
    """One sentence per wrong option, without the values that were sent."""
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong)

"""All settings of the service in one validated class, from ``LINEWISE_*`` environment variables."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.images import ImageLimits


class Settings(BaseSettings):
    """What an operator may choose; every field is ``LINEWISE_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(env_prefix="LINEWISE_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allow_anonymous: bool = Field(
        default=False,
        description="Allow listening beyond this machine without API keys: anyone who reaches it may use it.",
    )
    weights: Path | None = Field(default=None, description="Checkpoint to load instead of the one in the package.")
    device: str | None = Field(
        default=None, description="Torch device, such as cpu or cuda:0; chosen by itself when unset."
    )
    max_body_bytes: int = Field(default=20 * 2**20, ge=1, description="Largest request body, in bytes.")
    upload_timeout: float = Field(
        default=30.0, gt=0, description="Time for a whole request body to arrive, in seconds."
    )
    max_pixels: int = Field(default=50_000_000, ge=9, description="Most pixels of one image.")
    max_side: int = Field(default=32_768, ge=3, description="Longest side of one image, in pixels.")
    max_aspect: float = Field(default=500.0, ge=1, description="Longest side divided by shortest side at most.")

    @model_validator(mode="after")
    def _open_only_on_purpose(self) -> Settings:
        if not self.allow_anonymous and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other machines and no API key is set;"
                " set LINEWISE_ALLOW_ANONYMOUS=true (--allow-anonymous) if that is meant"
            )
        return self

    @property
    def image_limits(self) -> ImageLimits:
        """The limits that one image is held to."""
        return ImageLimits(max_pixels=self.max_pixels, max_side=self.max_side, max_aspect=self.max_aspect)


def explain(error: ValidationError) -> str:
    """One line that names every wrong setting and what is wrong with it, without its value."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        name = "".join(f"LINEWISE_{str(part).upper()}: " for part in problem["loc"][:1])
        parts.append(name + problem["msg"].removeprefix("Value error, "))
    return "; ".join(parts)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""All settings of the service in one validated class, from ``LINEWISE_*`` environment variables."""

from __future__ import annotations

import ipaddress
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import limits
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from linewise.service.documents.image import ImageLimits
from linewise.service.inference.cpu import granted_cores
from linewise.service.inference.queue import BatchLimits

MIN_KEY = 16  # characters: fewer can be guessed


class Settings(BaseSettings):
    """What an operator may choose; every field is ``LINEWISE_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(env_prefix="LINEWISE_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allow_anonymous: bool = Field(
        default=False,
        description="Allow listening beyond this machine without API keys: anyone who reaches it may use it.",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="API keys, separated by commas; with any, every request for text needs one."
    )
    api_keys_file: Path | None = Field(
        default=None, description="File with one API key per line, # begins a comment; re-read when it changes."
    )
    rate_limit: str | None = Field(
        default=None, description="Most images of one key, or address without keys, such as 600/minute."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Web origins whose pages may call the service, separated by commas."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="Logs as JSON lines or as lines for a person."
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        default="info", description="Least severe log lines to write."
    )
    telemetry: bool = Field(
        default=False,
        description="Send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra 'telemetry'.",
    )
    weights: Path | None = Field(default=None, description="Checkpoint to load instead of the one in the package.")
    device: str | None = Field(
        default=None, description="Torch device, such as cpu or cuda:0; chosen by itself when unset."
    )
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="Arithmetic of the network; auto takes the fastest that the processor has instructions for.",
    )
    max_body_bytes: int = Field(default=20 * 2**20, ge=1, description="Largest request body, in bytes.")
    upload_timeout: float = Field(
        default=30.0, gt=0, description="Time for a whole request body to arrive, in seconds."
    )
    max_batch_body_bytes: int = Field(
        default=100 * 2**20, ge=1, description="Largest body of a request for several images, in bytes."
    )
    max_batch_files: int = Field(default=64, ge=1, description="Most images in one request.")
    max_pages: int = Field(default=50, ge=1, description="Most pages of one PDF or TIFF, with mode=page.")
    max_batch_pixels: int = Field(default=200_000_000, ge=9, description="Most pixels of all images in one request.")
    request_timeout: float = Field(
        default=10.0, gt=0, description="Time in which one image is answered or given up, in seconds."
    )
    batch_timeout: float = Field(default=60.0, gt=0, description="The same for a request with several images.")
    max_request_timeout: float = Field(
        default=120.0, gt=0, description="Most that a client may ask for with X-Request-Timeout, in seconds."
    )
    max_in_flight: int = Field(default=512, ge=1, description="Most images that are admitted at the same time.")
    max_in_flight_bytes: int = Field(
        default=256 * 2**20, ge=1, description="Most bytes of admitted image files at the same time."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Images read at the same time, each on its own core; by default as many as there are cores for the"
        " process, and one on an accelerator whatever is set.",
    )
    batch_items: int = Field(default=32, ge=1, description="Most images that the model reads at once.")
    batch_fill: int = Field(
        default=8,
        ge=1,
        description="Images up to which a batch takes in others of similar width; 1 keeps to one width. For CPUs.",
    )
    batch_columns: int = Field(
        default=16_384, ge=64, description="Most columns, padding included, that the model reads at once."
    )
    linger: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Seconds that an idle device waits for more images; worth 0.002 on a GPU, nothing on a CPU.",
    )
    hang_timeout: float = Field(
        default=60.0, gt=0, description="After so many seconds in one batch the model counts as stuck."
    )
    drain_delay: float = Field(
        default=0.0, ge=0, description="Seconds between not being ready and closing the port when told to stop."
    )
    drain_timeout: float = Field(
        default=60.0, gt=0, description="Seconds to finish what was admitted when told to stop."
    )
    max_pixels: int = Field(default=50_000_000, ge=9, description="Most pixels of one image.")
    max_side: int = Field(default=32_768, ge=3, description="Longest side of one image, in pixels.")
    max_aspect: float = Field(default=500.0, ge=1, description="Longest side divided by shortest side at most.")

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < MIN_KEY for key in keys):
            raise ValueError(f"an API key has fewer than {MIN_KEY} characters")
        return keys

    @field_validator("api_keys_file")
    @classmethod
    def _readable(cls, file: Path | None) -> Path | None:
        if file is not None and not os.access(file, os.R_OK):
            raise ValueError("the file cannot be read")
        return file

    @field_validator("telemetry")
    @classmethod
    def _installed(cls, value: bool) -> bool:
        if value and find_spec("opentelemetry.sdk") is None:
            raise ValueError("OpenTelemetry is not installed; pip install 'linewise[telemetry]'")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _a_rate(cls, value: str | None) -> str | None:
        if value is not None:
            limits.parse(value)  # its ValueError says what is wrong
        return value

    @model_validator(mode="after")
    def _open_only_on_purpose(self) -> Settings:
        guarded = bool(self.api_keys) or self.api_keys_file is not None
        if not guarded and not self.allow_anonymous and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other machines and no API key is set;"
                " set LINEWISE_ALLOW_ANONYMOUS=true (--allow-anonymous) if that is meant"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits(self) -> Settings:
        if self.max_batch_files > self.max_in_flight:
            raise ValueError("max_batch_files is above max_in_flight: a full batch would never be admitted")
        if self.max_batch_body_bytes > self.max_in_flight_bytes or self.max_body_bytes > self.max_in_flight_bytes:
            raise ValueError("a body of the largest size is above max_in_flight_bytes and would never be admitted")
        return self

    @property
    def batch_limits(self) -> BatchLimits:
        """What the batching engine is held to."""
        return BatchLimits(
            threads=self.threads or granted_cores(),
            max_items=self.batch_items,
            fill=self.batch_fill,
            max_columns=self.batch_columns,
            max_in_flight=self.max_in_flight,
            max_bytes=self.max_in_flight_bytes,
            linger=self.linger,
            hang_timeout=self.hang_timeout,
        )

    @property
    def image_limits(self) -> ImageLimits:
        """The limits that one image is held to."""
        return ImageLimits(
            max_pixels=self.max_pixels, max_side=self.max_side, max_aspect=self.max_aspect,
            max_pages=self.max_pages,
        )  # fmt: skip


class Replicas(BaseSettings):
    """How many replicas there are and what each may have; every field is ``LINEWISE_RAY_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(env_prefix="LINEWISE_RAY_", frozen=True, extra="forbid")

    cpus: float = Field(
        default=1.0, gt=0, description="Cores of a replica, which reads on as many threads but at least on one."
    )
    gpus: float = Field(default=0.0, ge=0, description="GPUs of a replica; 0.25 puts four on one.")
    min_replicas: int = Field(default=1, ge=1, description="Fewest replicas.")
    max_replicas: int = Field(default=4, ge=1, description="Most replicas; some wait if the cluster has no room.")
    target_requests: float = Field(
        default=8.0, gt=0, description="Requests under way for each replica that replicas are added or removed to meet."
    )
    max_requests: int = Field(default=64, ge=1, description="Most requests under way at one replica.")
    max_queued: int = Field(
        default=128, ge=1, description="Most requests that a proxy holds while all replicas are full; others get 503."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Replicas:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self


def explain(error: ValidationError, prefix: str = "LINEWISE_") -> str:
    """One line that names every wrong setting and what is wrong with it, without its value."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        name = "".join(f"{prefix}{str(part).upper()}: " for part in problem["loc"][:1])
        parts.append(name + problem["msg"].removeprefix("Value error, "))
    return "; ".join(parts)


def describe(kind: type[BaseSettings] = Settings) -> list[tuple[str, str, str]]:
    """Every setting as its environment variable, its default and what it does."""
    return [
        (f"{kind.model_config['env_prefix']}{name.upper()}", _shown(field.default), field.description or "")
        for name, field in kind.model_fields.items()
    ]


def as_markdown(kind: type[BaseSettings] = Settings) -> str:
    """The settings as a Markdown table."""
    rows = [("setting", "default", "what it does"), ("---", "---", "---")]
    rows += [(f"`{name}`", f"`{default}`" if default else "", text) for name, default, text in describe(kind)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(default: object) -> str:
    if default is None or default == ():
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Settings from ``LINEWISE_*`` environment variables, validated at start."""

from __future__ import annotations

import ipaddress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import limits
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from linewise.service.cpu import granted_cores
from linewise.service.documents.image import ImageLimits
from linewise.service.inference.loading import ModelSpec
from linewise.service.inference.queue import BatchLimits
from linewise.service.middleware.key_file import MIN_API_KEY_CHARACTERS, read_key_file


class Settings(BaseSettings):
    """Settings of the service; each field is the environment variable ``LINEWISE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="LINEWISE_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 selects a free port.")
    allow_anonymous: bool = Field(
        default=False,
        description="Allow listening on non-loopback addresses without API keys.",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="API keys, separated by commas; if set, recognition, models and metrics require one.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="File with one API key of at least 16 characters per line; # at the start of a line or after a"
        " space begins a comment. Re-read when it changes.",
    )
    rate_limit: str | None = Field(
        default=None,
        description="Maximum images per API key, or per client address without keys, such as 600/minute; pages of a"
        " document count as images.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins allowed by CORS, separated by commas."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Log format: JSON lines, or text for consoles; auto is text on a terminal and JSON elsewhere.",
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        default="info", description="Minimum log level."
    )
    telemetry: bool = Field(
        default=False,
        description="Send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra 'telemetry'.",
    )
    weights: Path | None = Field(default=None, description="Checkpoint to load instead of the packaged one.")
    device: str | None = Field(default=None, description="Torch device, such as cpu or cuda:0; detected if unset.")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="Numeric precision of inference; auto selects the fastest that the CPU supports.",
    )
    max_body_bytes: int = Field(default=20 * 2**20, ge=1, description="Maximum request body size, in bytes.")
    upload_timeout: float = Field(default=30.0, gt=0, description="Timeout for receiving a request body, in seconds.")
    max_batch_body_bytes: int = Field(
        default=100 * 2**20, ge=1, description="Maximum body size of a batch request, in bytes."
    )
    max_batch_files: int = Field(default=64, ge=1, description="Maximum images in one batch request.")
    max_pages: int = Field(
        default=50, ge=1, description="Maximum pages of one PDF or TIFF; none is read with mode=line."
    )
    max_batch_pixels: int = Field(
        default=200_000_000, ge=9, description="Maximum total pixels of the images in one batch request."
    )
    request_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Timeout for a single-image request after its body has arrived, in seconds; a document has as much"
        " for each page, up to LINEWISE_MAX_REQUEST_TIMEOUT.",
    )
    batch_timeout: float = Field(
        default=60.0,
        gt=0,
        description="Timeout for a batch request after its body has arrived, in seconds; longer for documents, by"
        " LINEWISE_REQUEST_TIMEOUT for each page after the first.",
    )
    max_request_timeout: float = Field(
        default=120.0,
        gt=0,
        description="Maximum timeout, of documents and of clients that set X-Request-Timeout, in seconds.",
    )
    target_wait: float = Field(
        default=1.0,
        gt=0,
        description="Time that the work ahead of a request may take, in seconds, in addition to as much as its own"
        " takes; with more ahead it gets 503.",
    )
    max_in_flight: int = Field(
        default=512, ge=1, description="Maximum images admitted at the same time; a page or document counts as one."
    )
    max_in_flight_bytes: int = Field(
        default=256 * 2**20, ge=1, description="Maximum total size of admitted images, and of request bodies, in bytes."
    )
    write_timeout: float = Field(
        default=30.0,
        gt=0,
        description="Time after which a connection is closed whose client reads nothing of its answer, in seconds.",
    )
    max_unsent_bytes: int = Field(
        default=64 * 2**20,
        ge=1,
        description="Total size of unread answers above which the connections that do not read them are closed, in"
        " bytes.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Model threads on a CPU; default: one per available core. Accelerators always use one.",
    )
    batch_items: int = Field(default=32, ge=1, description="Maximum images per batch.")
    batch_fill: int = Field(
        default=8,
        ge=1,
        description="Batch size up to which similar widths are combined, on CPUs; 1 combines equal widths only.",
    )
    batch_columns: int = Field(default=16_384, ge=64, description="Maximum pixel columns per batch, padding included.")
    linger: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Time an idle device waits for more images, in seconds; try 0.002 on a GPU, keep 0 on a CPU.",
    )
    hang_timeout: float = Field(
        default=60.0,
        gt=0,
        description="Time in one batch, or of decoding one image, after which the liveness probe fails, in seconds.",
    )
    drain_delay: float = Field(
        default=0.0,
        ge=0,
        description="Time between failing the readiness probe and closing the port at shutdown, in seconds; requests"
        " are still served.",
    )
    drain_timeout: float = Field(
        default=60.0, gt=0, description="Time to finish admitted requests at shutdown, in seconds."
    )
    max_pixels: int = Field(default=50_000_000, ge=9, description="Maximum pixels of one image.")
    max_side: int = Field(default=32_768, ge=3, description="Maximum side length of one image, in pixels.")
    max_aspect: float = Field(
        default=500.0, ge=1, description="Maximum aspect ratio: longer side divided by shorter side."
    )

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _check_key_length(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < MIN_API_KEY_CHARACTERS for key in keys):
            raise ValueError(f"an API key is shorter than the minimum of {MIN_API_KEY_CHARACTERS} characters")
        return keys

    @field_validator("api_keys_file")
    @classmethod
    def _check_keys_file(cls, file: Path | None) -> Path | None:
        if file is not None:
            read_key_file(file)  # raises ValueError with an explanation
        return file

    @field_validator("telemetry")
    @classmethod
    def _check_telemetry_is_installed(cls, value: bool) -> bool:
        if value and find_spec("opentelemetry.sdk") is None:
            raise ValueError("OpenTelemetry is not installed; run: pip install 'linewise[telemetry]'")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _check_rate_limit(cls, value: str | None) -> str | None:
        if value is not None:
            limits.parse(value)  # raises ValueError with an explanation
        return value

    @model_validator(mode="after")
    def _require_keys_beyond_loopback(self) -> Settings:
        has_keys = bool(self.api_keys) or self.api_keys_file is not None
        if not has_keys and not self.allow_anonymous and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other machines and no API key is set;"
                " set LINEWISE_API_KEYS, or LINEWISE_ALLOW_ANONYMOUS=true (--allow-anonymous) to allow this"
            )
        return self

    @model_validator(mode="after")
    def _check_batch_limits(self) -> Settings:
        if self.max_batch_files > self.max_in_flight:
            raise ValueError("max_batch_files must not exceed max_in_flight")
        if self.max_batch_body_bytes > self.max_in_flight_bytes or self.max_body_bytes > self.max_in_flight_bytes:
            raise ValueError("max_body_bytes and max_batch_body_bytes must not exceed max_in_flight_bytes")
        return self

    @property
    def model_spec(self) -> ModelSpec:
        """Arguments for loading the model."""
        return ModelSpec(self.weights, self.device, self.precision)

    @property
    def batch_limits(self) -> BatchLimits:
        """Limits of the batching engine."""
        return BatchLimits(
            threads=self.threads or granted_cores(),
            max_items=self.batch_items,
            fill=self.batch_fill,
            max_columns=self.batch_columns,
            max_in_flight=self.max_in_flight,
            max_bytes=self.max_in_flight_bytes,
            linger=self.linger,
            hang_timeout=self.hang_timeout,
            target_wait=self.target_wait,
            urgent_timeout=self.request_timeout,
        )

    @property
    def image_limits(self) -> ImageLimits:
        """Limits of one image."""
        return ImageLimits(
            max_pixels=self.max_pixels, max_side=self.max_side, max_aspect=self.max_aspect,
            max_pages=self.max_pages,
        )  # fmt: skip


class Replicas(BaseSettings):
    """Ray Serve replicas; each field is the environment variable ``LINEWISE_RAY_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="LINEWISE_RAY_", frozen=True, extra="forbid")

    cpus: float = Field(
        default=1.0, gt=0, description="CPU cores per replica; it runs as many model threads, at least one."
    )
    gpus: float = Field(default=0.0, ge=0, description="GPUs per replica; 0.25 shares one GPU between four.")
    min_replicas: int = Field(default=1, ge=1, description="Minimum replicas.")
    max_replicas: int = Field(
        default=4, ge=1, description="Maximum replicas; those that do not fit into the cluster stay pending."
    )
    target_requests: float = Field(default=8.0, gt=0, description="Autoscaling target: ongoing requests per replica.")
    max_requests: int = Field(default=64, ge=1, description="Maximum ongoing requests per replica.")
    max_queued: int = Field(
        default=128,
        ge=1,
        description="Maximum requests queued at a proxy while all replicas are full; further ones get 503.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Replicas:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self


def explain(error: ValidationError, prefix: str = "LINEWISE_") -> str:
    """Describe each invalid setting in one line, without its value."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        name = "".join(f"{prefix}{str(part).upper()}: " for part in problem["loc"][:1])
        parts.append(name + problem["msg"].removeprefix("Value error, "))
    return "; ".join(parts)


def describe(settings: type[BaseSettings] = Settings) -> list[tuple[str, str, str]]:
    """List each setting: environment variable, default, description."""
    return [
        (
            f"{settings.model_config['env_prefix']}{name.upper()}",
            _format_default(field.default),
            field.description or "",
        )
        for name, field in settings.model_fields.items()
    ]


def as_markdown(settings: type[BaseSettings] = Settings) -> str:
    """Return the settings as a Markdown table."""
    rows = [("setting", "default", "what it does"), ("---", "---", "---")]
    rows += [(f"`{name}`", f"`{default}`" if default else "", text) for name, default, text in describe(settings)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _format_default(default: object) -> str:
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

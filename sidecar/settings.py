"""The sidecar's settings: flags and environment variables."""

import importlib.util
import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from handcounter.pacing.schedule import Pacing
from process.address import check_grpc_address, split_host_port
from process.logs import LogFormat
from process.redis_settings import RedisSettings
from process.settings import Words
from sidecar.tls import TlsFiles, listen_error

Scope = Literal["pod", "fleet"]
LogLevel = Literal["debug", "info", "warning", "error"]


def _check_fps(fps: float) -> float:
    if math.isnan(fps) or fps < 0.0:
        raise ValueError("must be a number of frames per second from 0 to inf")
    return fps


def _check_listen(addresses: list[str]) -> list[str]:
    if not addresses:
        raise ValueError("at least one address is needed")
    return [check_grpc_address(address) for address in addresses]


def _check_http(address: str) -> str:
    if address:
        split_host_port(address)
    return address


def _check_otlp_endpoint(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
    if url:
        try:
            importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc")
        except ModuleNotFoundError:
            raise ValueError("traces need OpenTelemetry: pip install 'hamer-hand-counter[otel]'") from None
    return url


class SidecarSettings(RedisSettings):
    """Decides which frames of which camera streams may be processed, at limits that are set live in Redis."""

    model_config = SettingsConfigDict(env_prefix="SIDECAR_")

    fps: Annotated[float, AfterValidator(_check_fps)] = Field(
        1.0, description="frames per second of a stream that Redis has no value for; 0 pauses, inf lifts the limit"
    )
    config_key: str = Field(
        "stream_fps_configs", min_length=1, description="the hash of stream_name to fps; the field * is for all others"
    )
    listen: Annotated[Words, AfterValidator(_check_listen)] = Field(
        ["127.0.0.1:50051"],
        description="HOST:PORT or unix:/path to serve gRPC on; may be repeated",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    health_listen: Annotated[str, AfterValidator(lambda address: address and check_grpc_address(address))] = Field(
        "",
        description="HOST:PORT or unix:/path to serve gRPC health alone on, for probes",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    http: Annotated[str, AfterValidator(_check_http)] = Field(
        "127.0.0.1:9464",
        description="HOST:PORT to serve /metrics and /healthz on; empty for none",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the certificate (with its chain) for addresses other than loopback and unix sockets; "
        "may be replaced while it runs",
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of those who may sign clients' certificates, which are then required"
    )
    insecure: bool = Field(False, description="serve other addresses than loopback in plain text")
    max_concurrent_calls: int = Field(
        100, ge=1, description="calls and sessions at one time; more get RESOURCE_EXHAUSTED"
    )
    scope: Scope = Field(
        "pod",
        description="pod: this sidecar alone decides about its streams; fleet: replicas share each stream's limit",
    )
    replicas: int = Field(
        1, ge=1, description="how many sidecars share the limits in fleet scope, until Redis was reached and tells"
    )
    claim_wait: float = Field(
        0.015,
        gt=0.0,
        allow_inf_nan=False,
        description="seconds that a decision in fleet scope waits for Redis, at most",
        json_schema_extra={"metavar": "SECONDS"},
    )
    pacing: Pacing = Field(
        Pacing.GCRA,
        description="gcra keeps the rate exactly; min-gap keeps a strict gap of 1/fps and so aliases",
    )
    max_streams: int = Field(100_000, ge=1, description="streams that have a schedule at one time, at most")
    grace: float = Field(
        10.0,
        ge=0.0,
        allow_inf_nan=False,
        description="seconds that calls in flight have to finish after SIGTERM",
        json_schema_extra={"metavar": "SECONDS"},
    )
    metrics_streams: int = Field(
        1000, ge=0, description="streams that have metrics of their own, at most; the rest in the series other"
    )
    otlp_endpoint: Annotated[str, AfterValidator(_check_otlp_endpoint)] = Field(
        "",
        description="http://HOST:PORT or https://HOST:PORT of a collector to send a span per call to (OTLP over gRPC); "
        "needs the extra otel",
        json_schema_extra={"metavar": "URL"},
    )
    shadow: bool = Field(False, description="let every frame through: decide and count as ever, but answer yes")
    check: bool = Field(
        False, description="validate the settings and the limits in Redis, say what is wrong with them, and end"
    )
    log_level: LogLevel = Field("info", description="how much to log")
    log_format: LogFormat = Field("text", description="text for people, json for collectors")

    def shown(self) -> dict[str, str]:
        """The settings by their flags' names as text, with the password of the Redis URL masked."""
        values = {name.replace("_", "-"): _text(value) for name, value in self.model_dump(mode="python").items()}
        return {**values, "redis-url": self.redis.shown}

    @property
    def tls(self) -> TlsFiles | None:
        """The certificate of the gRPC server; None if there is none."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key need each other")
        if self.tls_client_ca and not self.tls:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.insecure and self.tls:
            raise ValueError("--insecure and --tls-cert exclude each other")
        errors = (
            self.redis_access.error(self.redis),
            listen_error(self.listen, has_certificate=self.tls is not None, insecure=self.insecure),
            self.tls.error() if self.tls else None,
        )
        for error in filter(None, errors):
            raise ValueError(error)
        return self


def _text(value: object) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)

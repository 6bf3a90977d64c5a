"""The sidecar's settings: flags and environment variables."""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from handcounter.pacing.schedule import Pacing
from process.address import check_grpc_address
from process.fields import FiniteSeconds, Fps, HttpAddress, LogFormat, LogLevel, OptionalGrpcAddress
from process.pem import pem_error
from process.redis_settings import RedisSettings
from process.settings import Words
from sidecar.tls import TlsFiles, listen_error

Scope = Literal["pod", "fleet"]


def _check_listen(addresses: list[str]) -> list[str]:
    if not addresses:
        raise ValueError("needs at least one address")
    return [check_grpc_address(address) for address in addresses]


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
    """Decides which frames of which camera streams may be processed, by limits that can be changed in Redis at any time."""

    model_config = SettingsConfigDict(env_prefix="SIDECAR_")

    fps: Fps = Field(
        1.0, description="frames per second of each stream without a limit in Redis; 0 pauses, inf lifts the limit"
    )
    config_key: str = Field(
        "stream_fps_configs",
        min_length=1,
        description="Redis hash that maps stream_name to fps; its field * applies to all other streams",
    )
    limits_from: OptionalGrpcAddress = Field(
        "",
        description="another sidecar that tells the limits instead of Redis, HOST:PORT or unix:/path; --scope fleet still "
        "needs Redis",
    )
    limits_from_ca: Path | None = Field(
        None, description="PEM file of the CA certificate that verifies the other sidecar; enables TLS"
    )
    limits_from_cert: Path | None = Field(None, description="PEM file of the client certificate for it")
    limits_from_key: Path | None = Field(None, description="PEM file of that certificate's private key")
    listen: Annotated[Words, AfterValidator(_check_listen)] = Field(
        ["127.0.0.1:50051"],
        description="address of the gRPC server, HOST:PORT or unix:/path; may be repeated",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    health_listen: OptionalGrpcAddress = Field(
        "", description="address of another gRPC server, with the health service alone, for probes"
    )
    http: HttpAddress = "127.0.0.1:9464"
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the server's certificate chain, used on all addresses but loopback and unix sockets; "
        "may be replaced while the sidecar runs",
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of CA certificates; clients must then present a certificate signed by one of them"
    )
    insecure: bool = Field(False, description="allow addresses other than loopback without TLS")
    max_concurrent_calls: int = Field(
        100, ge=1, description="maximum number of calls and sessions at a time; more get RESOURCE_EXHAUSTED"
    )
    max_watchers: int = Field(
        64,
        ge=0,
        description="maximum number of clients that watch limits (publishers, consoles); each takes one of "
        "--max-concurrent-calls",
    )
    scope: Scope = Field(
        "pod",
        description="pod: this sidecar decides about its streams alone; fleet: replicas share each stream's limit",
    )
    replicas: int = Field(
        1, ge=1, description="number of sidecars in fleet scope, assumed until Redis reports the real number"
    )
    claim_wait: FiniteSeconds = Field(
        0.015, gt=0.0, description="maximum time that a decision in fleet scope waits for Redis"
    )
    pacing: Pacing = Field(
        Pacing.GCRA,
        description="gcra keeps the rate exactly; min-gap keeps a strict gap of 1/fps, which aliases with the camera's "
        "own rate",
    )
    max_streams: int = Field(100_000, ge=1, description="maximum number of streams with a schedule in memory")
    grace: FiniteSeconds = Field(10.0, description="time that calls in flight have to finish after SIGTERM")
    metrics_streams: int = Field(
        1000, ge=0, description="maximum number of streams with metrics of their own; the rest share the series other"
    )
    otlp_endpoint: Annotated[str, AfterValidator(_check_otlp_endpoint)] = Field(
        "",
        description="collector that gets a trace span per call (OTLP over gRPC), http://HOST:PORT or https://HOST:PORT; "
        "needs the extra [otel]",
        json_schema_extra={"metavar": "URL"},
    )
    shadow: bool = Field(False, description="dry run: decide and count, but admit every frame")
    check: bool = Field(False, description="validate the settings and the limits in Redis, report problems and exit")
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def shown(self) -> dict[str, str]:
        """Returns the settings as text by the names of their flags; the password in the Redis URL is masked."""
        values = {name.replace("_", "-"): _text(value) for name, value in self.model_dump(mode="python").items()}
        return {**values, "redis-url": self.redis.shown}

    @property
    def tls(self) -> TlsFiles | None:
        """The certificate of the gRPC server, or None without one."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @model_validator(mode="after")
    def _are_consistent(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key must be given together")
        if self.tls_client_ca and not self.tls:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.insecure and self.tls:
            raise ValueError("--insecure and --tls-cert exclude each other")
        errors = (
            _limits_from_error(self.limits_from_ca, self.limits_from_cert, self.limits_from_key),
            self.redis_access.error(self.redis),
            listen_error(self.listen, has_certificate=self.tls is not None, insecure=self.insecure),
            self.tls.error() if self.tls else None,
        )
        for error in filter(None, errors):
            raise ValueError(error)
        return self


def _limits_from_error(ca: Path | None, certificate: Path | None, key: Path | None) -> str | None:
    """Returns the error for the PEM files of the other sidecar. gRPC would report none, and never connect."""
    if (certificate is None) != (key is None):
        return "--limits-from-cert and --limits-from-key must be given together"
    if certificate and not ca:
        return "--limits-from-cert needs --limits-from-ca: without TLS no certificate is shown"
    return pem_error(ca, certificate, key)


def _text(value: object) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)

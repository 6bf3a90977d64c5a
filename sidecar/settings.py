"""The sidecar's settings: flags and environment variables."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.address import check_grpc_address, split_host_port
from process.logs import LogFormat
from process.settings import Words
from sidecar.redis_push import check_redis_url
from sidecar.schedule import Pacing

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


class SidecarSettings(BaseSettings):
    """Decides which frames of which camera streams may be processed, at limits that are set live in Redis."""

    model_config = SettingsConfigDict(env_prefix="SIDECAR_")

    fps: Annotated[float, AfterValidator(_check_fps)] = Field(
        1.0, description="frames per second of a stream that Redis has no value for; 0 pauses, inf lifts the limit"
    )
    redis_url: Annotated[str, AfterValidator(check_redis_url)] = Field(
        "redis://127.0.0.1:6379/0",
        description="where the limits are kept: redis://, rediss:// or unix://",
        json_schema_extra={"metavar": "URL"},
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
    log_level: LogLevel = Field("info", description="how much to log")
    log_format: LogFormat = Field("text", description="text for people, json for collectors")

    def shown(self) -> dict[str, str]:
        """The settings by their flags' names as text, with the password of the Redis URL masked."""
        values = {name.replace("_", "-"): _text(value) for name, value in self.model_dump(mode="python").items()}
        return {**values, "redis-url": mask_password(self.redis_url)}


def mask_password(url: str) -> str:
    """Replaces the password of a URL, in front of the host or in the query, by stars."""
    url = re.sub(r"(?<=://)([^/@]*?):[^/]*@", r"\1:***@", url)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", url)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)

"""Field types of settings that both programs share, so that the same mistake gets the same error in both."""

import math
from collections.abc import Callable
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from handcounter.pacing.decimals import parse_decimal
from process import logs
from process.address import check_grpc_address, split_host_port


def _decimal(value: object) -> object:
    if not isinstance(value, str):
        return value
    number = parse_decimal(value)
    if number is None:
        raise ValueError("expected a decimal number that a double can hold")
    return number


def _check_fps(fps: float) -> float:
    if math.isnan(fps) or fps < 0.0:
        raise ValueError("expected frames per second: 0 or more, or inf")
    return abs(fps)  # -0 is 0


def _check_seconds(seconds: float) -> float:
    if math.isnan(seconds) or seconds <= 0.0:
        raise ValueError("expected seconds: more than 0, or inf")
    return seconds


def _check_finite_seconds(seconds: float) -> float:
    if not 0.0 <= seconds < math.inf:
        raise ValueError("expected seconds: 0 or more, not infinite")
    return seconds


def _unless_empty(check: Callable[[str], object]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        if text:
            check(text)
        return text

    return checked


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _check_http_address(address: str) -> str:
    if address.lower() == NOT_SERVED:
        return ""
    if address:
        split_host_port(address)
    return address


NOT_SERVED: Final = "none"
"""The address of an HTTP endpoint that isn't served. An empty variable would be the same as none at all."""

Number = Annotated[float, BeforeValidator(_decimal)]
"""A number as people write it. Without it, 1e-400 would be 0, 1e400 infinity and 1_000 a thousand."""

Fps = Annotated[Number, AfterValidator(_check_fps), Field(json_schema_extra={"metavar": "FPS"})]
"""Frames per second, 0 to infinity; not NaN."""

Seconds = Annotated[Number, AfterValidator(_check_seconds), Field(json_schema_extra={"metavar": "SECONDS"})]
"""A duration of more than 0 seconds; infinity usually means "never"."""

FiniteSeconds = Annotated[
    Number, AfterValidator(_check_finite_seconds), Field(json_schema_extra={"metavar": "SECONDS"})
]
"""A duration from 0 seconds on, not infinite."""

GrpcAddress = Annotated[str, AfterValidator(check_grpc_address), Field(json_schema_extra={"metavar": "ADDRESS"})]
"""HOST:PORT or unix:/path."""

OptionalGrpcAddress = Annotated[
    str, AfterValidator(_unless_empty(check_grpc_address)), Field(json_schema_extra={"metavar": "ADDRESS"})
]
"""HOST:PORT or unix:/path; empty for none."""

HttpAddress = Annotated[
    str,
    AfterValidator(_check_http_address),
    Field(
        description="address of /metrics and /healthz; none: not served",
        json_schema_extra={"metavar": "HOST:PORT"},
    ),
]
"""HOST:PORT; empty if none is served."""

LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], BeforeValidator(_lower), Field(description="minimum log level")
]
"""The level below which nothing is logged."""

LogFormat = Annotated[
    logs.LogFormat, BeforeValidator(_lower), Field(description="log format: text for people, json for log collectors")
]
"""Text lines, or one JSON object per line."""

"""What users of ``hand-counter console`` choose, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from process.redis_url import RedisUrl

if TYPE_CHECKING:
    from process.redis_access import RedisAccess


@dataclass(frozen=True, kw_only=True)
class ConsoleOptions:
    """A console; the fields are those of ConsoleSettings."""

    listen: str
    sidecar: list[str]
    redis: RedisUrl
    redis_access: RedisAccess
    prefix: str
    config_key: str
    allow_changes: bool
    operator_token_file: Path | None
    operator_token: str
    viewer_token_file: Path | None
    viewer_token: str
    trusted_proxy: list[str]
    proxy_user_header: str
    proxy_groups_header: str
    operator_group: list[str]
    allowed_host: list[str]
    pictures: bool
    hide_pictures: list[str]
    max_streams: int
    history_streams: int
    max_viewers: int
    sidecar_ca: Path | None
    sidecar_cert: Path | None
    sidecar_key: Path | None

"""The flags of ``hand-counter console``: each is also an environment variable CONSOLE_*."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from console.web.access.token_file import MIN_TOKEN, tokens_in
from console.web.options import ConsoleOptions
from process.address import check_grpc_address, split_host_port
from process.fields import LogFormat, LogLevel
from process.pem import pem_error
from process.redis_settings import RedisSettings, RedisUrlText
from process.settings import Words


def _check_sidecars(addresses: list[str]) -> list[str]:
    for address in addresses:
        check_grpc_address(address)
    return addresses


def _check_networks(networks: list[str]) -> list[str]:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(f"expected an address or a network such as 10.0.0.0/8, got {network!r}") from None
    return networks


def _check_listen(address: str) -> str:
    split_host_port(address)
    return address


class ConsoleSettings(RedisSettings):
    """Serves a web page with every camera, its limit and its last picture; with --allow-changes limits are changed there."""

    model_config = SettingsConfigDict(env_prefix="CONSOLE_", protected_namespaces=())

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter console
      read-only, on http://127.0.0.1:9470, for Redis and a sidecar on this machine
  hand-counter console --allow-changes
      limits can be changed in the page, by everybody on this machine
  hand-counter console --listen 0.0.0.0:9470 --allow-changes --operator-token-file /run/secrets/operator \\
      --viewer-token-file /run/secrets/viewer --allowed-host console.example.org
      for a network: people log in with a token, operators and viewers
  hand-counter console --listen 0.0.0.0:9470 --allow-changes --trusted-proxy 10.0.0.7 \\
      --proxy-user-header X-Forwarded-Email --proxy-groups-header X-Forwarded-Groups --operator-group camera-operators
      behind oauth2-proxy, which logs people in
  hand-counter console --sidecar fps-sidecars.default.svc:50051 --no-pictures
      every sidecar behind a headless Service; no pictures of people
"""

    listen: Annotated[str, AfterValidator(_check_listen)] = Field(
        "127.0.0.1:9470",
        description="address of the page; one that isn't of this machine alone needs a token or a proxy",
        json_schema_extra={"metavar": "HOST:PORT"},
    )
    sidecar: Annotated[Words, AfterValidator(_check_sidecars)] = Field(
        ["127.0.0.1:50051"],
        description="a sidecar, HOST:PORT or unix:/path; a name with several addresses is that many sidecars (repeatable)",
        json_schema_extra={"metavar": "ADDRESS"},
    )
    redis_url: RedisUrlText = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey, 7.0 or newer: redis://, rediss:// (TLS), unix://, "
        "redis+sentinel://HOST:PORT,…/SERVICE/DB, redis+cluster://HOST:PORT,… (rediss+… for TLS)",
        json_schema_extra={"metavar": "URL", "secret": True},
    )
    prefix: str = Field(
        "hand_counter",
        min_length=1,
        pattern=r"^[^{}]+$",
        description="prefix of the queue's keys: {prefix}:frames, ...",
    )
    config_key: str = Field("stream_fps_configs", min_length=1, description="the hash of limits")
    allow_changes: bool = Field(False, description="let operators change limits; without it the page is read-only")
    operator_token_file: Path | None = Field(
        None, description="file with the token of operators; with several, each in a line"
    )
    operator_token: SecretStr | None = Field(None, description="the token itself; use the variable, flags can be seen")
    viewer_token_file: Path | None = Field(
        None, description="file with the token of viewers; with several, each in a line"
    )
    viewer_token: SecretStr | None = Field(None, description="the token itself; use the variable, flags can be seen")
    trusted_proxy: Annotated[Words, AfterValidator(_check_networks)] = Field(
        [],
        description="address or network of a proxy that logs people in (repeatable)",
        json_schema_extra={"metavar": "CIDR"},
    )
    proxy_user_header: str = Field("X-Forwarded-User", description="header in which that proxy says who asks")
    proxy_groups_header: str = Field("X-Forwarded-Groups", description="header with that person's groups")
    operator_group: Words = Field(
        [], description="group whose members may change limits (repeatable)", json_schema_extra={"metavar": "NAME"}
    )
    allowed_host: Words = Field(
        [],
        description="name by which browsers call the console, besides that in --listen (repeatable)",
        json_schema_extra={"metavar": "NAME"},
    )
    pictures: bool = Field(True, description="show the last picture of each camera")
    hide_pictures: Words = Field(
        [],
        description="pattern of streams whose pictures aren't shown, such as 'floor1-*' (repeatable)",
        json_schema_extra={"metavar": "PATTERN"},
    )
    max_streams: int = Field(20_000, ge=1, le=1_000_000, description="streams that are shown at most")
    history_streams: int = Field(2_000, ge=0, le=100_000, description="streams whose last hour is kept, 8 kB for each")
    max_viewers: int = Field(200, ge=1, le=10_000, description="open pages at most")
    sidecar_ca: Path | None = Field(None, description="CA certificate that verifies sidecars with TLS (PEM file)")
    sidecar_cert: Path | None = Field(None, description="client certificate for sidecars that ask for one (PEM file)")
    sidecar_key: Path | None = Field(None, description="key of that certificate (PEM file)")
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if error := self.redis_access.error(self.redis):
            raise ValueError(error)
        if (self.sidecar_cert is None) != (self.sidecar_key is None):
            raise ValueError("--sidecar-cert and --sidecar-key must be given together")
        if self.sidecar_cert and not self.sidecar_ca:
            raise ValueError("--sidecar-cert needs --sidecar-ca: without TLS no certificate is shown")
        if error := pem_error(self.sidecar_ca, self.sidecar_cert, self.sidecar_key):
            raise ValueError(error)
        if error := self._access_error():
            raise ValueError(error)
        return self

    @property
    def _has_tokens(self) -> bool:
        given = (self.operator_token_file, self.operator_token, self.viewer_token_file, self.viewer_token)
        return any(each is not None for each in given)

    def _access_error(self) -> str | None:
        """Returns why nobody, or anybody, could use the console as configured."""
        host, _ = split_host_port(self.listen)
        if self._has_tokens and self.trusted_proxy:
            return "give tokens or --trusted-proxy, not both"
        if self.operator_token_file and self.operator_token:
            return "the token of operators is given twice: as text and in a file"
        if self.viewer_token_file and self.viewer_token:
            return "the token of viewers is given twice: as text and in a file"
        if self.operator_group and not self.trusted_proxy:
            return "--operator-group needs --trusted-proxy, which says who is in it"
        if not is_loopback(host) and not self._has_tokens and not self.trusted_proxy:
            return "--listen beyond this machine needs --operator-token-file, --viewer-token-file or --trusted-proxy"
        for path in (self.operator_token_file, self.viewer_token_file):
            if path is not None:
                try:
                    tokens = tokens_in(path.read_text())
                    if not tokens or min(map(len, tokens)) < MIN_TOKEN:
                        return f"{path}: expected a token in each line, of at least {MIN_TOKEN} characters"
                except (OSError, UnicodeDecodeError) as error:
                    return f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}"
        for token in (self.operator_token, self.viewer_token):
            if token is not None and len(token.get_secret_value()) < MIN_TOKEN:
                return f"a token has at least {MIN_TOKEN} characters"
        return None

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`console.web.running.run_console`."""
        names = ConsoleOptions.__dataclass_fields__.keys() & type(self).model_fields.keys()
        given = {name: getattr(self, name) for name in names}
        for name in ("operator_token", "viewer_token"):
            given[name] = given[name].get_secret_value() if given[name] else ""
        return {"options": ConsoleOptions(**given, redis=self.redis, redis_access=self.redis_access)}


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can connect to a host; an empty one means every interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

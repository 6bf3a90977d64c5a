"""How the gRPC server listens: in plain text where nobody else can hear, else with TLS.

Loopback and unix sockets are plain text. Any other address needs a certificate, or the operator's word that the network
is trusted (``--insecure``). The certificate's files may be replaced while the server runs, as cert-manager and the
like do: each new connection looks whether they changed, and a pair that doesn't fit together (one file replaced, the
other not yet) leaves the last good one in force.
"""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from process.address import split_host_port
from process.pem import pem_error

if TYPE_CHECKING:
    import grpc  # the settings know of files alone, so --help and --check do without

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's certificate (with its chain), its key, and who may sign clients' certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Clients must show a certificate signed by one of these; None: anybody may connect."""

    def error(self) -> str | None:
        """Says what is wrong with the files as they are now; None if nothing is."""
        return pem_error(self.client_ca, self.certificate, self.key)


def is_private(address: str) -> bool:
    """Whether an address of gRPC is reached from this machine alone: a unix socket or loopback."""
    if address.startswith("unix:"):
        return True
    host, _ = split_host_port(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen_error(addresses: Sequence[str], *, has_certificate: bool, insecure: bool) -> str | None:
    """Says why these addresses must not be listened on; None if they may."""
    if has_certificate or insecure:
        return None
    for address in addresses:
        if not is_private(address):
            return (
                f"{address} can be reached from other machines: give --tls-cert and --tls-key, "
                "or --insecure if the network is trusted"
            )
    return None


class ReloadedCertificate:
    """The server's credentials, which follow the files."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files; raises OSError if one can't be read."""
        self._files = files
        self._seen = self._stamps()
        self._refused: tuple[tuple[int, int, int], ...] | None = None
        self._configuration = self._read()

    def credentials(self) -> "grpc.ServerCredentials":
        """What add_secure_port takes."""
        import grpc

        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            # The stubs don't know that a fetcher may answer "as before".
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._fetch),
            require_client_authentication=self._files.client_ca is not None,
        )

    def _fetch(self) -> "grpc.ServerCertificateConfiguration | None":
        """Called by gRPC, in threads of its own, before each handshake; None: as before."""
        try:
            stamps = self._stamps()
            if stamps in (self._seen, self._refused):
                return None
            error = self._files.error()
            configuration = None if error else self._read()
        except OSError as problem:
            # A file that is away for a moment while it is replaced.
            error, configuration, stamps = str(problem), None, ()
        if configuration is None:
            self._refused = stamps
            logger.warning("the new certificate is not used", extra={"error": error})
            return None
        self._seen = stamps
        logger.info("the certificate was replaced", extra={"certificate": str(self._files.certificate)})
        return configuration

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        files = self._files
        stats = [path.stat() for path in (files.certificate, files.key, files.client_ca) if path]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _read(self) -> "grpc.ServerCertificateConfiguration":
        import grpc

        files = self._files
        return grpc.ssl_server_certificate_configuration(
            [(files.key.read_bytes(), files.certificate.read_bytes())],
            root_certificates=files.client_ca.read_bytes() if files.client_ca else None,
        )

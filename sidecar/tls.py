"""How the gRPC server listens: in plain text on addresses that only this machine can reach, otherwise with TLS.

Loopback and unix sockets are plain text. Any other address needs a certificate, or the operator's consent to plain text on
a trusted network (``--insecure``). The certificate files may be replaced while the server runs, as cert-manager does: each
new connection checks whether they have changed. A certificate and a key that don't belong together, because only one of
the files has been replaced yet, leave the previous pair in force.
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
    import grpc  # settings need only the files, so --help and --check do without gRPC

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's certificate chain, its private key, and CA certificates that verify clients."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Clients must present a certificate signed by one of these; None lets any client connect."""

    def error(self) -> str | None:
        """Returns what is wrong with the current content of the files, or None if they are valid."""
        return pem_error(self.client_ca, self.certificate, self.key)


def is_private(address: str) -> bool:
    """Whether only this machine can reach an address of gRPC: a unix socket or loopback."""
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
    """Returns why the server must not listen on these addresses, or None if it may."""
    if has_certificate or insecure:
        return None
    for address in addresses:
        if not is_private(address):
            return (
                f"{address} can be reached from other machines: pass --tls-cert and --tls-key, "
                "or --insecure if the network is trusted"
            )
    return None


class ReloadedCertificate:
    """The server's credentials, reloaded when the files change.

    Raises:
        OSError: A file can't be read.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamps()
        self._rejected: tuple[tuple[int, int, int], ...] | None = None
        self._configuration = self._read()

    def credentials(self) -> "grpc.ServerCredentials":
        """Returns credentials for ``add_secure_port``."""
        import grpc

        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            # According to the stubs the fetcher must return a configuration; None means no change.
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._fetch),
            require_client_authentication=self._files.client_ca is not None,
        )

    def _fetch(self) -> "grpc.ServerCertificateConfiguration | None":
        """Returns a new configuration, or None to keep the current one. gRPC calls it in its threads before handshakes."""
        try:
            stamps = self._stamps()
            if stamps in (self._seen, self._rejected):
                return None
            error = self._files.error()
            configuration = None if error else self._read()
        except OSError as problem:
            # A file may be missing for a moment while it is replaced.
            error, configuration, stamps = str(problem), None, ()
        if configuration is None:
            self._rejected = stamps
            logger.warning("keeping the current certificate, the new one isn't valid", extra={"error": error})
            return None
        self._seen = stamps
        logger.info("reloaded the certificate", extra={"path": str(self._files.certificate)})
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

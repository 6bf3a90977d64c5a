"""PEM files that settings name: whether they are what they are to be. What is wrong would else show at no connection."""

import ssl
from pathlib import Path


def pem_error(authorities: Path | None, certificate: Path | None = None, key: Path | None = None) -> str | None:
    """Says what is wrong with the files as they are now; None if nothing is.

    Args:
        authorities: who may sign the other side's certificate.
        certificate: one's own, with its chain; checked together with its key alone.
        key: the certificate's, not encrypted.
    """
    paths = [path for path in (certificate, key, authorities) if path]
    if not paths:
        return None
    for path in paths:
        try:
            path.read_bytes()
        except OSError as problem:
            return f"cannot read {path}: {problem.strerror}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate and key:
        try:
            # An encrypted key would ask for its password on the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, ValueError):
            return f"{certificate} and {key} are no certificate and its unencrypted key in PEM"
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError:
            return f"{authorities} holds no certificates in PEM"
    return None

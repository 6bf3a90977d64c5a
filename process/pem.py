"""Validates PEM files at start, because gRPC fails silently: it would just never connect."""

import ssl
from pathlib import Path


def pem_error(authorities: Path | None, certificate: Path | None = None, key: Path | None = None) -> str | None:
    """Returns what is wrong with the current content of files, or None if nothing is.

    Args:
        authorities: CA certificates that verify the other side.
        certificate: This side's certificate chain; only checked together with its key.
        key: The certificate's private key, not encrypted.
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
            # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, ValueError):
            return f"{certificate} and {key} aren't a certificate and its unencrypted key in PEM format"
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError:
            return f"{authorities} has no certificates in PEM format"
    return None

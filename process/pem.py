"""Reads PEM files: validates them at start, because gRPC fails silently: it would just never connect; and when they expire."""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17
"""Tags of DER."""


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


def expiry(certificate: Path) -> float | None:
    """Returns when the first certificate of a file expires, seconds since 1970; None if the file has no valid one.

    The standard library gives a certificate's fields only to the other side of a connection, so this takes the one field
    out of the DER: Certificate = (tbs, ...), tbs = ([version], serial, algorithm, issuer, (not before, not after), ...).
    """
    try:
        found = _CERTIFICATE.search(certificate.read_text())
        if not found:
            return None
        ((_, outer),) = _der(ssl.PEM_cert_to_DER_cert(found.group()))
        _, tbs = next(_der(outer))
        fields = [content for tag, content in _der(tbs) if tag != _VERSION]
        _, (tag, not_after) = _der(fields[3])
        form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(not_after.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _der(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the tag and content of each value in a sequence of DER values. Raises IndexError if it is cut off."""
    place = 0
    while place < len(content):
        tag, length = content[place], content[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(content[place : place + size], "big")
            place += size
        if place + length > len(content):
            raise IndexError("cut off")
        yield tag, content[place : place + length]
        place += length

"""Certificates for tests, made with the openssl command, version 3: a CA, and pairs signed by it."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A CA that writes signed certificates to a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        _certificate(self.pair, name)

    @property
    def certificate(self) -> Path:
        """Returns the CA certificate that verifies the signed ones."""
        return self.pair.certificate

    def sign(self, name: str) -> Pair:
        """Creates a pair for servers and clients on this machine; the name is its common name."""
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        ca = ("-CA", self.pair.certificate, "-CAkey", self.pair.key)
        extensions = ("subjectAltName=DNS:localhost,IP:127.0.0.1", "basicConstraints=critical,CA:FALSE")
        _certificate(pair, name, *ca, "-days", "2", *(word for each in extensions for word in ("-addext", each)))
        return pair


def _certificate(pair: Pair, name: str, *options: object) -> None:
    # Elliptic curve keys are generated within a millisecond.
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}")
    command = ["openssl", "req", *new, "-keyout", pair.key, "-out", pair.certificate, *options]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)

"""Certificates for tests, made with the openssl command: a CA, and pairs signed by it."""

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
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self.pair.key, "-out", self.pair.certificate, "-subj", f"/CN={name}"
        )

    @property
    def certificate(self) -> Path:
        """Returns the CA certificate that verifies the signed ones."""
        return self.pair.certificate

    def sign(self, name: str) -> Pair:
        """Creates a pair for servers and clients on this machine; the name is its common name."""
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request = self._folder / f"{name}.csr"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl("req", *_NEW_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        ca = ("-CA", self.pair.certificate, "-CAkey", self.pair.key, "-CAcreateserial", "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, "-out", pair.certificate, "-days", "2", *ca)
        return pair


# Elliptic curve keys are generated within a millisecond.
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

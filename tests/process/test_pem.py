"""PEM files are validated when a program starts."""

from pathlib import Path

import pytest
from support.tls import Authority

from process.pem import pem_error


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_valid_files_have_no_error(authority: Authority) -> None:
    """A pair, CA certificates, both of them, or no files at all are fine."""
    pair = authority.sign("own")
    assert pem_error(None) is None
    assert pem_error(authority.certificate) is None
    assert pem_error(None, *pair) is None
    assert pem_error(authority.certificate, *pair) is None


def test_an_error_names_the_file(authority: Authority, tmp_path: Path) -> None:
    """Unreadable files, files of another kind and pairs that don't belong together are named."""
    own, other = authority.sign("own"), tmp_path / "other"
    other.write_text("no certificate")
    nowhere = tmp_path / "nowhere"
    assert pem_error(nowhere) == f"cannot read {nowhere}: No such file or directory"
    assert pem_error(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    assert pem_error(other) == f"{other} has no certificates in PEM format"
    assert pem_error(own.key) == f"{own.key} has no certificates in PEM format"
    for certificate, key in ((other, other), (own.certificate, other), (own.certificate, authority.pair.key)):
        error = pem_error(None, certificate, key)
        assert error == f"{certificate} and {key} aren't a certificate and its unencrypted key in PEM format"

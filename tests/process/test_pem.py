"""What is said about PEM files."""

from pathlib import Path

import pytest
from support.tls import Authority

from process.pem import pem_error


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_good_files_are_fine(authority: Authority) -> None:
    """Nothing is wrong with a pair, with authorities, with both, or with nothing."""
    pair = authority.sign("own")
    assert pem_error(None) is None
    assert pem_error(authority.certificate) is None
    assert pem_error(None, *pair) is None
    assert pem_error(authority.certificate, *pair) is None


def test_what_is_wrong_is_said(authority: Authority, tmp_path: Path) -> None:
    """A file that can't be read or holds something else is named; so is a pair that doesn't fit together."""
    own, other = authority.sign("own"), tmp_path / "other"
    other.write_text("no certificate")
    nowhere = tmp_path / "nowhere"
    assert pem_error(nowhere) == f"cannot read {nowhere}: No such file or directory"
    assert pem_error(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    assert pem_error(other) == f"{other} holds no certificates in PEM"
    assert pem_error(own.key) == f"{own.key} holds no certificates in PEM"
    for certificate, key in ((other, other), (own.certificate, other), (own.certificate, authority.pair.key)):
        error = pem_error(None, certificate, key)
        assert error == f"{certificate} and {key} are no certificate and its unencrypted key in PEM"

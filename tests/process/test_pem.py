"""PEM files are validated when a program starts."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.tls import Authority

from process.pem import expiry, pem_error


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


@pytest.mark.parametrize("end", ["20301224120000Z", "20491231235959Z", "20510102030405Z"])
def test_a_certificate_says_when_it_expires(authority: Authority, tmp_path: Path, end: str) -> None:
    """That of the first certificate in the file, as openssl says it, before and after 2050, when the format changes."""
    path = tmp_path / "until.crt"
    words = ["openssl", "ca", "-batch", "-selfsign", "-enddate", end, "-notext", "-out", path, "-config", "ca.cnf"]
    (tmp_path / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
        "unique_subject=no\n[p]\ncommonName=supplied\n[req]\ndistinguished_name=n\n[n]\n"
    )
    (tmp_path / "index").touch()
    (tmp_path / "serial").write_text("01")
    request = [
        "openssl",
        "req",
        "-new",
        "-key",
        authority.pair.key,
        "-subj",
        "/CN=x",
        "-out",
        "x.csr",
        "-config",
        "ca.cnf",
    ]
    subprocess.run(request, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(
        [*words, "-in", "x.csr", "-keyfile", authority.pair.key], cwd=tmp_path, check=True, capture_output=True
    )
    expected = datetime.strptime(end, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    assert expiry(path) == expected
    path.write_text(f"a comment\n{path.read_text()}{authority.certificate.read_text()}")
    assert expiry(path) == expected


def test_a_file_without_a_certificate_has_no_expiry(authority: Authority, tmp_path: Path) -> None:
    """Neither has one that is missing, cut off or not text."""
    other = tmp_path / "other"
    assert expiry(other) is None
    der = ssl.PEM_cert_to_DER_cert(authority.certificate.read_text())
    for content in (b"", b"no certificate", b"\xff\xfe", authority.pair.key.read_bytes()):
        other.write_bytes(content)
        assert expiry(other) is None
    for size in range(len(der)):
        other.write_text(ssl.DER_cert_to_PEM_cert(der[:size]))
        assert expiry(other) is None

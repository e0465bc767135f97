"""A certificate for the twin."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from klineagent.bench.certificate import make_certificate
from klineagent.core.errors import ConfigError


def test_who_trusts_the_authority_trusts_the_twin(tmp_path: Path) -> None:
    """Server and client each accept their file."""
    certificate = make_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.identity)
    trusting = ssl.create_default_context(cafile=certificate.environ["SSL_CERT_FILE"])
    assert trusting.cert_store_stats()["x509_ca"] == 1
    assert set(certificate.environ.values()) == {str(certificate.authority)}


def test_what_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigError, match=r"pip install 'klineagent\[bench\]'"):
        make_certificate(tmp_path)

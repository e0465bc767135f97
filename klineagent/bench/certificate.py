"""A certificate for the twin, and the authority that its clients trust for the moment."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from klineagent.core.errors import ConfigError


@frozen
class Certificate:
    """Two files."""

    identity: Path
    """Key and certificate chain of the twin."""
    authority: Path
    """Who trusts this trusts the twin."""

    @property
    def environ(self) -> dict[str, str]:
        """What makes a process trust the twin, whether it asks OpenSSL or requests."""
        return {"SSL_CERT_FILE": str(self.authority), "REQUESTS_CA_BUNDLE": str(self.authority)}


def make_certificate(folder: Path, host: str = "127.0.0.1") -> Certificate:
    """Make one for `host`.

    Raises:
        ConfigError: what makes certificates is not installed.
    """
    try:
        import trustme
    except ImportError as error:
        raise ConfigError("--tls needs certificates: pip install 'klineagent[bench]'") from error
    certificate = Certificate(folder / "twin.pem", folder / "authority.pem")
    authority = trustme.CA()
    authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(certificate.identity)
    authority.cert_pem.write_to_path(certificate.authority)
    return certificate

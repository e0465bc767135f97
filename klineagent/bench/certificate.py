"""A throwaway certificate authority, and a certificate for the twin that it signs."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from klineagent.core.errors import ConfigError


@frozen
class Certificate:
    """The files of a certificate and of the authority that signed it."""

    identity: Path
    """Key and certificate chain of the twin."""
    authority: Path
    """Certificate of the authority; a client that trusts it accepts the twin's certificate."""

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which OpenSSL and requests trust the twin."""
        return {"SSL_CERT_FILE": str(self.authority), "REQUESTS_CA_BUNDLE": str(self.authority)}


def make_certificate(folder: Path, host: str = "127.0.0.1") -> Certificate:
    """Create an authority and a certificate for `host` in `folder`.

    Raises:
        ConfigError: trustme is not installed.
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

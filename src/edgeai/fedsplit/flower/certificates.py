"""A certificate of one's own for a SuperLink, where no authority is at hand. Needs Flower's `cryptography`."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgeai.core.files import write_whole
from edgeai.fedsplit.flower.home import Security

_VALID = timedelta(days=365)


def self_signed(folder: Path, host: str) -> Security:
    """Makes a key and a certificate that vouches for itself.

    Args:
        folder: superlink.key and superlink.pem go there; who is to trust the SuperLink needs a copy of the latter.
        host: Address or name by which SuperNodes reach it; this machine may always say 127.0.0.1 and localhost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edgeai SuperLink")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of small devices are seldom right
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names({host, "127.0.0.1", "localhost"})), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "superlink.pem", folder / "superlink.key"
    private.unlink(missing_ok=True)
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_whole(certificate, made.public_bytes(Encoding.PEM).decode())
    return Security(certificate, private, certificate)


def _names(hosts: set[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in sorted(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names

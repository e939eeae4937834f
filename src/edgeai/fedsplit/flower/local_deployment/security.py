"""TLS certificates and the keys that authenticate SuperNodes. Needs `cryptography`, which Flower depends on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edgeai.core.errors import UsageError
from edgeai.core.files import write_whole

_VALID = timedelta(days=365)
_MAKE_KEY = 'create one: ssh-keygen -t ecdsa -b 384 -N "" -f FILE'


@dataclass(frozen=True)
class Security:
    """Options for TLS and node authentication, as Flower's programs take them."""

    certificate: Path | None = None
    """Certificate of the SuperLink, PEM."""
    key: Path | None = None
    root: Path | None = None
    """Certificate of the authority that SuperNodes and `flwr run` trust."""
    node_keys: tuple[Path, ...] = ()
    """Private keys that authenticate the SuperNodes on this machine, one each."""
    trusted: tuple[Path, ...] = ()
    """Public keys of SuperNodes elsewhere."""

    def check(self, num_nodes: int, *, is_local: bool) -> None:
        """Check that the options are complete and consistent.

        Args:
            num_nodes: Number of SuperNodes started on this machine.
            is_local: Whether the SuperLink is started on this machine.

        Raises:
            UsageError: They are not.
        """
        pair = (self.certificate, self.key)
        if is_local and any((*pair, self.root)) and not all((*pair, self.root)):
            raise UsageError("TLS needs all of --ssl-certfile, --ssl-keyfile and --ssl-ca-certfile")
        if not is_local and (any(pair) or self.trusted):
            raise UsageError(
                "--superlink starts SuperNodes only, which take neither a certificate nor --trust",
                hint="use --ssl-ca-certfile and --node-key",
            )
        if self.root is None and (self.node_keys or self.trusted):
            raise UsageError("SuperNode authentication requires TLS", hint="give --self-signed as well")
        if self.node_keys and len(self.node_keys) != num_nodes:
            raise UsageError(f"{len(self.node_keys)} --node-key for {num_nodes} SuperNodes", hint="give one for each")
        if self.trusted and num_nodes and not self.node_keys:
            raise UsageError(
                "with --trust, the SuperNodes on this machine need keys too",
                hint="give one --node-key per SuperNode, or --nodes 0",
            )


def self_signed(folder: Path, host: str) -> Security:
    """Create a private key and a self-signed certificate.

    Args:
        folder: Receives superlink.key and superlink.pem; machines that connect to the SuperLink need the latter.
        host: Address or name at which SuperNodes reach the SuperLink; 127.0.0.1 and localhost are always valid too.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edgeai SuperLink")])
    names: list[x509.GeneralName] = []
    for one in sorted({host, "127.0.0.1", "localhost"}):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(one)))
        except ValueError:
            names.append(x509.DNSName(one))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of small devices are often slow
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "superlink.pem", folder / "superlink.key"
    private.unlink(missing_ok=True)
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_whole(certificate, made.public_bytes(Encoding.PEM).decode())
    return Security(certificate, private, certificate)


def public_half(file: Path) -> str:
    """Return the public key of an OpenSSH private key.

    Raises:
        UsageError: The file is not a private key, or is protected by a passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(_read(file), password=None).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} is not a private key: {error}", hint=_MAKE_KEY) from None
    except TypeError:
        raise UsageError(
            f"the private key {file} has a passphrase; passphrase-protected keys are not supported", hint=_MAKE_KEY
        ) from None
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + "\n"


def read_public(file: Path) -> str:
    """Return an OpenSSH public key, without its comment.

    Raises:
        UsageError: The file is not a public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    try:
        key = load_ssh_public_key(_read(file))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} is not a public key: {error}", hint="use the file that ends in .pub") from None
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + "\n"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the key {file}: {error.strerror}") from None

"""A SuperLink with a certificate of its own, authenticated SuperNodes, and one that is refused."""

from __future__ import annotations

import ssl
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.flower.local_deployment.security import Security, self_signed
from edgeai.fedsplit.flower.local_deployment.start_stop import start, stop
from edgeai.fedsplit.flower.submit import submit
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import train

from .conftest import new_run


def write_key(path: Path) -> Path:
    """Write an OpenSSH private key and its public key."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return path


def test_the_private_key_is_for_its_owner_only(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "192.0.2.7")
    assert made.key is not None
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    context = ssl.create_default_context(cafile=made.root)
    assert [dict(one["subject"][0])["commonName"] for one in context.get_ca_certs()] == ["edgeai SuperLink"]


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    tls = self_signed(tmp_path, "127.0.0.1")
    good, bad = write_key(tmp_path / "good"), tmp_path / "id"
    bad.write_text("nothing\n")
    for keys, text in (
        (replace(tls, node_keys=(bad,)), f"{bad} is not a private key: "),
        (replace(tls, node_keys=(good,), trusted=(good,)), f"{good} is not a public key: "),
        (replace(tls, node_keys=(good,), trusted=(tmp_path / "gone",)), f"cannot read the key {tmp_path / 'gone'}: No"),
    ):
        with pytest.raises(UsageError) as caught:
            start(tmp_path / "home", 1, security=keys)
        assert str(caught.value).startswith(text)
    assert not list((tmp_path / "home").glob("*.pub")), "a private key must not be copied"


@pytest.mark.parametrize(
    ("changes", "options", "text"),
    [
        ({"certificate": "c"}, {}, "TLS needs all of --ssl-certfile, --ssl-keyfile and --ssl-ca-certfile"),
        ({"trusted": ("k",)}, {}, "SuperNode authentication requires TLS"),
        (
            {"root": "r", "certificate": "c", "key": "k", "trusted": ("k",)},
            {},
            "with --trust, the SuperNodes on this machine need keys too",
        ),
        ({"root": "r", "certificate": "c", "key": "k", "node_keys": ("k", "k")}, {}, "2 --node-key for 1 SuperNodes"),
        ({"root": "r", "trusted": ("k",)}, {"superlink": "192.0.2.7:1"}, "--superlink starts SuperNodes only, which"),
        ({}, {"superlink": "192.0.2.7:1"}, "SuperNodes would connect to 192.0.2.7:1 without TLS"),
        ({}, {"host": "0.0.0.0"}, "a SuperLink needs one address"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    changes: dict[str, Any], options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    paths = {
        name: tuple(map(Path, value)) if isinstance(value, tuple) else Path(value) for name, value in changes.items()
    }
    with pytest.raises(UsageError) as caught:
        start(tmp_path / "home", 1, security=Security(**paths), **options)
    assert str(caught.value).startswith(text)


@pytest.mark.slow
@pytest.mark.usefixtures("_true_model")
def test_known_nodes_train_over_tls_and_others_do_not_get_in(tmp_path: Path) -> None:
    """One SuperNode with the SuperLink, one in its own home as on another machine, and one with an unknown key."""
    here, there, stranger = (write_key(tmp_path / name) for name in ("here", "there", "stranger"))
    security = self_signed(tmp_path / "home", "127.0.0.1")
    assert security.root is not None
    paths = [tmp_path / name for name in ("home", "far", "strange")]
    try:
        home = start(paths[0], 1, security=replace(security, node_keys=(here,), trusted=(there.with_suffix(".pub"),)))
        far = Security(root=security.root, node_keys=(there,))
        start(paths[1], 1, superlink=home.address, security=far, first=1)
        with pytest.raises(EdgeAIError) as caught:
            start(paths[2], 1, superlink=home.address, security=replace(far, node_keys=(stranger,)), first=1)
        assert str(caught.value) == "the node0 does not start"
        host, port = home.address.split(":")
        assert ssl.get_server_certificate((host, int(port))).strip() == security.root.read_text().strip()
        made = [new_run(home, tmp_path / kind, method=kind, rounds=1) for kind in ("fedavg", "splitfed-v2")]
        found = submit(home, [run for _, run in made])
        for (cfg, _), report in zip(made, found, strict=True):
            _, run = new_run(home, tmp_path / f"here-{cfg.method.kind}")
            assert report.to_json() == train(build_sim(cfg), run).to_json()
    finally:
        for path in reversed(paths):
            stop(path)

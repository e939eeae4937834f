"""A SuperLink with a certificate of its own, SuperNodes that prove who they are, and one that cannot."""

from __future__ import annotations

import ssl
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edgeai.core.errors import UsageError
from edgeai.fedsplit.build import build_sim
from edgeai.fedsplit.flower.certificates import self_signed
from edgeai.fedsplit.flower.deployment import submit
from edgeai.fedsplit.flower.home import Security, start, stop
from edgeai.fedsplit.simulate import train

from .conftest import new_run


def write_key(path: Path) -> Path:
    """A private key as ssh-keygen makes it, and its public half beside it."""
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
    (tmp_path / "id").write_text("nothing\n")
    with pytest.raises(UsageError) as caught:
        start(tmp_path / "home", 1, security=Security(node_keys=(tmp_path / "id",)))
    assert str(caught.value).startswith(f"{tmp_path / 'id'} is no private key: ")
    with pytest.raises(UsageError) as caught:
        start(tmp_path / "home", 0, security=Security(trusted=(tmp_path / "gone",)))
    assert str(caught.value) == f"cannot read the key {tmp_path / 'gone'}: No such file or directory"


@pytest.mark.slow
@pytest.mark.usefixtures("_true_model")
def test_known_nodes_train_over_tls_and_others_do_not_get_in(tmp_path: Path) -> None:
    """One SuperNode beside the SuperLink, one in a home of its own as on another machine, one that nobody knows."""
    here, there, stranger = (write_key(tmp_path / name) for name in ("here", "there", "stranger"))
    security = self_signed(tmp_path / "home", "127.0.0.1")
    assert security.root is not None
    paths = [tmp_path / name for name in ("home", "far", "strange")]
    try:
        home = start(paths[0], 1, security=replace(security, node_keys=(here,), trusted=(there.with_suffix(".pub"),)))
        for path, key in zip(paths[1:], (there, stranger), strict=True):
            start(path, 1, superlink=home.address, security=Security(root=security.root, node_keys=(key,)), first=1)
        host, port = home.address.split(":")
        assert ssl.get_server_certificate((host, int(port))).strip() == security.root.read_text().strip()
        made = [new_run(home, tmp_path / kind, method=kind, rounds=1) for kind in ("fedavg", "splitfed-v2")]
        found = submit(home, [run for _, run in made])
        for (cfg, _), report in zip(made, found, strict=True):
            _, run = new_run(home, tmp_path / f"here-{cfg.method.kind}")
            assert report.to_json() == train(build_sim(cfg), run).to_json()
        until_s = time.monotonic() + 60
        while "auth" not in (log := (paths[2] / "node0.log").read_text()).lower():
            assert time.monotonic() < until_s, log
            time.sleep(0.5)
    finally:
        for path in reversed(paths):
            stop(path)

"""`stop` ends every process of a deployment, in whatever session it runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeai.core.errors import UsageError
from edgeai.fedsplit.flower.local_deployment.home import Home
from edgeai.fedsplit.flower.local_deployment.processes import environment, is_gone, marked
from edgeai.fedsplit.flower.local_deployment.start_stop import start, stop, superlink_command

FOREVER = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there', flush=True); time.sleep(99)"
)


def test_down_ends_every_process_of_a_home_and_no_other(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", FOREVER], env=environment(path), start_new_session=True, stdout=subprocess.PIPE
        )
        for path in (home, home, other)
    ]
    try:
        for one in started:
            assert one.stdout is not None
            one.stdout.readline()
        assert set(marked(home)) == {one.pid for one in started[:2]}
        begin_s = time.monotonic()
        assert stop(home) == 2
        assert time.monotonic() - begin_s < 10
        assert marked(home) == []
        assert started[2].poll() is None
    finally:
        for one in started:
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def test_a_process_is_gone_once_it_has_ended(tmp_path: Path) -> None:
    for _ in range(50):  # a process that is starting must not look ended
        with subprocess.Popen(["sleep", "60"], env=environment(tmp_path)) as one:
            assert not is_gone(one.pid)
            one.kill()
            until_s = time.monotonic() + 10
            while not is_gone(one.pid):  # also before it is reaped
                assert time.monotonic() < until_s
    assert is_gone(one.pid)


def test_nothing_is_up(tmp_path: Path) -> None:
    assert stop(tmp_path) == 0
    with pytest.raises(UsageError) as caught:
        Home.open(tmp_path)
    assert str(caught.value) == f"no Flower deployment is up in {tmp_path}"
    assert caught.value.hint == "start one: edgeai fedsplit up"


def test_a_second_deployment_in_a_home_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], env=environment(tmp_path)) as one:
        try:
            with pytest.raises(UsageError) as caught:
                start(tmp_path, 1)
        finally:
            one.kill()
    assert str(caught.value) == f"a Flower deployment is up in {tmp_path}"


def test_a_superlink_open_to_everyone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        start(tmp_path, 1, host="192.0.2.7")
    assert str(caught.value) == "a SuperLink on 192.0.2.7 without TLS is open to anyone on the network"


def test_tls_and_node_keys_are_passed_on(tmp_path: Path) -> None:
    open_home = Home(tmp_path, "127.0.0.1:9")
    assert superlink_command(open_home, 9)[-1] == "--insecure"
    closed = Home(tmp_path, "127.0.0.1:9", certificate="c", key="k", root="r", node_keys=("n",))
    assert superlink_command(closed, 9)[6:] == [
        *("--ssl-certfile", "c", "--ssl-keyfile", "k", "--ssl-ca-certfile", "r"),
        "--enable-supernode-auth",
    ]

"""`edgeai spec serve` and `spec chat` as processes: a real server on the tiny model, ended by signals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from edgeai.cli import main
from edgeai.spec.tiny import write_tiny_model

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "abcabcabc"}], "temperature": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder)
    return folder


@pytest.fixture
def options(model, tmp_path):
    return [
        f"-starget.model={model}",
        "-starget.dtype=float32",
        "-sdraft.kind=ngram",
        "-stree={nodes: 4, depth: 3, top_k: 2}",
        "--device=cpu",
    ]


class Process:
    """A server in a process of its own."""

    def __init__(self, options, out):
        self.popen = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edgeai",
                "spec",
                "serve",
                "--port=0",
                "-sname=tiny",
                "--json",
                *options,
                f"--out={out}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.url = ""
        for line in self.popen.stderr:
            if "listening at http" in line:
                self.url = line.split("listening at ")[1].split(";")[0]
                break
        assert self.url, self.popen.stdout.read()

    def end(self, sig):
        self.popen.send_signal(sig)
        out, _ = self.popen.communicate(timeout=60)
        return self.popen.returncode, out


@pytest.fixture
def start(options, tmp_path):
    running = []

    def run(*more):
        running.append(Process([*options, *more], tmp_path / f"run{len(running)}"))
        return running[-1]

    yield run
    for process in running:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


@pytest.mark.slow  # starts a process
def test_sigterm_under_load_finishes_what_is_running_and_exits_with_0(start, tmp_path):
    server = start("-sslots=2")
    replies, errors = [], []

    def ask():
        try:
            body = {**ASK, "max_tokens": 300, "stream": True, "logit_bias": {"1": -100}}  # token 1 ends the text
            replies.append(httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).text)
        except httpx.HTTPError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]  # two of them wait in the queue
    for thread in threads:
        thread.start()
    while True:
        values = httpx.get(f"{server.url}/metrics").text.splitlines()
        if "edgeai_spec_active_requests 2.0" in values and "edgeai_spec_waiting_requests 2.0" in values:
            break
        time.sleep(0.01)
    code, out = server.end(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert code == 0
    assert errors == []
    assert [text.count('"finish_reason":"length"') for text in replies] == [1] * 4
    assert all(text.endswith("data: [DONE]\n\n") for text in replies)
    report = json.loads(out)
    assert report["num_requests"] == 4
    assert report["num_tokens"] == 1200
    assert json.loads((tmp_path / "run0" / "run.json").read_text())["status"] == "done"


@pytest.mark.slow  # starts a process
def test_ctrl_c_ends_an_idle_server_and_the_key_is_stored_nowhere(start, tmp_path):
    server = start("--api-key=s3cret")
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer s3cret"}).status_code == 200
    code, out = server.end(signal.SIGINT)
    assert code == 0
    assert json.loads(out)["num_requests"] == 0
    texts = [path.read_text(errors="replace") for path in (tmp_path / "run0").iterdir() if path.is_file()]
    argv = json.loads((tmp_path / "run0" / "run.json").read_text())["argv"]
    assert "--api-key=***" in argv
    assert not any("s3cret" in text for text in texts)


def test_the_key_is_starred_in_both_ways_to_write_it():
    from edgeai.commands.shared.run import without_secrets

    assert without_secrets(["serve", "--api-key", "k", "-q", "--api-key=k"]) == [
        "serve",
        "--api-key",
        "***",
        "-q",
        "--api-key=***",
    ]


def test_an_address_that_is_taken(options, tmp_path, capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["spec", "serve", f"--port={port}", f"--out={tmp_path / 'run'}", *options])
    _, err = capsys.readouterr()
    assert code == 1
    assert f"edgeai: cannot listen at 127.0.0.1:{port}: Address already in use" in err
    assert "0 for any free one" in err


def test_the_plan_tells_the_memory(options, capsys):
    code = main(["spec", "serve", "--dry-run", "--json", "-sslots=8", "-scontext=100", *options])
    out, _ = capsys.readouterr()
    plan = json.loads(out)["plan"]
    # 8 layers, keys and values, 2 heads of 16, float32; 100 tokens and a tree of 4 with its root
    per_slot = (100 + 5) * 8 * 2 * 2 * 16 * 4
    assert code == 0
    assert (plan["slots"], plan["kv_bytes_per_slot"], plan["kv_bytes"]) == (8, per_slot, 8 * per_slot)
    code = main(["spec", "serve", "--dry-run", "--json", "-skv_budget_mib=1", "-scontext=100", *options])
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["slots"] == 2**20 // per_slot < 16
    code = main(["spec", "serve", "--dry-run", "-skv_budget_mib=0.1", *options])
    _, err = capsys.readouterr()
    assert code == 2
    assert "kv_budget_mib 0.1 is too small for one request of 512 tokens, which needs 1.06 MB" in err
    assert "set kv_budget_mib to 2 or more, or lower context" in err


@pytest.mark.slow  # starts a process
def test_chat_in_this_process_and_with_a_server(start, options, tmp_path, capsys, monkeypatch):
    lines = "abcabcabc\n/off\nabcabcabc\n/new\nabcabcabc\n/quit\nnever asked\n"
    sampling = ["-ssampling.temperature=0", "-smax_tokens=20"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert main(["spec", "chat", *options, *sampling, f"--out={tmp_path / 'here'}"]) == 0
    here = capsys.readouterr()
    server = start()
    reply = httpx.post(f"{server.url}/v1/chat/completions", json={**ASK, "max_tokens": 20}, timeout=60).json()
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert main(["spec", "chat", f"--url={server.url}", *sampling, f"--out={tmp_path / 'there'}"]) == 0
    there = capsys.readouterr()
    assert there.out == here.out
    answer = reply["choices"][0]["message"]["content"]
    assert here.out.startswith(answer + "\n")
    assert here.out.endswith(answer + "\n")  # the third turn began anew, without speculation
    assert here.err.count("[20 tokens, ") + here.err.count("[") >= 3
    assert "accept_len 1.00]" in here.err


def test_chat_as_one_json_document(options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("abcabcabc\n\nmore\n"))
    sampling = ["-ssampling.temperature=0", "-smax_tokens=20"]
    assert main(["spec", "chat", "--json", *options, *sampling, f"--out={tmp_path / 'run'}"]) == 0
    turns = json.loads(capsys.readouterr().out)["turns"]
    assert [turn["user"] for turn in turns] == ["abcabcabc", "more"]
    assert [turn["num_tokens"] for turn in turns] == [20, 20]


def test_chat_without_a_server(tmp_path, capsys):
    assert main(["spec", "chat", "--url=http://127.0.0.1:1", f"--out={tmp_path / 'run'}"]) == 1
    _, err = capsys.readouterr()
    assert "edgeai: no server answers at http://127.0.0.1:1: " in err
    assert "hint: start a server with `edgeai spec serve`" in err

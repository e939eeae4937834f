"""One request to a server whose model is on a device."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx

from edgeai import spec


def test_one_request(device, model, tmp_path):
    command = [
        sys.executable,
        "-m",
        "edgeai",
        "spec",
        "serve",
        "--port=0",
        f"--device={device}",
        f"--out={tmp_path / 'r'}",
    ]
    command += [f"-starget.model={model}", "-starget.dtype=float32", "-sdraft.kind=ngram", "-sname=tiny", "-sslots=2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = next((line for line in server.stderr if "listening at http" in line), "")
            assert line, "the server did not start"
            url = line.split("listening at ")[1].split(";")[0].strip()
            body = {"model": "tiny", "messages": [{"role": "user", "content": "abcabcabc"}], "temperature": 0}
            reply = httpx.post(f"{url}/v1/chat/completions", json={**body, "max_tokens": 16}, timeout=120).json()
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
        finally:
            server.kill()
    target = spec.load_target(model, dtype="float32", device=device)
    expected = spec.generate(target, "abcabcabc", draft="none", max_tokens=16).answers[0]
    assert reply["choices"][0]["message"]["content"] == expected.text
    assert reply["usage"]["completion_tokens"] == len(expected.ids)
    assert server.returncode == 0

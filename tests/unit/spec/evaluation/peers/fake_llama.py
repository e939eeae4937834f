"""A program that behaves like llama-server, with known answers and timings, and that can fail in chosen ways.

The file named by FAKE_LLAMA holds its orders: "answers" (tokens by prompt), "log" (a file that receives a line per
completion), and "fault".
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROMPT_MS, TOKEN_MS = 2.0, 5.0  # per token


def orders():
    with open(os.environ["FAKE_LLAMA"]) as file:
        return json.load(file)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            loading = orders().get("fault") == "never ready"
            self.reply(503 if loading else 200, {"status": "loading" if loading else "ok"})
        else:
            self.reply(200, {"model_path": self.server.model})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known, mode = orders(), self.server.mode
        done = known.get("dies_after", {}).get(mode)
        with open(known["log"], "a+") as log:
            log.seek(0)
            count = sum(line.startswith(f"{mode}:") for line in log)
            log.write(f"{mode}: {json.dumps(request)}\n")
        if known.get("fault") == "illegal instruction":
            signal.raise_signal(signal.SIGILL)  # to this thread: it must not reply before the process ends
        if done is not None and count >= done:
            print("ggml: error: out of paper", flush=True)
            os._exit(7)
        if known.get("fault") == "refuses":
            self.reply(400, {"error": {"message": "the request exceeds the context"}})
        elif known.get("fault") == "no timings":
            self.reply(200, {"content": "text"})
        elif known.get("fault") == "no json":
            self.reply(200, None)
        else:
            self.complete(request, known)

    def complete(self, request, known):
        prompt = request["prompt"]
        tokens = known["answers"].get(" ".join(map(str, prompt)), list(range(40)))[: request["n_predict"]]
        slow = known.get("slow_flash_attention") and self.server.flash_attention
        timings = {
            "prompt_n": len(prompt) - (known.get("fault") == "cached"),
            "prompt_ms": PROMPT_MS * len(prompt),
            "predicted_n": len(tokens),
            "predicted_ms": TOKEN_MS * (len(tokens) - 1) * (3 if slow else 1),
        }
        self.reply(200, {"tokens": tokens, "timings": timings})

    def reply(self, status, body):
        data = b"<html>" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def serve(model, port, *, mode, flash_attention):
    """Return a server that listens."""
    if orders().get("fault") == "cannot load":
        print("llama_model_load: error loading model: unknown tensor type\nexiting", flush=True)
        sys.exit(1)
    if orders().get("fault") == "hangs":
        time.sleep(60)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.model, server.mode, server.flash_attention = model, mode, flash_attention
    return server


def main(arguments):
    if "--version" in arguments:
        print("version: 11434 (abc)\nbuilt with GNU 12.2.0 for Linux x86_64", file=sys.stderr)
        return
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    if given.get("--verbosity") == "4":
        print("system_info: n_threads = 2 | CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | ", flush=True)
    if given["-m"] == os.devnull:
        sys.exit("failed to load model")
    with open(orders()["log"], "a") as log:
        log.write(f"start {json.dumps(given)}\n")
    mode = given.get("--spec-type", "plain")
    serve(given["-m"], int(given["--port"]), mode=mode, flash_attention=given["-fa"] == "on").serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])

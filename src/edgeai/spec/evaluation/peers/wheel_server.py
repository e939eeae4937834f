"""Program that serves a GGUF file with the xllamacpp package until its standard input closes.

It runs as a process of its own, so that a crash of the package does not end the benchmark, and imports nothing of
edgeai, so that it starts fast. Its one argument is a JSON object with the fields of `llama_builds.Options` and a port.
"""

import json
import sys
from typing import Any


def main(options: dict[str, Any]) -> None:
    """Load the model, listen on the port, and return when standard input closes."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.port = options["port"]
    params.n_ctx = options["context"]
    params.n_parallel = 1
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = options["threads"]
    params.cpuparams_batch.n_threads = options["threads"]
    state = "ENABLED" if options["flash_attention"] else "DISABLED"
    params.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{state}")
    if options["speculation"]:
        name = options["speculation"].replace("-", "_").upper()
        params.speculative.types = [getattr(xllamacpp.common_speculative_type, f"COMMON_SPECULATIVE_TYPE_{name}")]
    for group, values in options["speculation_options"].items():
        for key, value in values.items():
            setattr(getattr(params.speculative, group), key, value)
    if options["head"]:
        params.speculative.draft.mparams.path = options["head"]
        params.speculative.draft.cpuparams.n_threads = options["threads"]
        params.speculative.draft.cpuparams_batch.n_threads = options["threads"]
    server = xllamacpp.Server(params)  # listens until it is released
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

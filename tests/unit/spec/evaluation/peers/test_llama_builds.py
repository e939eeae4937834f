"""The commands and packages that run llama.cpp."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.evaluation.peers.llama_builds import BinaryBuild, Options, WheelBuild

NGRAM = {"ngram_simple": {"size_n": 3}}


def program(folder: Path, text: str) -> str:
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def test_binary_gets_the_options(fake: Any) -> None:
    build = BinaryBuild(str(fake.program))
    assert build.version == "version 11434 (abc), built with GNU 12.2.0 for Linux x86_64"
    assert build.cpu_features() == "SSE3 AVX2"
    options = Options(fake.model, threads=3, context=256, flash_attention=False)
    build.start("a", options).close()
    plain, *_ = fake.received("start")
    assert {key: plain[key] for key in ("-m", "-c", "-np", "-t", "-tb", "-fa", "--host")} == {
        "-m": str(fake.model),
        "-c": "256",
        "-np": "1",
        "-t": "3",
        "-tb": "3",
        "-fa": "off",
        "--host": "127.0.0.1",
    }
    assert "--spec-type" not in plain
    build.start("b", Options(fake.model, 3, 256, True, "ngram-simple", NGRAM)).close()
    speculative = fake.received("start")[-1]
    assert speculative["-fa"] == "on"
    assert speculative["--spec-type"] == "ngram-simple"
    assert speculative["--spec-ngram-simple-size-n"] == "3"


def test_wheel_gets_the_same_options(fake: Any, fake_wheel: None) -> None:
    head = Options(fake.model, 3, 256, True, "draft-eagle3", {"draft": {"n_max": 3}}, head="head.gguf")
    WheelBuild().start("a", head).close()
    WheelBuild().start("b", Options(fake.model, 3, 256, False, "ngram-simple", NGRAM)).close()
    eagle3, ngram = fake.received("start")
    assert eagle3["model"] == {"path": str(fake.model)}
    assert (eagle3["n_ctx"], eagle3["n_parallel"], eagle3["cache_ram_mib"]) == (256, 1, 0)
    assert (eagle3["cpuparams"], eagle3["cpuparams_batch"]) == ({"n_threads": 3}, {"n_threads": 3})
    assert (eagle3["flash_attn_type"], ngram["flash_attn_type"]) == (1, 0)
    assert eagle3["speculative"]["types"] == ["draft-eagle3"]
    assert eagle3["speculative"]["draft"]["n_max"] == 3
    assert eagle3["speculative"]["draft"]["mparams"] == {"path": "head.gguf"}
    assert ngram["speculative"]["types"] == ["ngram-simple"]
    assert ngram["speculative"]["ngram_simple"] == {"size_n": 3}


def test_wheel_answers_and_ends(fake: Any, fake_wheel: None) -> None:
    fake.order(answers={"1 2": [3, 4]})
    server = WheelBuild().start("wheel", Options(fake.model, 1, 64, True))
    assert server.answer([1, 2], 8).ids == (3, 4)
    assert WheelBuild().cpu_features() == "SSE3 FMA"
    server.close()
    assert server._process.returncode is not None


def test_wheel_of_another_version(fake: Any, fake_wheel: None) -> None:
    """An option that the package lacks is named, without a traceback of this process."""
    with pytest.raises(EdgeAIError) as caught:
        WheelBuild().start("wheel", Options(fake.model, 1, 64, True, "ngram-map-k"))
    assert caught.value.message.startswith("wheel ended with exit code 1: AttributeError:")
    assert "COMMON_SPECULATIVE_TYPE_NGRAM_MAP_K" in caught.value.message


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is not None, reason="the package is installed here")
def test_missing_wheel() -> None:
    with pytest.raises(UsageError) as caught:
        WheelBuild()
    assert caught.value.message == "the llama.cpp peer needs the package xllamacpp, which is not installed"
    assert "pip install 'edgeai[llamacpp]'" in caught.value.hint


def test_missing_program() -> None:
    with pytest.raises(UsageError) as caught:
        BinaryBuild("no/llama-server")
    assert caught.value.message == "no/llama-server is not a program"


@pytest.mark.parametrize("text", ["exit 0", "echo 'version 3'", "echo 'version: 3'; exit 1"])
def test_program_that_is_not_llama_server(tmp_path: Path, text: str) -> None:
    path = program(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        BinaryBuild(path)
    assert caught.value.message == f"{path} is not a llama-server: --version does not name a version and a compiler"


@pytest.mark.network
@pytest.mark.slow
def test_real_wheel() -> None:
    """The package loads the smallest target and answers like a server, with the interface that this version has."""
    pytest.importorskip("xllamacpp")
    from edgeai.core import assets
    from edgeai.core.metrics import Metrics

    model = assets.fetch("smollm2-135m-instruct", Metrics(None)).resolve()
    build = WheelBuild()
    assert build.version.startswith("xllamacpp 2")
    assert "unknown" not in build.cpu_features()
    for speculation in ("", "ngram-simple"):
        server = build.start("wheel", Options(model, 2, 256, True, speculation))
        try:
            answer = server.answer([1, 4093, 198, 19556, 2, 198, 1, 520, 9531, 198], 16)
        finally:
            server.close()
        assert 1 <= len(answer.ids) <= 16
        assert answer.num_prompt_tokens == 10
        assert answer.decode_s > 0

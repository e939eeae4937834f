"""What the schema of the codecs refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from edgeai.core.config import with_changes
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.codec import CodecConfig


def _refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        with_changes(CodecConfig(), changes)
    return caught.value.message


def test_default_is_no_codec() -> None:
    assert (CodecConfig().up.kind, CodecConfig().down.kind) == ("none", "none")


def test_bits_out_of_range() -> None:
    assert _refusal({"up.kind": "uniform", "up.bits": 17}) == "up.bits: should be less than or equal to 16 (got 17)"


def test_unknown_codec() -> None:
    assert _refusal({"down.kind": "top_k"}) == ("down: 'kind' cannot be 'top_k'; did you mean \"topk\"?")


def test_codecs_that_do_not_fit_each_other() -> None:
    assert _refusal({"up": {"kind": "topk"}, "down": {"kind": "fedlite", "num_subvectors": 2}}) == (
        "down: fedlite cannot encode the gradient of values kept by topk; use none, fp16 or uniform"
    )
    assert _refusal({"up": {"kind": "randtopk"}, "down": {"kind": "uniform", "per": "channel"}}) == (
        "down.per: the gradient of values kept by randtopk has no channels; use per: tensor"
    )
    assert _refusal({"error_feedback": True}) == (
        "error_feedback: both codecs are none, so there is no error; choose a codec for down"
    )


def test_loads_no_torch() -> None:
    code = (
        "import sys, edgeai.fedsplit.config.codec, edgeai.fedsplit.protocol.codec.sizes; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

"""Shapes of language models against published sizes and hand counts."""

import pytest
import torch
from pydantic import ValidationError

from edgeai.fedsplit.advise.llm_shapes import build_shape
from edgeai.fedsplit.config.advise import TransformerShapeConfig
from edgeai.fedsplit.cuts.meter import measure_stretches

LLAMA3_8B = {"width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "ffn": 14336, "vocab": 128256, "seq": 8}


def test_a_7b_model_has_its_published_size_and_no_memory() -> None:
    model = build_shape(TransformerShapeConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_738_415_616  # Llama 2 7B
    assert all(parameter.is_meta for parameter in model.parameters())


def test_grouped_queries_have_their_published_size() -> None:
    model = build_shape(TransformerShapeConfig(**LLAMA3_8B))
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_030_261_248  # Llama 3 8B


def test_flops_of_a_block_by_hand() -> None:
    cfg = TransformerShapeConfig(layers=1, width=16, heads=4, kv_heads=2, ffn=24, vocab=10, seq=5)
    cost = measure_stretches(list(build_shape(cfg)), (5,), torch.int64)
    projections = 5 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24)
    assert cost(1, 2).forward_flops == 2 * (projections + 2 * 4 * 5 * 5 * 4)
    assert cost(3, 4).forward_flops == 2 * 5 * 16 * 10
    assert cost(0, 1).output_bytes == 5 * 16 * 4
    assert cost(0, 4).output_shape == (5, 10)


def test_memory_grows_with_the_tokens_and_not_with_their_square() -> None:
    def saved(seq: int) -> float:
        cfg = TransformerShapeConfig(layers=1, width=16, heads=4, kv_heads=4, ffn=24, vocab=10, seq=seq)
        return measure_stretches(list(build_shape(cfg)), (seq,), torch.int64)(1, 2).saved_bytes

    assert saved(400) == pytest.approx(4 * saved(100))


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="width 10 is not a multiple of twice the 4 heads"):
        TransformerShapeConfig(width=10, heads=4, kv_heads=4)
    with pytest.raises(ValidationError, match="heads 4 is not a multiple of kv_heads 3"):
        TransformerShapeConfig(width=16, heads=4, kv_heads=3)

"""The head's parts against their formulas written out."""

import pytest
import torch

from edgeai.spec.draft.head import RMSNorm, initialize


def _norm(x, weight, eps):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


@pytest.mark.parametrize("fc_norm", [True, False])
def test_project(target, make_head, fc_norm):
    """g = fc(concat(a_low, a_mid, a_high)), each normalised with weights of its own under fc_norm."""
    head = make_head(target, fc_norm=fc_norm)
    parts = torch.randn(3, 5, 64)
    if fc_norm:
        norms = [norm.weight for norm in head.fc_norm]
        expected = torch.cat([_norm(a, w, head.shape.rms_norm_eps) for a, w in zip(parts, norms, strict=True)], -1)
    else:
        expected = torch.cat(list(parts), -1)
    found = head.project(torch.cat(list(parts), -1))
    torch.testing.assert_close(found, expected @ head.fc.weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm_before_residual", [True, False])
def test_attention_input(target, make_head, norm_before_residual):
    head = make_head(target, norm_before_residual=norm_before_residual)
    embedded, hidden = torch.randn(2, 7, 64)
    layer, eps = head.midlayer, head.shape.rms_norm_eps
    normed = _norm(hidden, layer.hidden_norm.weight, eps)
    joined, residual = head.attention_input(embedded, hidden)
    expected = torch.cat([_norm(embedded, layer.input_layernorm.weight, eps), normed], -1)
    torch.testing.assert_close(joined, expected)
    torch.testing.assert_close(residual, normed if norm_before_residual else hidden)


@pytest.mark.parametrize("norm_output", [True, False])
def test_finish(target, make_head, norm_output):
    """Two residual sums; lm_head always sees the normed state, the next step only under norm_output."""
    head = make_head(target, norm_output=norm_output)
    attended, residual = torch.randn(2, 7, 64)
    layer, eps = head.midlayer, head.shape.rms_norm_eps
    x = residual + attended @ layer.self_attn.o_proj.weight.T
    y = _norm(x, layer.post_attention_layernorm.weight, eps)
    gate = y @ layer.mlp.gate_proj.weight.T
    x = x + (gate * gate.sigmoid() * (y @ layer.mlp.up_proj.weight.T)) @ layer.mlp.down_proj.weight.T
    following, for_logits = head.finish(attended, residual)
    torch.testing.assert_close(for_logits, _norm(x, head.norm.weight, eps), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(following, for_logits if norm_output else x, rtol=1e-4, atol=1e-4)


def test_draft_vocabulary_maps_both_ways(target, make_head):
    head = make_head(target, draft_vocab=40)
    kept = head.draft_to_target.tolist()
    assert kept == sorted(set(kept))
    assert len(kept) == 40
    assert [token for token in range(128) if head.t2d[token]] == kept


def test_initialise_starts_from_what_the_target_knows(target, make_head):
    """fc passes the deepest feature: with all other weights at zero the head would say what the target's layer says."""
    head = make_head(target, fc_norm=False)
    initialize(head, lm_head=target.lm_head)
    assert torch.equal(head.lm_head.weight, target.lm_head[head.draft_to_target])
    deepest = torch.zeros(1, 192)
    deepest[0, 128:] = torch.randn(64)
    cosine = torch.cosine_similarity(head.project(deepest), deepest[:, 128:])
    assert cosine.item() > 0.95  # noise of size 0.02 * sqrt(64) = 0.16 of its length


def test_norm_keeps_the_format_of_its_input():
    norm = RMSNorm(8, eps=1e-5)
    for dtype in (torch.float32, torch.bfloat16):
        assert norm(torch.ones(2, 8, dtype=dtype)).dtype == dtype


def test_number_of_parameters_by_hand(target, make_head):
    """fc 3 HH, q and o 2 HH + HH, k and v each 2 H x 32, MLP 3 x 96 H, lm_head 40 H, seven norms of H; H = 64."""
    head = make_head(target, draft_vocab=40)
    assert head.num_parameters() == 64 * (3 * 64 + 3 * 64 + 4 * 32 + 3 * 96 + 40 + 7)

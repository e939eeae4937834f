"""Answers of a peer in float32 may part from ours at near-ties only."""

import pytest
import torch

from edgeai.spec.decoding.forced_decoding import ForcedStep, forced_decoding
from edgeai.spec.evaluation.bench import peer_texts
from edgeai.spec.evaluation.bench.peer_texts import is_explained

PROMPT, OURS, THEIRS = tuple(range(40, 52)), (1, 2, 3, 4), (1, 2, 5, 4)


def test_equal_answers(target):
    assert is_explained(target, PROMPT, OURS, OURS)


def test_an_answer_that_ends_early_is_not_rounding(target):
    assert not is_explained(target, PROMPT, OURS, OURS[:2])
    assert not is_explained(target, PROMPT, OURS[:2], OURS)


@pytest.mark.parametrize(
    ("gap", "noise", "explained"),
    [
        (0.0, 0.0, True),
        (3e-5, 1e-5, True),
        (3e-4, 1e-5, False),
        (3e-4, 1e-4, True),
        (5e-5, 0.0, True),  # at a logit of 10, float32 rounds by more than was seen
        (0.1, 0.0, False),
        (float("nan"), 1e-5, False),
    ],
)
def test_only_a_near_tie_is_rounding(target, monkeypatch, gap, noise, explained):
    logits = torch.zeros(256)
    logits[OURS[2]], logits[THEIRS[2]] = 10.0 + gap, 10.0
    monkeypatch.setattr(peer_texts, "forced_decoding", lambda *_: [ForcedStep(logits, noise)])
    assert is_explained(target, PROMPT, OURS, THEIRS) is explained


def test_another_token_of_the_real_model_is_not(target):
    *_, last = forced_decoding(target, PROMPT, OURS)
    best, worst = int(last.logits.argmax()), int(last.logits.argmin())
    assert is_explained(target, PROMPT, (*OURS[:3], worst), (*OURS[:3], best))  # ours was not even the best
    assert not is_explained(target, PROMPT, (*OURS[:3], best), (*OURS[:3], worst))

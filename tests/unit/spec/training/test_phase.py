"""The number of unrolled draft steps, by hand."""

from edgeai.spec.config.train import LossConfig, TrainConfig
from edgeai.spec.training.phase import num_draft_steps


def test_draft_steps_by_hand():
    """Four steps over the first half of training, each for an eighth; then all four. No ramp: all at once."""
    cfg = TrainConfig(loss=LossConfig(ttt_steps=4, ttt_ramp_frac=0.5))
    assert [num_draft_steps(cfg.loss, n / 16) for n in range(16)] == [1, 1, 2, 2, 3, 3, 4, 4] + [4] * 8
    assert num_draft_steps(LossConfig(ttt_steps=4, ttt_ramp_frac=0.0), 0.0) == 4
    assert num_draft_steps(LossConfig(ttt_steps=1), 0.2) == 1

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import DecoderConfig
from edgeai.fedsplit.privacy.attacks.decoder import fit_decoder, fit_ridge


def samples(num, *shape, seed=0):
    return torch.randn(num, *shape, generator=torch.Generator().manual_seed(seed))


def test_ridge_inverts_an_invertible_linear_part():
    public, private = samples(60, 2, 3), samples(20, 2, 3, seed=1)
    mix, shift = samples(6, 8, seed=2), samples(8, seed=3)

    def client(x):
        return x.flatten(1) @ mix + shift

    found = fit_ridge(client(public), public)(client(private))
    assert found.shape == private.shape
    torch.testing.assert_close(found, private, rtol=0, atol=1e-3)


def test_ridge_answers_the_mean_when_nothing_crosses():
    public = 3.0 + samples(50, 4)
    found = fit_ridge(torch.full((50, 7), 2.0), public)(torch.full((9, 7), 2.0))
    torch.testing.assert_close(found, public.mean(0).expand(9, 4), rtol=0, atol=1e-5)


def test_ridge_equals_least_squares_where_there_is_no_noise_to_fear():
    z, small = samples(400, 3), 0.05 * samples(400, 5, seed=1)
    x = z @ samples(3, 5, seed=2) + small
    found = fit_ridge(z, x)(z)
    with_one = torch.cat([z, torch.ones(400, 1)], 1)
    expected = with_one @ torch.linalg.lstsq(with_one, x).solution
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)  # a ridge of 1e-3 may have won


def test_ridge_does_not_take_noise_for_signal():
    x = samples(100, 4)
    noise = samples(100, 300, seed=1)  # more values than samples: least squares would fit them perfectly
    found = fit_ridge(noise[:80], x[:80])(noise[80:])
    guess_error = float((found - x[80:]).square().mean())
    mean_error = float((x[:80].mean(0) - x[80:]).square().mean())
    assert guess_error < 1.2 * mean_error


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_a_trained_mlp_beats_the_mean_by_far(shape):
    public, private = samples(300, *shape), samples(50, *shape, seed=1)
    mix = torch.linalg.qr(samples(6, 6, seed=2))[0]
    cfg = DecoderConfig(kind="mlp", width=64, num_steps=300, lr=3e-3)
    decode = fit_decoder(public.flatten(1) @ mix, public, cfg, seed=0)
    found = decode(private.flatten(1) @ mix)
    assert found.shape == private.shape
    assert float((found - private).square().mean()) < 0.15 * float(private.var())


def test_a_trained_mlp_answers_the_mean_when_nothing_crosses():
    public = 3.0 + samples(200, 4)
    cfg = DecoderConfig(kind="mlp", width=16, num_steps=300)
    found = fit_decoder(torch.ones(200, 5), public, cfg, seed=0)(torch.ones(3, 5))
    torch.testing.assert_close(found, public.mean(0).expand(3, 4), rtol=0, atol=0.3)  # batches are a sample


def test_conv_makes_pictures_of_any_size():
    x = samples(20, 2, 7, 10)
    decode = fit_decoder(samples(20, 3, 4, 4), x, DecoderConfig(kind="conv", width=64, num_steps=1), seed=0)
    assert decode(samples(5, 3, 4, 4)).shape == (5, 2, 7, 10)


def test_conv_refuses_what_is_no_picture():
    with pytest.raises(UsageError) as caught:
        fit_decoder(samples(4, 3), samples(4, 6), DecoderConfig(kind="conv"), seed=0)
    assert caught.value.message == "a conv decoder returns images [c, h, w], but the inputs are [6]"
    assert caught.value.hint == "set leakage.decoder.kind: mlp"


def test_global_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit_decoder(samples(20, 3), samples(20, 3), DecoderConfig(kind="mlp", num_steps=2), seed=0)
    assert torch.equal(before, torch.get_rng_state())

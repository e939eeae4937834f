import math

from edgeai.fedsplit.config.privacy import DpSgdConfig, LabelConfig, NoiseConfig, NopeekConfig, PrivacyConfig
from edgeai.fedsplit.privacy.guarantee import guarantee


def say(**parts):
    return guarantee(PrivacyConfig(**parts), num_values=500, num_samples=1000, batch=50, num_epochs=4, num_classes=10)


def test_nothing_on():
    assert say() == ("No protection: smashed data, labels and weights are sent as they are. No guarantee.",)


def test_laplace_on_bounded_values():
    said = say(noise=NoiseConfig(scale=0.5))
    assert said[0] == (
        "Laplace noise (scale 0.5) on the smashed data, values within -1..1: pure epsilon = 2 q B / scale = "
        "2 * 500 * 1 / 0.5 = 2000 for one record sent once, 8000 when it is sent 4 times. It holds for a record's own "
        "smashed data, whatever the receiver knows about the weights."
    )
    assert said[1].startswith("An epsilon of 2000 guarantees almost nothing")
    assert said[-2] == "Labels: no guarantee, unless they stay on the client (U-shape)."


def test_noise_enough_to_mean_something_is_not_called_meaningless():
    assert not any("next to nothing" in line for line in say(noise=NoiseConfig(scale=500.0)))


def test_unbounded_values():
    said = say(noise=NoiseConfig(bound="none"))
    assert said[0].startswith("Laplace noise (scale 0.1) on the smashed data: no guarantee. The values are unbounded")
    assert not any("epsilon" in line for line in said[:1])


def test_noise_in_one_phase_says_what_the_other_lacks():
    assert "At inference no noise is added: no guarantee for records sent then." in say(
        noise=NoiseConfig(when="training")
    )
    assert say(noise=NoiseConfig(when="inference"))[0].endswith(
        "at inference only: no guarantee for training records, which are sent without noise."
    )


def test_gaussian_names_delta_and_exceeds_the_leading_term():
    said = say(noise=NoiseConfig(kind="gaussian", scale=20.0))[0]
    m = 2 * math.sqrt(500) / 20.0
    epsilon = float(said.split("(epsilon, delta) = (")[1].split(",")[0])
    assert epsilon > m * m / 2  # the mean privacy loss
    assert epsilon < m * m / 2 + m * math.sqrt(2 * math.log(1e5))  # a tail bound on it
    assert "1e-05" in said


def test_nopeek_promises_nothing():
    assert say(nopeek=NopeekConfig(lam=0.5))[0].startswith("NoPeek (lam 0.5): no guarantee.")


def test_dp_sgd_says_what_it_leaves_out():
    said = say(dp_sgd=DpSgdConfig(noise_multiplier=2.0))
    assert "of the client part's weights only" in said[0]
    assert "shuffled instead" in said[0]
    assert "smashed data and labels are not covered, and there is no end-to-end guarantee" in said[1]
    assert say(dp_sgd=DpSgdConfig(noise_multiplier=0.0))[0].endswith("Clipping without noise hides nothing.")


def test_labels():
    assert say(labels=LabelConfig(epsilon=math.log(9.0)))[0] == (
        "Labels: pure label epsilon 2.19722 per sample for the whole run, by randomized response over 10 classes "
        "(kept with probability 0.500). Inputs are not covered."
    )

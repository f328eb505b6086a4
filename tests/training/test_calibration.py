import numpy as np
import pytest
import torch

from runtime import bayes
from tests.gaussian import gaussian_flow
from training import calibration, denoising_bank, scoring, staged_reading


def choose_schedule(labels, *reading):
    return staged_reading.choose_schedule(staged_reading.StagedReading(*reading), labels)


def test_temperature_undoes_a_scale():
    """Scores that are log-posteriors times seven are brought back by a temperature of seven."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(20_000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (generator.uniform(size=(20_000, 1)) > chances.cumsum(1)).sum(1)
    assert calibration.fit_temperature(7 * logits, labels, np.full(4, 0.25)) == pytest.approx(7, rel=0.1)


def test_calibration_is_what_a_manifest_holds():
    flow = gaussian_flow()
    found = calibration.calibrate(flow, torch.randn(12, *flow.latent_shape), torch.arange(12) % 10, [0.1] * 10)
    assert found.keys() == calibration.UNCALIBRATED.keys() | {"least_log_density", "stages"}
    assert found["rule"] in found["validation"]["accuracy"]
    assert len(found["bank"]["weights"]) == len(found["bank"]["times"]) == calibration.PAIRS


def test_rules_are_compared_by_the_posteriors_that_a_bundle_gives():
    flow, prior = gaussian_flow(), np.array([0.91, *[0.01] * 9])
    for parameter in flow.parameters():  # so that classes differ
        torch.nn.init.normal_(parameter)
    labels = np.random.default_rng(0).choice(10, 200, p=prior)
    latents = torch.randn(200, *flow.latent_shape, generator=torch.Generator().manual_seed(0))
    found = calibration.calibrate(flow, latents, torch.from_numpy(labels), prior.tolist(), pairs=2)
    scorer = scoring.scorer_of(flow, 10, denoising_bank.plain_bank(2))
    for rule in ("ode", "likelihood"):
        scores, temperature = (
            scorer(latents[: found["validation"]["images"]].numpy(), rule),
            found["temperatures"][rule],
        )
        right = bayes.posterior(scores, prior, temperature).argmax(1) == labels[: len(scores)]
        assert found["validation"]["accuracy"][rule] == right.mean()
        assert right.mean() != (bayes.posterior(scores, prior).argmax(1) == labels[: len(scores)]).mean()


def test_the_cheapest_rule_that_is_not_clearly_worse_is_chosen():
    truth = np.arange(200) < 180
    assert calibration.choose_rule({"denoising": truth, "ode": truth, "likelihood": truth}) == "denoising"
    a_little_better, much_better = np.arange(200) < 182, np.arange(200) < 195
    correct = {"denoising": truth, "ode": ~truth, "likelihood": a_little_better}
    assert calibration.choose_rule(correct) == "denoising"
    assert calibration.choose_rule(correct | {"likelihood": much_better}) == "likelihood"


def test_stages_ask_the_pair_that_knows_most_first_and_few_classes_after_it():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 4000)
    wrong = np.arange(6)[None] != labels[:, None]
    # The second pair tells 0, 1, 2 from 3, 4, 5 and, but for a little noise, within them; the first one nothing.
    noise = rng.random((4000, 2, 6))
    errors = np.stack([0.001 * noise[:, 0], wrong + (np.arange(6) // 3 != labels[:, None] // 3) + noise[:, 1]], axis=1)
    told = np.where(np.arange(4000) % 10, labels, 5)  # a twelfth is read wrongly
    found = choose_schedule(told, errors, np.array([1.0, 1.0]), np.full(6, 1 / 6))
    assert [pair for pair, _ in found] == [1, 0]
    assert found[0][1] == 6
    assert 2 <= found[1][1] <= 3


def test_the_first_classes_are_those_that_a_sieve_finds_likely():
    labels = np.arange(4000) % 6
    errors = (np.arange(6)[None] != labels[:, None]).astype(float)[:, None]
    told = np.where(np.arange(4000) % 10, labels, (labels + 1) % 6)  # a tenth is read wrongly
    sieved = -np.abs(np.arange(6)[None] - labels[:, None] - 1.6)  # three classes seem likelier than the true one
    assert choose_schedule(told, errors, np.ones(1), np.full(6, 1 / 6), sieved) == [(0, 4)]
    assert choose_schedule(told, errors, np.ones(1), np.full(6, 1 / 6)) == [(0, 6)]


def test_images_that_the_first_pair_settles_get_the_odds_of_all_pairs():
    first = np.array([[0.98, 0.01, 0.01], [0.9, 0.05, 0.05]])
    whole = first**2 / (first**2).sum(1, keepdims=True)
    assert staged_reading.settling(first, whole, 0.95) == {"unsettled": 0.5, "emphasis": pytest.approx(2)}
    assert staged_reading.settling(first, whole, 0.99) == {"unsettled": 1, "emphasis": 1}


def test_images_are_in_doubt_where_no_class_is_certain():
    posterior = np.array([[0.71, 0.19, 0.1], [0.69, 0.21, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    assert staged_reading.doubtful(posterior, certain=0.7, most=1.0) == (0.7, 0.5)
    certain, share = staged_reading.doubtful(posterior, certain=0.7, most=0.25)
    assert 0.4 < certain < 0.69
    assert share == 0.25

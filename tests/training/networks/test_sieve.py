import torch

from training.networks.sieve import Sieve


def test_a_sieve_learns_classes_and_is_frozen_then():
    torch.manual_seed(0)
    labels = torch.arange(400) % 4
    latents = torch.randn(4, 1, 7, 7)[labels] + 0.3 * torch.randn(400, 1, 7, 7)
    sieve = Sieve(49, 8, 4)
    sieve.learn(latents, labels)
    assert (sieve(latents).argmax(1) == labels).float().mean() > 0.95
    assert not any(parameter.requires_grad for parameter in sieve.parameters())

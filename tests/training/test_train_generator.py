"""Tests of training.train_generator."""

import pytest
import torch

from training.checkpoints import Checkpoint
from training.networks.generators import Generator
from training.train_generator import with_waves


@torch.no_grad()
def test_a_generator_that_is_given_waves_is_the_same_without_them():
    arguments = {"numbers": 10, "frequencies": 5}
    before = Checkpoint(Generator(**arguments).eval(), arguments, {"total_epochs": 3})
    torch.nn.init.normal_(before.network.backbone.last.weight)
    found = with_waves(before, 7)
    assert (found.arguments, found.description) == ({**arguments, "wave_numbers": 7}, before.description)
    network, given = found.network.eval(), (torch.arange(4), torch.ones(4))
    noise = torch.randn(4, 1, 7, 7)
    torch.testing.assert_close(network(network.without_waves(noise), *given), before.network(noise, *given))
    assert not torch.allclose(network(noise, *given), before.network(noise, *given))
    assert with_waves(found, 7) is found
    for other in (0, 8):
        with pytest.raises(ValueError, match="has 7 wave_numbers already"):
            with_waves(found, other)

import copy

import numpy as np
import torch

from runtime import bayes, noise
from training import denoising_bank
from training.networks.flows import Flow
from training.objectives.probe import LatentProbe
from training.objectives.tuning import PosteriorLoss, denoising_errors
from training.scoring import NumpyFlow

CLASSES = 3


def flow_of(seed=0):
    torch.manual_seed(seed)
    flow = Flow(CLASSES, latent_size=3, dim1=16, n_layers=1)
    torch.nn.init.normal_(flow.backbone.last.weight)
    for block in flow.backbone.blocks:
        torch.nn.init.normal_(block.modulation.weight)
    return flow


def posterior_loss(flow, prior, rivals):
    bank = denoising_bank.plain_bank(4)
    found = PosteriorLoss(bank, prior, flow.latent_shape, torch.device("cpu"))
    found.start(bank.weights, rivals)
    return found


def test_errors_are_those_of_the_runtime():
    flow = flow_of()
    z, times = torch.randn(5, *flow.latent_shape), torch.tensor([0.2, 0.7])
    drawn = noise.normal(0, 0, 2, flow.latent_shape)
    every = torch.arange(CLASSES).expand(5, -1)
    found = denoising_errors(flow, z, times, torch.from_numpy(drawn), every)
    wanted = bayes.denoising_errors(NumpyFlow(flow).velocity, z.numpy(), times.numpy(), drawn, CLASSES)
    np.testing.assert_allclose(found.detach(), wanted, rtol=1e-4)


def test_tuning_teaches_a_flow_to_read_classes():
    flow = flow_of()
    labels = torch.arange(90) % CLASSES
    latents = 0.3 * torch.randn(90, *flow.latent_shape) + labels.view(-1, 1, 1, 1)
    prior = [1 / CLASSES] * CLASSES
    rivals = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
    posterior = posterior_loss(flow, prior, rivals)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = posterior(flow, latents, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < losses[0]


def test_tuning_may_learn_what_a_classifier_reads_rather_than_labels():
    flow = flow_of()
    latents, labels = torch.randn(6, *flow.latent_shape), torch.arange(6) % CLASSES
    prior, rivals = [1 / CLASSES] * CLASSES, torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
    posterior = posterior_loss(flow, prior, rivals)
    sure = 50.0 * torch.nn.functional.one_hot(labels, CLASSES)
    torch.testing.assert_close(posterior(flow, latents, labels, sure), posterior(flow, latents, labels))
    others = [posterior(flow, latents, (labels + more) % CLASSES) for more in range(CLASSES)]
    undecided = posterior(flow, latents, labels, torch.zeros(6, CLASSES))
    torch.testing.assert_close(undecided, torch.stack(others).mean())


def test_a_probe_learns_in_training_only_and_gives_gradients_to_latents_only():
    torch.manual_seed(0)
    probe = LatentProbe(4, CLASSES, torch.device("cpu"), lr=1e-2)
    labels = torch.arange(30) % CLASSES
    latents = (torch.randn(30, 1, 2, 2) + labels.view(-1, 1, 1, 1)).requires_grad_()
    first = probe.loss(latents, labels, training=False).item()
    assert probe.loss(latents, labels, training=False).item() == first
    for _ in range(100):
        loss = probe.loss(latents, labels, training=True)
    loss.backward()
    assert loss.item() < first
    assert latents.grad.abs().sum() > 0


def test_a_probe_goes_on_from_its_state():
    latents, labels = torch.randn(30, 1, 2, 2), torch.arange(30) % CLASSES
    one, other = (LatentProbe(4, CLASSES, torch.device("cpu")) for _ in range(2))
    one.loss(latents, labels, training=True)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert one.loss(latents, labels, True).item() == other.loss(latents, labels, True).item()

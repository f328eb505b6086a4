"""Networks with weights that training might give, and the graphs of a bundle of them."""

from dataclasses import replace

import torch

from export.graphs import bundle_graphs
from export.one_call import PosteriorRule
from runtime.bayes import DenoisingBank
from runtime.sessions import Graph, SessionSettings
from training.networks.flows import Flow
from training.options import SamplerOptions

READING = PosteriorRule(DenoisingBank((0.3, 0.8), (1.0, 2.0), 0), 1.5, (0.1,) * 10, ((1, 10), (0, 3)), doubtful=0.5)
SIEVED = replace(READING, stages=((1, 4), (0, 3)))


def trained_like(model):
    """Random weights and statistics, so that nothing is zero or one by initialisation."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    if isinstance(model, Flow):
        model.element_variance.uniform_(0.3, 2)
    return model.eval()


def graphs(networks):
    return bundle_graphs(
        networks, SamplerOptions(steps=2, guidance_start=0.5), SIEVED if networks.flow.sieve else READING
    )


def session(spec, model):
    """What runs the file of a graph, its content or path."""
    return Graph(model, spec.file, SessionSettings())

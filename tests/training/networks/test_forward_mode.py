import pytest
import torch

from training.networks.flows import Flow

BACKBONES = [
    {"backbone": "mlp", "dim1": 24, "n_layers": 2},
    {"backbone": "conv", "dim1": 6, "n_layers": 2, "n_heads": 0},
    {"backbone": "conv", "dim1": 8, "n_layers": 1, "n_heads": 2, "latent_channels": 2},
]


@pytest.mark.parametrize("arguments", BACKBONES)
def test_divergence_is_the_trace_of_the_jacobian(arguments):
    torch.manual_seed(0)
    flow = Flow(**arguments).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    flow.element_variance.uniform_(0.1, 2)
    flow.element_mean.normal_()
    x = torch.randn(4, *flow.latent_shape, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=torch.float64)
    labels = torch.tensor([0, 3, 9, flow.null_label])
    velocity, divergence = flow.velocity_and_divergence(x, t, labels)
    torch.testing.assert_close(velocity, flow(x, t, labels))
    for row in range(4):
        jacobian = torch.func.jacfwd(lambda z, r=row: flow(z[None], t[r : r + 1], labels[r : r + 1]).flatten())(x[row])
        torch.testing.assert_close(divergence[row], jacobian.reshape(x[row].numel(), -1).trace())

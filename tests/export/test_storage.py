"""Weights stored small, and once."""

import pytest
import torch

from export import onnx_files, verify
from export.graphs import Networks, fold_batch_norms, folded
from export.storage import rounded, rounded_network
from runtime import manifests
from tests.networks import graphs, trained_like
from training.autoencoders import VarAutoEncoder
from training.flows import Flow
from training.rounding import to_levels


@pytest.mark.parametrize(("storage", "most"), [("float32", 4.2), ("float16", 2.2), ("int8", 1.3), ("int4", 1.3)])
def test_weights_are_stored_small_and_once_beside_the_graphs_of_one_call(tmp_path, storage, most):
    networks = Networks(trained_like(VarAutoEncoder()), trained_like(Flow()))
    constants = stored = 0
    for spec in graphs(rounded(folded(networks), storage)):
        path = tmp_path / spec.file
        alone = onnx_files.write(spec, tmp_path)
        size = path.stat().st_size
        constants, stored = constants + alone["parameters"], stored + size
        assert "weights_in" not in alone
        assert verify.check_graph(spec, path.read_bytes()) <= 1e-3
        if spec.file in manifests.ONE_CALL:
            continue
        facts = onnx_files.write(spec, tmp_path, manifests.ONE_CALL)
        assert facts == {**alone, "weights_in": facts["weights_in"]}
        assert path.stat().st_size < 0.5 * size
        assert verify.check_graph(spec, path) <= 1e-3
    assert stored < most * constants


def test_rounded_weights_are_few_multiples_but_an_encoder_s():
    network = rounded_network(fold_batch_norms(VarAutoEncoder()), "int4")
    for name, weights in network.named_parameters():
        most = 15 if name.startswith("encoder.") else 7
        if weights.ndim > 1:
            scale = weights.flatten(1).abs().amax(1, keepdim=True) / most
            multiples = weights.flatten(1) / scale
            torch.testing.assert_close(multiples, multiples.round(), atol=1e-3, rtol=0)
            again = to_levels(weights, most).flatten(1)
            torch.testing.assert_close((again / scale).round(), multiples.round())

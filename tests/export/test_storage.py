"""Weights stored small, and once."""

import functools
from dataclasses import replace

import pytest
import torch

from export import onnx_files, verify
from export.folding import fold_batch_norms, folded
from export.graphs import Networks, generator_graph
from export.storage import rounded, rounded_network
from runtime import manifests
from tests.networks import graphs, session, trained_like
from training.engine.rounding import to_levels
from training.networks.autoencoders import VarAutoEncoder
from training.networks.flows import Flow
from training.networks.generators import Generator

pytestmark = pytest.mark.usefixtures("conversions")  # most graphs are written several times, stored otherwise


@functools.cache
def stored_graphs(storage):
    """The graphs of networks whose weights are stored so, and that of a generator."""
    networks = Networks(trained_like(VarAutoEncoder()), trained_like(Flow()), trained_like(Generator()))
    small = rounded(folded(networks), storage)
    return graphs(replace(small, generator=None)), generator_graph(small.generator, 1.0)


def size_of_graphs(folder, storage):
    """Bytes of all graphs of networks whose weights are stored so, once each has matched torch's."""
    specs, generator = stored_graphs(storage)
    (folder / "generator").mkdir()
    for spec, place in (*((spec, folder) for spec in specs), (generator, folder / "generator")):
        onnx_files.write(spec, place)
        assert verify.check_graph(spec, session(spec, (place / spec.file).read_bytes())) <= 1e-3
    return sum(path.stat().st_size for path in folder.rglob("*.onnx"))


@pytest.fixture(scope="module")
def whole_size(tmp_path_factory, conversions):
    """That of weights that are stored whole."""
    return size_of_graphs(tmp_path_factory.mktemp("whole"), "float32")


@pytest.mark.parametrize(("storage", "most"), [("float16", 0.75), ("int8", 0.55), ("int4", 0.55)])
def test_weights_stored_small_give_the_rounded_networks(tmp_path, whole_size, storage, most):
    assert size_of_graphs(tmp_path, storage) < most * whole_size


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


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_weights_are_stored_once_beside_the_graphs_of_one_call(tmp_path, storage):
    for spec in stored_graphs(storage)[0]:
        alone = onnx_files.write(spec, tmp_path)
        assert "weights_in" not in alone
        whole = (tmp_path / spec.file).stat().st_size
        if spec.file in manifests.ONE_CALL:
            continue
        facts = onnx_files.write(spec, tmp_path, manifests.ONE_CALL)
        assert facts == {**alone, "weights_in": facts["weights_in"]}
        assert (tmp_path / spec.file).stat().st_size < 0.5 * whole
        assert verify.check_graph(spec, session(spec, tmp_path / spec.file)) <= 1e-3

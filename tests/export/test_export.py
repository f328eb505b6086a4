"""Graphs that match torch, and bundles that are written whole."""

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import runtime
from export import folding, onnx_files, verify
from export.bundles import export_bundle
from export.folding import fold_batch_norms, folded, folded_network
from export.graphs import GraphSpec, Networks
from export.sources import sampler_of
from export.upsampling import without_shuffling
from runtime import bundle as bundles
from runtime import manifests
from runtime.errors import BundleError, ToolkitError
from tests.gaussian import gaussian_flow, save_checkpoints, save_generator
from tests.networks import graphs, session, trained_like
from training import checkpoints, paths
from training.checkpoints import Checkpoint
from training.networks.autoencoders import AutoEncoder, VarAutoEncoder
from training.networks.blocks import Retouching
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.options import SamplerOptions

NETWORKS = [
    (VarAutoEncoder, {}, {}),
    (VarAutoEncoder, {"dim4": 2}, {"sieve": 8}),
    (AutoEncoder, {}, {"dim1": 8}),
    (AutoEncoder, {"n_heads": 2, "dim1": 8, "dim2": 8}, {"backbone": "conv", "dim1": 8, "n_layers": 1, "n_heads": 2}),
]


@pytest.mark.parametrize(("kind", "shape", "flow"), NETWORKS)
def test_graphs_match_torch_at_every_batch_size(tmp_path, kind, shape, flow):
    networks = Networks(trained_like(kind(**shape)), trained_like(Flow(**flow)))
    for spec, reference in zip(graphs(folded(networks)), graphs(networks), strict=True):
        onnx_files.write(spec, tmp_path)
        assert verify.check_graph(reference, session(reference, (tmp_path / spec.file).read_bytes())) <= 1e-3


def test_norms_that_share_a_convolution_become_factors_and_shifts():
    torch.manual_seed(0)
    model = Generator(n_blocks=0, repeats=3)
    given = torch.randn(64, 1, 7, 7), torch.arange(64) % 10, torch.ones(64)
    with torch.no_grad():
        model(*given)  # for their statistics
        wanted = model.eval()(*given)
        once = fold_batch_norms(model)
        for found in (once, fold_batch_norms(once)):
            torch.testing.assert_close(found(*given), wanted, atol=1e-5, rtol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in once.modules())


def test_folding_batch_norms_changes_nothing():
    model = trained_like(AutoEncoder(n_heads=2, dim1=8, dim2=8))
    folded, images = fold_batch_norms(model), torch.rand(2, 1, 28, 28)
    latents = model.encode(images)[0]
    torch.testing.assert_close(folded.encode(images)[0], latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folded.decode(latents), model.decode(latents), atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in model.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(fold_batch_norms(folded).decode(latents), folded.decode(latents))


@pytest.mark.parametrize(
    "decoder",
    [
        VarAutoEncoder().decoder,
        VarAutoEncoder(dim4=3, dim3=5).decoder,
        Generator(dim3=6).decoder,
        Generator(dim3=6, repeats=2).decoder,
    ],
    ids=["plain", "retouched", "generator's", "of repeated layers"],
)
def test_decoders_without_shuffling_draw_the_same(decoder):
    decoder, latents = trained_like(decoder), torch.randn(3, 1, 7, 7)
    for each in (decoder, fold_batch_norms(decoder)):
        fast = without_shuffling(each)
        torch.testing.assert_close(fast(latents), decoder(latents), atol=1e-5, rtol=1e-5)
        assert not any(isinstance(module, torch.nn.PixelShuffle | Retouching) for module in fast.modules())


class Threshold(torch.nn.Module):
    """Numbers (N, 1) to whether they are above 1, and to what does not tell whether they may be equal to it."""

    def __init__(self, reached):
        super().__init__()
        self.weight, self.reached = torch.nn.Parameter(torch.ones(1)), reached

    def forward(self, x):
        scaled = x * self.weight
        return (scaled >= 1 if self.reached else scaled > 1).float(), scaled


@pytest.mark.parametrize(("ties", "passes"), [(1, True), (3, False)])
def test_few_rows_may_be_tied(tmp_path, monkeypatch, ties, passes):
    rows = torch.cat([torch.ones(ties), 2 + torch.rand(7 - ties)])[:, None]
    monkeypatch.setattr(verify, "BATCH_SIZES", (7,))
    monkeypatch.setattr(verify, "_inputs_like", lambda example, batch: [rows])
    ours, torchs = (
        GraphSpec("x.onnx", module, ("x",), ("above", "scaled"), (rows,), may_tie=True)
        for module in (Threshold(reached=True), Threshold(reached=False))
    )
    onnx_files.write(ours, tmp_path)
    content = (tmp_path / "x.onnx").read_bytes()
    if passes:
        assert verify.check_graph(torchs, session(torchs, content)) == 0
    else:
        with pytest.raises(verify.ExportMismatchError, match="above"):
            verify.check_graph(torchs, session(torchs, content))


def test_a_graph_that_differs_is_refused(tmp_path):
    model = trained_like(AutoEncoder(dim1=4, dim2=4, n_layers=1))
    spec = next(spec for spec in graphs(Networks(model, gaussian_flow())) if spec.file == "decoder.onnx")
    onnx_files.write(spec, tmp_path)
    with torch.no_grad():
        next(spec.module.autoencoder.decoder.parameters()).add_(0.01)
    with pytest.raises(verify.ExportMismatchError, match=r"decoder\.onnx"):
        verify.check_graph(spec, session(spec, (tmp_path / spec.file).read_bytes()))


def test_images_are_compared_at_all_guidance_weights_that_there_are():
    networks = Networks(trained_like(AutoEncoder()), gaussian_flow())
    spec = next(spec for spec in graphs(networks) if "weight" in spec.inputs)
    own, compared = verify.TorchGraph(spec), []

    def graph(*inputs):
        compared.extend(inputs[-1])
        return own(*inputs)

    assert verify.check_graph(spec, graph) == 0
    assert (min(compared), max(compared)) == (0.5, 3)
    assert any(1.2 < weight < 2.4 for weight in compared)


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_networks_that_are_folded_wrongly_are_refused(tmp_path, source, monkeypatch, storage):
    def wrong(network):
        right = folded_network(network)
        with torch.no_grad():
            next(right.decoder.parameters()).add_(0.01)
        return right

    monkeypatch.setattr(folding, "folded_network", wrong)
    with pytest.raises(verify.ExportMismatchError, match="image"):
        export_bundle(source, tmp_path / "bundle", SamplerOptions(steps=2), storage=storage)
    assert not (tmp_path / "bundle").exists()


@pytest.fixture
def source(tmp_path, monkeypatch, conversions):
    monkeypatch.setattr(paths, "FOLDER", tmp_path / "checkpoints")
    return save_checkpoints()


@pytest.fixture
def generator_alone(source):
    """Checkpoints of which a bundle has one graph."""
    save_generator(source)
    source.autoencoder_path.unlink()
    source.flow_path.unlink()
    return source


def test_export_is_whole_or_not_at_all(tmp_path, source, gaussian_bundle, monkeypatch):
    folder = shutil.copytree(gaussian_bundle, tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_):
        raise verify.ExportMismatchError("no match")

    monkeypatch.setattr(verify, "check_use", fail)
    with pytest.raises(verify.ExportMismatchError):
        export_bundle(source, folder, SamplerOptions(steps=5))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoints"]
    assert bundles.read(folder).defaults.steps == SamplerOptions().steps


def test_images_are_drawn_as_the_flow_was_finished_unless_told_otherwise(tmp_path, source):
    flow = checkpoints.load(source.flow_path, Flow)
    finished = SamplerOptions(steps=3, weight=1.7, guidance_start=0.25)
    description = {**flow.description, "sampler": asdict(finished)}
    checkpoints.save(Checkpoint(flow.network, flow.arguments, description), source.flow_path)
    assert sampler_of(source) == finished
    export_bundle(source, tmp_path / "bundle")
    defaults = bundles.read(tmp_path / "bundle").defaults
    assert (defaults.steps, defaults.weight, defaults.guidance_start) == (3, 1.7, 0.25)


def test_a_flow_that_was_tuned_since_draws_as_it_was_finished(source):
    flow = checkpoints.load(source.flow_path, Flow)
    finished = SamplerOptions("ode", steps=2, weight=1.9)
    before = {**flow.description, "frechet_weight": 0.05, "sampler": asdict(finished)}
    tuned = {**flow.description, "sampler": asdict(SamplerOptions()), "before": before}
    assert checkpoints.sampler_of(Checkpoint(flow.network, flow.arguments, tuned)) == finished


@pytest.mark.parametrize("renamed", [1, 2])
def test_who_stops_an_export_keeps_the_bundle_before(tmp_path, generator_alone, monkeypatch, renamed):
    folder = tmp_path / "bundle"
    export_bundle(generator_alone, folder, SamplerOptions(weight=1.5))
    calls, rename = [], Path.rename

    def stopped(self, target):
        calls.append(self)
        if len(calls) == renamed:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(generator_alone, folder, SamplerOptions(weight=2.5))
    assert bundles.read(folder).defaults.weight == 1.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoints"]


def test_a_generator_beside_a_flow_draws_at_its_own_weight(tmp_path, source):
    save_generator(source)
    generator = checkpoints.load(source.generator_path, Generator)
    description = {**generator.description, "sampler": asdict(SamplerOptions(steps=9, weight=2.2))}
    checkpoints.save(Checkpoint(generator.network, generator.arguments, description), source.generator_path)
    assert sampler_of(source) == SamplerOptions(weight=2.2)
    export_bundle(source, tmp_path / "bundle")
    defaults = bundles.read(tmp_path / "bundle").defaults
    assert (defaults.sampler, defaults.steps, defaults.weight) == ("few", SamplerOptions().steps, 2.2)


def test_folders_of_other_things_are_left_alone(tmp_path, source):
    (tmp_path / "work").mkdir()
    for name in ("thesis.txt", "manifest.json"):
        (tmp_path / "work" / name).write_text("years")
        with pytest.raises(ToolkitError, match="no bundle"):
            export_bundle(source, tmp_path / "work")
        assert (tmp_path / "work" / name).read_text() == "years"


def all_nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)


@pytest.mark.parametrize("name", ["a" * 101, "two\nlines", "back\\slash"])
def test_names_that_could_not_be_read_again_are_refused(tmp_path, source, name):
    for path in (tmp_path / "new" / name, tmp_path / "new" / f"{name}.tar.xz"):
        with pytest.raises(ToolkitError, match="name is that of a folder"):
            export_bundle(source, path)
    assert not (tmp_path / "new").exists()


def test_graphs_carry_no_path_and_no_debug_data(gaussian_bundle):
    for file in manifests.GRAPHS:
        content = (gaussian_bundle / file).read_bytes()
        assert b".py" not in content
        assert b"site-packages" not in content
        model = onnx.load_from_string(content)
        assert model.opset_import[0].version == 18
        assert [node.type.tensor_type.shape.dim[0].dim_param for node in model.graph.input] == ["batch"] * len(
            model.graph.input
        )
        outside = {node.name for node in (*model.graph.input, *model.graph.output)}
        inside = {name for node in all_nodes(model.graph) for name in (*node.input, *node.output)} - outside
        assert max(map(len, inside)) <= 3


def test_graphs_say_of_convolutions_what_is_not_usual_alone(gaussian_bundle):
    nodes = [node for path in gaussian_bundle.glob("*.onnx") for node in all_nodes(onnx.load(path).graph)]
    said = {(a.name, *a.ints) for node in nodes if node.op_type.startswith("Conv") for a in node.attribute if a.ints}
    assert said == {("strides", 2, 2), ("pads", 1, 1, 1, 1), ("pads", 2, 2, 2, 2)}


def test_counts_of_a_known_layer(tmp_path):
    from export.graphs import GraphSpec

    spec = GraphSpec("linear.onnx", torch.nn.Linear(5, 7), ("x",), ("y",), (torch.zeros(3, 5),))
    facts = onnx_files.write(spec, tmp_path)
    assert facts["parameters"] == 5 * 7 + 7
    assert facts["multiply_adds"] == 5 * 7


def test_a_generator_alone_makes_a_bundle_that_only_generates(tmp_path, generator_alone):
    folder = tmp_path / "nano"
    export_bundle(generator_alone, folder, SamplerOptions(weight=1.5), storage="int8")
    model = runtime.load(folder)
    assert [path.name for path in sorted(folder.iterdir())] == ["generate.onnx", "manifest.json"]
    assert model.generate([3, 1]).shape == (2, 28, 28)
    no_images, no_latents = np.zeros((0, 28, 28), np.uint8), np.zeros((0, *model.latent_shape))
    for use in (
        lambda: model.classify(model.generate([3])),
        lambda: model.generate([3], steps=2),
        lambda: model.encode(no_images),
        lambda: model.decode(no_latents),
    ):
        with pytest.raises((BundleError, ValueError), match="only generates"):
            use()

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

import runtime
from export import onnx_files, verify
from export.bundles import export_bundle
from export.graphs import GraphSpec, Networks, bundle_graphs, fold_batch_norms, folded
from export.one_call import Reading, ReadOnce
from export.storage import rounded, rounded_network
from runtime import bayes
from runtime import bundle as bundles
from runtime.bayes import DenoisingBank
from runtime.errors import BundleError, ToolkitError
from runtime.sessions import Graph, SessionSettings
from tests.gaussian import gaussian_flow, save_checkpoints, save_generator
from training import checkpoints, paths
from training.autoencoders import AutoEncoder, VarAutoEncoder
from training.flows import Flow
from training.generators import Generator
from training.options import Sampling
from training.rounding import to_levels
from training.stages import CERTAIN

READING = Reading(DenoisingBank((0.3, 0.8), (1.0, 2.0), 0), 1.5, (0.1,) * 10, ((1, 10), (0, 3)), doubtful=0.5)
SIEVED = replace(READING, stages=((1, 4), (0, 3)))
MANY = replace(
    SIEVED,
    bank=DenoisingBank(tuple((k + 1) / 14 for k in range(12)), (1.0,) * 12, 0),
    stages=tuple((k, 4) for k in range(12)),
)
NETWORKS = [
    (VarAutoEncoder, {}, {}),
    (VarAutoEncoder, {"dim4": 2}, {"sieve": 8}),
    (AutoEncoder, {"n_heads": 2, "dim1": 8, "dim2": 8}, {"backbone": "conv", "dim1": 8, "n_layers": 1, "n_heads": 2}),
]


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
    return bundle_graphs(networks, Sampling(steps=2, guidance_start=0.5), SIEVED if networks.flow.sieve else READING)


@torch.no_grad()
def test_classes_that_a_sieve_drops_have_the_score_of_the_worst_that_it_keeps():
    autoencoder, flow = trained_like(VarAutoEncoder()), trained_like(Flow(sieve=8))
    images = torch.randint(256, (5, 28, 28), dtype=torch.uint8)
    kept = flow.sieve(flow.standardise(autoencoder.encode(images[:, None] / 255)[0])).topk(4).indices
    scores, whole = (
        ReadOnce(autoencoder, flow, replace(READING, stages=((1, count), (0, count))))(images) for count in (4, 10)
    )
    torch.testing.assert_close(scores.gather(1, kept), whole.gather(1, kept))
    worst = whole.gather(1, kept).amin(1, keepdim=True)
    torch.testing.assert_close(scores.scatter(1, kept, worst.expand_as(kept)), worst.expand_as(scores))
    unequal = tuple((np.arange(1, 11) / 55).tolist())
    reading = replace(READING, prior=unequal, stages=((1, 4), (0, 4)))
    posterior = torch.softmax(ReadOnce(autoencoder, flow, reading)(images) + torch.tensor(unequal).log(), dim=1)
    least = posterior.gather(1, kept).amin(1, keepdim=True)
    torch.testing.assert_close(posterior.scatter(1, kept, least.expand_as(kept)), least.expand_as(posterior))


@torch.no_grad()
def test_dropped_classes_stay_out_however_many_pairs_follow(tmp_path):
    networks = folded(Networks(trained_like(VarAutoEncoder()), trained_like(Flow(sieve=8))))
    spec = next(s for s in bundle_graphs(networks, Sampling(steps=2), MANY) if s.file == "classify.onnx")
    images = torch.randint(256, (20, 28, 28), dtype=torch.uint8)
    z = networks.flow.standardise(networks.autoencoder.encode(images[:, None] / 255)[0])
    kept = networks.flow.sieve(z).topk(4).indices
    whole = ReadOnce(networks.autoencoder, networks.flow, replace(MANY, stages=tuple((k, 10) for k in range(12))))
    torch.testing.assert_close(spec.counted(images).gather(1, kept), whole(images).gather(1, kept))
    onnx_files.write(spec, tmp_path)
    assert verify.check_graph(spec, (tmp_path / spec.file).read_bytes()) <= 1e-3


@torch.no_grad()
def test_of_an_image_that_the_first_pair_settles_no_more_is_asked(tmp_path):
    networks = folded(Networks(trained_like(VarAutoEncoder()), trained_like(Flow())))
    images = torch.randint(256, (40, 28, 28), dtype=torch.uint8)

    def read(reading):
        return ReadOnce(networks.autoencoder, networks.flow, reading)(images)

    first, whole = read(replace(READING, stages=READING.stages[:1])), read(READING)
    surest = torch.softmax(first, dim=1).amax(1, keepdim=True)
    reading = replace(READING, settled=float(surest.median()), unsettled=0.25, doubtful=0.0, emphasis=1.5)
    torch.testing.assert_close(read(reading), torch.where(surest >= reading.settled, 1.5 * first, whole))
    specs = {spec.file: spec for spec in bundle_graphs(networks, Sampling(steps=2), reading)}
    spec = specs["classify.onnx"]
    facts = onnx_files.write(spec, tmp_path)
    assert verify.check_graph(spec, (tmp_path / spec.file).read_bytes()) <= 1e-3
    least, more = facts["multiply_adds_at_least"], 4 * (facts["multiply_adds"] - facts["multiply_adds_at_least"])
    of_first = least - onnx_files.write(specs["encoder.onnx"], tmp_path)["multiply_adds"]
    assert more == pytest.approx(of_first * 3 / 10, rel=0.1)  # classes
    branches = [node for node in onnx.load(tmp_path / spec.file).graph.node if node.op_type == "If"]
    assert len(branches) == 2
    again = {attribute.name: [node.op_type for node in attribute.g.node] for attribute in branches[1].attribute}
    assert again["then_branch"].count("If") == 1


@torch.no_grad()
def test_an_image_in_doubt_is_read_again_a_pixel_further_each_way(tmp_path):
    networks = folded(Networks(trained_like(VarAutoEncoder()), trained_like(Flow())))
    prior = tuple((np.arange(1, 11) / 55).tolist())
    images = torch.randint(1, 256, (40, 28, 28), dtype=torch.uint8)
    scores = ReadOnce(networks.autoencoder, networks.flow, replace(READING, temperature=1.0))(images)
    sureness = {t: torch.softmax(scores / t + torch.tensor(prior).log(), 1).amax(1) for t in np.geomspace(0.01, 1, 100)}
    temperature = min(sureness, key=lambda t: (sureness[t].median() - CERTAIN).abs())
    reading = replace(READING, temperature=temperature, prior=prior)
    spec = next(s for s in bundle_graphs(networks, Sampling(steps=2), reading) if s.file == "classify.onnx")

    def read(seen):
        return torch.softmax(spec.counted(seen) + torch.tensor(prior).log(), dim=1)

    wide = F.pad(images, (1, 1, 1, 1))
    views = [images, wide[:, :28, 1:29], wide[:, 2:, 1:29], wide[:, 1:29, :28], wide[:, 1:29, 2:]]
    once, mean = read(images), torch.stack([read(view) for view in views]).mean(0)
    certain = once.amax(1, keepdim=True) >= CERTAIN
    assert 5 < certain.sum() < 35
    wanted = torch.where(certain, once, mean)
    onnx_files.write(spec, tmp_path)
    graph = Graph((tmp_path / spec.file).read_bytes(), spec.file, SessionSettings())
    for chosen in (slice(None), certain[:, 0].numpy(), ~certain[:, 0].numpy()):
        scores, posterior = graph(images.numpy()[chosen])
        np.testing.assert_allclose(posterior, wanted[chosen], atol=1e-4)
        np.testing.assert_allclose(bayes.posterior(scores, np.array(prior)), posterior, atol=1e-5)


def test_what_reading_again_costs_is_counted(tmp_path):
    networks = folded(Networks(VarAutoEncoder(), Flow()))
    spec = next(s for s in bundle_graphs(networks, Sampling(), replace(READING, doubtful=0.25)) if s.counted)
    facts = onnx_files.write(spec, tmp_path)
    assert facts["multiply_adds"] == 2 * facts["multiply_adds_at_least"] > 0


def test_where_nothing_is_in_doubt_nothing_is_read_again(gaussian_bundle):
    graph = onnx.load(gaussian_bundle / "classify.onnx").graph
    (branch,) = (node for node in graph.node if node.op_type == "If")
    branches = {attribute.name: [node.op_type for node in attribute.g.node] for attribute in branch.attribute}
    assert branches["else_branch"] == ["Identity"]
    assert branches["then_branch"].count("ScatterND") == 1
    assert not [node for node in graph.node if node.op_type == "ScatterND"]


@pytest.mark.parametrize(("kind", "shape", "flow"), NETWORKS)
def test_graphs_match_torch_at_every_batch_size(tmp_path, kind, shape, flow):
    networks = Networks(trained_like(kind(**shape)), trained_like(Flow(**flow)))
    for spec, reference in zip(graphs(folded(networks)), graphs(networks), strict=True):
        onnx_files.write(spec, tmp_path)
        assert verify.check_graph(reference, (tmp_path / spec.file).read_bytes()) <= 1e-3


@pytest.mark.parametrize(("storage", "most"), [("float16", 0.75), ("int8", 0.55), ("int4", 0.55)])
def test_weights_stored_small_give_the_rounded_networks(tmp_path, storage, most):
    networks = Networks(trained_like(VarAutoEncoder()), trained_like(Flow()), trained_like(Generator()))
    whole, small = tmp_path / "whole", tmp_path / "small"
    for folder, stored in ((whole, "float32"), (small, storage)):
        folder.mkdir()
        for spec in graphs(rounded(folded(networks), stored)):
            onnx_files.write(spec, folder)
            assert verify.check_graph(spec, (folder / spec.file).read_bytes()) <= 1e-3
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in (whole, small)]
    assert sizes[1] < most * sizes[0]


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
    networks = Networks(trained_like(VarAutoEncoder()), trained_like(Flow()))
    specs = graphs(rounded(folded(networks), storage))
    for spec in specs:
        alone = onnx_files.write(spec, tmp_path)
        assert "weights_in" not in alone
        whole = (tmp_path / spec.file).stat().st_size
        if spec.file in bundles.ONE_CALL:
            continue
        facts = onnx_files.write(spec, tmp_path, bundles.ONE_CALL)
        assert facts == {**alone, "weights_in": facts["weights_in"]}
        assert (tmp_path / spec.file).stat().st_size < 0.5 * whole
        assert verify.check_graph(spec, tmp_path / spec.file) <= 1e-3


def test_folding_batch_norms_changes_nothing():
    model = trained_like(AutoEncoder(n_heads=2, dim1=8, dim2=8))
    folded, images = fold_batch_norms(model), torch.rand(2, 1, 28, 28)
    latents = model.encode(images)[0]
    torch.testing.assert_close(folded.encode(images)[0], latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folded.decode(latents), model.decode(latents), atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in model.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(fold_batch_norms(folded).decode(latents), folded.decode(latents))


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
        GraphSpec("x.onnx", module, ("x",), ("above", "scaled"), (rows,), counted=module)
        for module in (Threshold(reached=True), Threshold(reached=False))
    )
    onnx_files.write(ours, tmp_path)
    content = (tmp_path / "x.onnx").read_bytes()
    if passes:
        assert verify.check_graph(torchs, content) == 0
    else:
        with pytest.raises(verify.ExportMismatchError, match="above"):
            verify.check_graph(torchs, content)


def test_a_graph_that_differs_is_refused(tmp_path):
    model = trained_like(AutoEncoder(dim1=4, dim2=4, n_layers=1))
    spec = next(spec for spec in graphs(Networks(model, gaussian_flow())) if spec.file == "decoder.onnx")
    onnx_files.write(spec, tmp_path)
    with torch.no_grad():
        next(spec.module.autoencoder.decoder.parameters()).add_(0.01)
    with pytest.raises(verify.ExportMismatchError, match=r"decoder\.onnx"):
        verify.check_graph(spec, (tmp_path / spec.file).read_bytes())


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FOLDER", tmp_path / "checkpoints")
    return save_checkpoints()


def test_export_is_whole_or_not_at_all(tmp_path, source, monkeypatch):
    folder = tmp_path / "bundle"
    export_bundle(source, folder, Sampling(steps=3))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_):
        raise verify.ExportMismatchError("no match")

    monkeypatch.setattr(verify, "check_use", fail)
    with pytest.raises(verify.ExportMismatchError):
        export_bundle(source, folder, Sampling(steps=5))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoints"]
    assert bundles.read(folder).defaults.steps == 3


def test_folders_of_other_things_are_left_alone(tmp_path, source):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(ToolkitError, match="no bundle"):
        export_bundle(source, tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"


def all_nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)


def test_graphs_carry_no_path_and_no_debug_data(gaussian_bundle):
    for file in bundles.GRAPHS:
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


def test_counts_of_a_known_layer(tmp_path):
    from export.graphs import GraphSpec

    spec = GraphSpec("linear.onnx", torch.nn.Linear(5, 7), ("x",), ("y",), (torch.zeros(3, 5),))
    facts = onnx_files.write(spec, tmp_path)
    assert facts["parameters"] == 5 * 7 + 7
    assert facts["multiply_adds"] == 5 * 7


def test_shipped_bundle_comes_from_the_shipped_checkpoints():
    manifest = bundles.read("MNIST").manifest
    folder = bundles.SHIPPED.parent / "checkpoints" / "MNIST" / "main"
    kind = manifest["autoencoder"]
    for name, file in ((kind, f"{kind}.safetensors"), ("flow", f"{kind}-flow.safetensors")):
        assert manifest["provenance"][name]["sha256"] == paths.sha256(folder / file)
    parameters = sum(
        sum(p.numel() for p in checkpoints.load(folder / file, torch.nn.Module).network.parameters())
        for file in (f"{kind}.safetensors", f"{kind}-flow.safetensors")
    )
    assert manifest["parameters"] == parameters <= 98_000
    assert manifest["files"]["decoder.onnx"]["multiply_adds"] < 1_000_000
    assert manifest["files"]["generate.onnx"]["multiply_adds"] < 1_400_000
    assert np.isclose(sum(manifest["dataset"]["prior"]), 1)


def test_a_generator_alone_makes_a_bundle_that_only_generates(tmp_path, source):
    save_generator(source)
    source.autoencoder_path.unlink()
    source.flow_path.unlink()
    folder = tmp_path / "nano"
    export_bundle(source, folder, Sampling(weight=1.5), storage="int8")
    model = runtime.load(folder)
    assert [path.name for path in sorted(folder.iterdir())] == ["generate.onnx", "manifest.json"]
    assert model.generate([3, 1]).shape == (2, 28, 28)
    for use in (lambda: model.classify(model.generate([3])), lambda: model.generate([3], steps=2)):
        with pytest.raises((BundleError, ValueError), match="only generates"):
            use()

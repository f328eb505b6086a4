"""The graphs of one call: images that are guided; stages, images that are settled, and images that are read again."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from export import onnx_files, verify
from export.folding import folded
from export.graphs import Networks, bundle_graphs
from export.one_call import CORNERS_AND_SLANTS, SIDES, ReadOnce
from runtime import bayes
from runtime.bayes import DenoisingBank
from runtime.sessions import Graph, SessionSettings
from tests.networks import READING, SIEVED, session, trained_like
from training.networks.autoencoders import VarAutoEncoder
from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.options import SamplerOptions
from training.staged_reading import CERTAIN

MANY = replace(
    SIEVED,
    bank=DenoisingBank(tuple((k + 1) / 14 for k in range(12)), (1.0,) * 12, 0),
    stages=tuple((k, 4) for k in range(12)),
)


@torch.no_grad()
def test_only_images_with_a_guidance_weight_are_guided(tmp_path):
    networks = folded(Networks(trained_like(VarAutoEncoder()), trained_like(Flow())))
    noise, labels = torch.randn(4, *networks.flow.latent_shape), torch.tensor([0, 1, 2, 9])
    cost, drawn = {}, {}
    for default in (1.0, 2.0):
        sampler = SamplerOptions("ode", 4, default, guidance_start=0.5)
        spec = next(s for s in bundle_graphs(networks, sampler, READING) if s.file == "generate.onnx")
        cost[default] = onnx_files.write(spec, tmp_path)["multiply_adds"]
        graph = session(spec, (tmp_path / spec.file).read_bytes())
        verify.check_graph(spec, graph)
        whole = Drawing(networks.flow, networks.autoencoder, sampler)(noise, labels)
        drawn[default] = (whole[:, 0] * 255).round().numpy()
    layers = networks.flow.backbone.blocks
    assert cost[2.0] - cost[1.0] == 2 * sum(block.layer.weight.numel() for block in layers)
    for weights in ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 2.0]):
        images = graph(noise.numpy(), labels.numpy(), np.float32(weights))[0]
        wanted = np.stack([drawn[weight][row] for row, weight in enumerate(weights)])
        assert np.abs(images - wanted).max() <= 1
        assert (images != wanted).mean() < 0.01
    branches = [node for node in onnx.load(tmp_path / spec.file).graph.node if node.op_type == "If"]
    assert len(branches) == 2  # a step each


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
    spec = next(s for s in bundle_graphs(networks, SamplerOptions(steps=2), MANY) if s.file == "classify.onnx")
    images = torch.randint(256, (20, 28, 28), dtype=torch.uint8)
    z = networks.flow.standardise(networks.autoencoder.encode(images[:, None] / 255)[0])
    kept = networks.flow.sieve(z).topk(4).indices
    whole = ReadOnce(networks.autoencoder, networks.flow, replace(MANY, stages=tuple((k, 10) for k in range(12))))
    torch.testing.assert_close(spec.cost.once(images).gather(1, kept), whole(images).gather(1, kept))
    onnx_files.write(spec, tmp_path)
    assert verify.check_graph(spec, session(spec, (tmp_path / spec.file).read_bytes())) <= 1e-3


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
    specs = {spec.file: spec for spec in bundle_graphs(networks, SamplerOptions(steps=2), reading)}
    spec = specs["classify.onnx"]
    facts = onnx_files.write(spec, tmp_path)
    assert verify.check_graph(spec, session(spec, (tmp_path / spec.file).read_bytes())) <= 1e-3
    least, more = facts["multiply_adds_at_least"], 4 * (facts["multiply_adds"] - facts["multiply_adds_at_least"])
    of_first = least - onnx_files.write(specs["encoder.onnx"], tmp_path)["multiply_adds"]
    assert more == pytest.approx(of_first * 3 / 10, rel=0.1)  # classes
    branches = [node for node in onnx.load(tmp_path / spec.file).graph.node if node.op_type == "If"]
    assert len(branches) == 2
    again = {attribute.name: [node.op_type for node in attribute.g.node] for attribute in branches[1].attribute}
    assert again["then_branch"].count("If") == 1


def seen(images, down, right, slant=0):
    """Images (N, 28, 28) as a view shows them, row by row."""
    wide = F.pad(images, (4, 4, 1, 1))
    starts = [4 - right - slant * (row // 4 - 3) for row in range(28)]
    return torch.stack([wide[:, 1 - down + row, start : start + 28] for row, start in enumerate(starts)], dim=1)


@pytest.mark.parametrize("views", [SIDES, CORNERS_AND_SLANTS], ids=["sides", "corners and slants"])
@torch.no_grad()
def test_an_image_in_doubt_is_read_again_in_other_views(views, tmp_path):
    networks = folded(Networks(trained_like(VarAutoEncoder()), trained_like(Flow())))
    prior = tuple((np.arange(1, 11) / 55).tolist())
    images = torch.randint(1, 256, (40, 28, 28), dtype=torch.uint8)
    scores = ReadOnce(networks.autoencoder, networks.flow, replace(READING, temperature=1.0))(images)
    sureness = {t: torch.softmax(scores / t + torch.tensor(prior).log(), 1).amax(1) for t in np.geomspace(0.01, 1, 100)}
    temperature = min(sureness, key=lambda t: (sureness[t].median() - CERTAIN).abs())
    reading = replace(READING, temperature=temperature, prior=prior, views=views)
    spec = next(s for s in bundle_graphs(networks, SamplerOptions(steps=2), reading) if s.file == "classify.onnx")

    def read(shown):
        return torch.softmax(spec.cost.once(shown) + torch.tensor(prior).log(), dim=1)

    once = read(images)
    mean = torch.stack([once, *(read(seen(images, *view)) for view in views)]).mean(0)
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
    spec = next(s for s in bundle_graphs(networks, SamplerOptions(), replace(READING, doubtful=0.25)) if s.cost)
    facts = onnx_files.write(spec, tmp_path)
    assert facts["multiply_adds"] == 2 * facts["multiply_adds_at_least"] > 0


def test_where_nothing_is_in_doubt_nothing_is_read_again(gaussian_bundle):
    graph = onnx.load(gaussian_bundle / "classify.onnx").graph
    (branch,) = (node for node in graph.node if node.op_type == "If")
    branches = {attribute.name: [node.op_type for node in attribute.g.node] for attribute in branch.attribute}
    assert branches["else_branch"] == ["Identity"]
    assert branches["then_branch"].count("ScatterND") == 1
    assert not [node for node in graph.node if node.op_type == "ScatterND"]

"""What a bundle will be: its manifest, but for the files, and its graphs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx
import torch

from export import sources
from export.folding import folded, folded_network
from export.graphs import GraphSpec, Networks, bundle_graphs, generator_graph
from export.one_call import CORNERS_AND_SLANTS, SIDES, PosteriorRule
from export.sources import Source
from export.storage import Storage, rounded, rounded_network
from runtime import manifests
from runtime.bayes import DenoisingBank
from runtime.datasets import Dataset
from runtime.sampling import FEW
from runtime.sessions import ONNXRUNTIME_VERSION
from training import checkpoints
from training.calibration import UNCALIBRATED
from training.networks.generators import LEAST_WEIGHT, MOST_WEIGHT, Generator, check_weight
from training.options import SamplerOptions

Manifest = dict[str, Any]
GENERATOR_WEIGHTS = {"weights": [LEAST_WEIGHT, MOST_WEIGHT]}
OF_STAGES = ("doubtful", "certain", "settled", "unsettled", "emphasis")  # of a PosteriorRule, as calibration names them


class Planned(NamedTuple):
    """A graph of networks as they will be stored, of these before their weights are rounded, and of torch's own.

    The first two have no batch norms and no shuffled pixels; the second computes what the third does.
    """

    stored: GraphSpec
    exact: GraphSpec
    own: GraphSpec


@dataclass(frozen=True)
class Plan:
    """A manifest without the files, and what they will be."""

    manifest: Manifest
    graphs: Sequence[Planned]

    def whole(self, name: str, files: Manifest) -> Manifest:
        """The manifest of the bundle of this name, with what is said of its files."""
        return {"format": manifests.FORMAT, "name": name, "measured": {}, **self.manifest, "files": files}


def plan_of(source: Source, defaults: SamplerOptions | None, storage: Storage, with_flow: bool = True) -> Plan:
    """The plan of a source's bundle.

    defaults: how images are drawn, as the model was finished where there are none; storage: of the weights; with_flow:
    an untrained flow takes the place of the source's own where there should be none.
    Raises CheckpointError, and ValueError for a guidance weight that a generator has not learnt.
    """
    if source.only_generates:
        return _generator_plan(source, defaults, storage)
    parts = sources.read(source, with_flow)
    defaults = defaults or parts.sampler
    if parts.generator:
        check_weight(defaults.weight)
    networks = Networks(
        parts.autoencoder.network, parts.flow.network, parts.generator.network if parts.generator else None
    )
    description, reading = parts.flow.description, _reading(source.dataset, parts.flow.description)
    plain = folded(networks)
    versions = (bundle_graphs(each, defaults, reading) for each in (rounded(plain, storage), plain, networks))
    graphs = [Planned(*each) for each in zip(*versions, strict=True)]
    counted = [each for each in (networks.autoencoder, networks.flow, networks.generator) if each is not None]
    manifest = {
        "dataset": _facts(source.dataset, description["prior"]),
        "autoencoder": source.kind,
        "storage": storage,
        "latent_shape": list(networks.flow.latent_shape),
        "parameters": sum(p.numel() for network in counted for p in network.parameters()),
        "defaults": {
            "steps": defaults.steps,
            "weight": defaults.weight,
            "sampler": FEW if networks.generator else defaults.sampler,
            "solver": defaults.sampler,
            "guidance_start": defaults.guidance_start,
            "diffusion": defaults.spread,
            **({"solver_weight": parts.solver_weight} if networks.generator else {}),
        },
        "classifier": description["classifier"],
        **({"generator": GENERATOR_WEIGHTS} if networks.generator else {}),
        "provenance": {**parts.provenance(), "versions": _versions()},
    }
    return Plan(manifest, graphs)


def _generator_plan(source: Source, defaults: SamplerOptions | None, storage: Storage) -> Plan:
    """A bundle that only generates."""
    checkpoint = checkpoints.load(source.generator_path, Generator)
    network, defaults = checkpoint.network, defaults or sources.sampler_of(source)
    check_weight(defaults.weight)
    plain = folded_network(network)
    versions = (rounded_network(plain, storage), plain, network)
    graph = Planned(*(generator_graph(each, defaults.weight) for each in versions))
    classes = len(source.dataset.classes)
    trained = sources.provenance_of(source.generator_path, checkpoint)
    provenance = {name: trained[name] for name in ("sha256", "total_epochs", "teacher")}
    before = sources.before(checkpoint.description, lambda name: False)  # the epochs alone
    manifest = {
        "dataset": _facts(source.dataset, [1 / classes] * classes),
        "storage": storage,
        "latent_shape": list(network.latent_shape),
        "parameters": sum(p.numel() for p in network.parameters()),
        "defaults": {"weight": defaults.weight, "sampler": FEW},
        "generator": GENERATOR_WEIGHTS,
        "provenance": {"generator": provenance | before, "versions": _versions()},
    }
    return Plan(manifest, [graph])


def _facts(dataset: Dataset, prior: list[float]) -> dict[str, Any]:
    return {
        "key": dataset.key,
        "name": dataset.name,
        "split": dataset.split,
        "classes": list(dataset.classes),
        "prior": prior,
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": ONNXRUNTIME_VERSION,
    }


def _reading(dataset: Dataset, description: dict[str, Any]) -> PosteriorRule:
    """How the denoising rule reads a data set's images, from what is said of a flow."""
    classifier = description["classifier"]
    bank, prior = DenoisingBank(**classifier["bank"]), tuple(description["prior"])
    stages = classifier.get("stages", [(pair, len(prior)) for pair in range(len(bank.times))])
    return PosteriorRule(
        bank,
        classifier["temperatures"]["denoising"],
        prior,
        tuple((pair, count) for pair, count in stages),
        **{name: classifier.get(name, UNCALIBRATED[name]) for name in OF_STAGES},
        views=CORNERS_AND_SLANTS if dataset.name == "EMNIST" else SIDES,
    )

"""Check exported graphs against the torch modules they came from, alone and in the runtime's use of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graphs import GraphSpec
from runtime.bundle import Bundle
from runtime.errors import ToolkitError
from runtime.model import Model
from runtime.sessions import Graph

BATCH_SIZES = (1, 2, 7)
TOLERANCE = 1e-5  # of values up to 1, relative above
LEVELS_TOLERANCE = 1e-3  # share of the grey levels, or one of them, that rounding may set one level apart
TRAJECTORY_TOLERANCE = 1e-3  # latents at the end of all steps
TIE = 1e-3
ROUNDING = 1e-5  # of a mean squared error, which the denoising rule weighs
NOISE_IMAGES = 4
WEIGHT_ROUNDING = 3e-7  # of weights, relative: about what another order of additions comes to
ROUNDINGS = 8  # tried
MOST_TIED = 0.25  # of the rows


class ExportMismatchError(ToolkitError):
    """A graph does not compute what its torch module computes."""


class TorchGraph:
    """A torch module that is called as a session of its graph is."""

    def __init__(self, spec: GraphSpec) -> None:
        self._module = spec.module

    @torch.no_grad()
    def __call__(self, *inputs: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        found = self._module(*(torch.from_numpy(array) for array in inputs))
        return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]


def check_graph(spec: GraphSpec, graph: Graph | TorchGraph) -> float:
    """Compare what should do the same as a graph's module with that, at several batch sizes.

    Returns the largest error, relative to values above 1, or of grey levels the share that are a level off; raises
    ExportMismatchError where it is above TOLERANCE times the spec's scale, or LEVELS_TOLERANCE. Rows where two classes
    are so near that rounding decides which of them drops out are left out, if they are few.
    """
    reference, worst = TorchGraph(spec), 0.0
    for batch in BATCH_SIZES:
        inputs = [tensor.numpy() for tensor in _inputs_like(spec.example, batch)]
        ours, torchs = graph(*inputs), reference(*inputs)
        kept = np.ones(batch, np.bool_)
        for name, found, wanted in zip(spec.outputs, ours, torchs, strict=True):
            if found.shape != wanted.shape:
                raise ExportMismatchError(f"{spec.file}: {name} has shape {found.shape}, torch's has {wanted.shape}")
            error, allowed = _error(found[kept], wanted[kept], spec.scale)
            if not error <= allowed and spec.may_tie:
                kept = ~_tied(spec, inputs, torchs)
                error, allowed = _error(found[kept], wanted[kept], spec.scale)
            if not error <= allowed:
                raise ExportMismatchError(
                    f"{spec.file}: {name} is {error:.1e} off torch's at batch size {batch}; {allowed:.0e} is allowed"
                )
            worst = max(worst, error)
    return worst


@torch.no_grad()
def _tied(spec: GraphSpec, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Of which rows torch's own outputs change when weights are rounded otherwise; none where these are too many."""
    generator = torch.Generator().manual_seed(0)
    tied = np.zeros(len(inputs[0]), np.bool_)
    for _ in range(ROUNDINGS):
        module = copy.deepcopy(spec.module)
        for weights in module.parameters():
            weights.mul_(1 + WEIGHT_ROUNDING * torch.randn(weights.shape, generator=generator))
        for found, wanted in zip(module(*map(torch.from_numpy, inputs)), outputs, strict=True):
            for row in range(len(tied)):
                error, allowed = _error(found[row].numpy(), wanted[row], spec.scale)
                tied[row] |= not error <= allowed
    return tied if tied.mean() <= MOST_TIED else np.zeros_like(tied)


def _error(found: NDArray[Any], wanted: NDArray[Any], scale: float) -> tuple[float, float]:
    """The largest error, relative to values above 1, and what is allowed; of grey levels the share that differ."""
    if wanted.dtype == np.uint8:
        apart = np.abs(found.astype(np.int64) - wanted)
        return float(apart.mean() if apart.max() <= 1 else apart.max()), max(LEVELS_TOLERANCE, 1 / apart.size)
    return float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max()), TOLERANCE * scale


def check_use(bundle: Bundle, specs: Sequence[GraphSpec]) -> dict[str, float]:
    """Compare whole trajectories and posteriors, of images drawn and of noise; returns their largest errors.

    Raises ExportMismatchError where trajectories part, or where a predicted class differs.
    """
    graphs = {spec.file: TorchGraph(spec) for spec in specs}
    ours, reference = Model(bundle), Model(bundle, open_graph=graphs.__getitem__)
    labels = np.arange(3 * len(bundle.classes)) % len(bundle.classes)
    found, wanted = (model.sample_latents(labels, seed=1) for model in (ours, reference))
    trajectory = float(np.abs(found - wanted).max())
    if not trajectory <= TRAJECTORY_TOLERANCE:
        raise ExportMismatchError(
            f"a trajectory ends {trajectory:.1e} off torch's; {TRAJECTORY_TOLERANCE:.0e} is allowed"
        )
    images = np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, 28, 28), np.uint8)
    inputs = np.concatenate([images, ours.decode(found)])
    ours_read, torch_read = ours.classify(inputs), reference.classify(inputs)
    surprise = np.log(torch_read.max(1) / torch_read[np.arange(len(inputs)), ours_read.argmax(1)])
    if not (surprise <= _tie(bundle)).all():
        raise ExportMismatchError("a predicted class differs from torch's")
    return {"trajectory": trajectory, "posterior": float(np.abs(ours_read - torch_read).max())}


def _tie(bundle: Bundle) -> float:
    """Log-ratio of two classes' probabilities up to which rounding errors may swap them."""
    summed = sum(bundle.classifier.bank.weights) / bundle.classifier.temperatures["denoising"]
    return TIE + ROUNDING * (summed if bundle.classifier.rule == "denoising" else 1.0)


def _inputs_like(example: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Random inputs of the example's kinds, with its largest label, and with its times and weights among others."""
    generator = torch.Generator().manual_seed(batch)
    inputs = []
    for tensor in example:
        shape = (batch, *tensor.shape[1:])
        if not tensor.is_floating_point():
            values = torch.randint(int(tensor.max()) + 1, shape, generator=generator, dtype=tensor.dtype)
            values[-1] = tensor.max()
        elif tensor.ndim == 1:
            values = tensor.min() + (tensor.max() - tensor.min()) * torch.rand(shape, generator=generator)
            values[: len(tensor)] = tensor[:batch]
        else:
            values = (torch.rand if tensor.min() >= 0 else torch.randn)(shape, generator=generator)
        inputs.append(values)
    return inputs

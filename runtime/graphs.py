"""What each graph of a bundle computes, of arrays that are checked already."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayes import Floats
from .bundle import Bundle
from .datasets import Images
from .errors import BundleError
from .sessions import Graph, SessionSettings

Latents = NDArray[np.float32]
Labels = NDArray[np.int64]
RunGraph = Callable[..., list[NDArray[Any]]]  # arrays in the graph's order of inputs to arrays in that of its outputs
HALF_LEVEL = 0.5 / 255  # nearer to black or white than a grey level's rounding no pixel counts


class Graphs:
    """A bundle's graphs, each opened when it is first needed; threads may share them."""

    def __init__(self, bundle: Bundle, settings: SessionSettings, open_graph: Callable[[str], RunGraph] | None) -> None:
        """open_graph: gives what runs a file of the bundle, instead of onnxruntime."""
        self.open_graph = open_graph  # or None, so that these are no part of themselves and go when they are dropped
        self._bundle, self._settings = bundle, settings
        self._opened: dict[str, RunGraph] = {}
        self._opening = threading.Lock()

    def opened(self, name: str) -> RunGraph:
        """What runs a file of the bundle; BundleError where it has none of that name, or a damaged one."""
        with self._opening:
            if name not in self._bundle.graphs:
                raise BundleError(f"the bundle {self._bundle.name} has no {name}: it only generates, by sampler few")
            if name not in self._opened:
                self._opened[name] = (self.open_graph or self._session)(name)
            return self._opened[name]

    def draw(self, noise: Latents, labels: Labels, weight: float) -> Images:
        """Images uint8 (N, 28, 28) by the default sampler from noise (N, *latent_shape)."""
        images: Images = self.opened("generate.onnx")(noise, labels, np.full(len(labels), weight, np.float32))[0]
        return images

    def posterior(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """p(y | x) (N, classes) of images (N, 28, 28), floats at the nearest grey levels."""
        found = self.opened("classify.onnx")(images if images.dtype == np.uint8 else _grey_levels(images))[1]
        if found.shape != (len(images), len(self._bundle.classes)):
            raise BundleError(f"classify.onnx of the bundle {self._bundle.name} does not tell its classes apart")
        return found

    def velocity(self, x: Floats, t: Floats, labels: Labels) -> Floats:
        """The flow's velocity (N, *latent_shape) at states x of that shape and times (N,)."""
        return self.opened("flow.onnx")(x.astype(np.float32), t.astype(np.float32), labels)[0]

    def velocity_and_divergence(self, x: Floats, t: Floats, labels: Labels) -> tuple[Floats, Floats]:
        """The same, and its divergence (N,)."""
        velocity, divergence = self.opened("likelihood.onnx")(x.astype(np.float32), t.astype(np.float32), labels)
        return velocity, divergence

    def encode(self, images: NDArray[Any]) -> Latents:
        """Standardised latents (N, *latent_shape) of images (N, 28, 28)."""
        return self.opened("encoder.onnx")(_pixels(images))[0]

    def decode(self, z: Latents) -> Images:
        """Images uint8 (N, 28, 28) of latents; ValueError where they are too large."""
        pixels: NDArray[np.float32] = self.opened("decoder.onnx")(z)[0][:, 0]
        if np.isnan(pixels).any():
            raise ValueError("latents are too large to be decoded")
        return _grey_levels(pixels)

    def losses(self, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Losses of each of the images (N, 28, 28), as Model.reconstruction_losses has them."""
        pixels = _pixels(images)
        encoded = self.opened("encoder.onnx")(pixels)
        found = np.clip(self.opened("decoder.onnx")(encoded[0])[0], HALF_LEVEL, 1 - HALF_LEVEL)
        losses = {
            "l1": np.abs(found - pixels).mean((1, 2, 3)),
            "l2": np.square(found - pixels).mean((1, 2, 3)),
            "cross_entropy": -(pixels * np.log(found) + (1 - pixels) * np.log1p(-found)).sum((1, 2, 3)),
        }
        return losses | ({"kl": encoded[1]} if len(encoded) > 1 else {})

    def _session(self, name: str) -> Graph:
        return Graph(self._bundle.graph(name), str(self._bundle.path / name), self._settings)


def _pixels(images: NDArray[Any]) -> NDArray[np.float32]:
    """Checked images (N, 28, 28) as the graphs take them: float32 (N, 1, 28, 28) in [0, 1]."""
    scale = 255 if images.dtype == np.uint8 else 1
    return images[:, None].astype(np.float32) / np.float32(scale)


def _grey_levels(pixels: NDArray[Any]) -> Images:
    """Floats in [0, 1] as the nearest uint8."""
    levels: Images = np.rint(pixels * 255).astype(np.uint8)
    return levels

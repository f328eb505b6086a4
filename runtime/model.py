"""The model that users hold: generate, classify, encode and decode with one bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import bayes, drawing, noise, sampling
from .bayes import RULES, Floats, Rule
from .bundle import Bundle, read
from .checks import check_images, check_labels, check_latents, in_range, one_of
from .chunks import CHUNK, DEFAULT_THREADS, in_chunks
from .datasets import IMAGE_SIZE, Images
from .graphs import Graphs, Labels, Latents, RunGraph
from .scoring import Scorer
from .sessions import SessionSettings
from .settings import Sampling, Way, solver_of, way_of

MAX_IMAGES = 2**40


def load(
    name: str | Path,
    *,
    threads: int = DEFAULT_THREADS,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    arena: bool = True,
) -> Model:
    """Load a shipped bundle by name, or any bundle by the path of its folder or of the .tar.xz it is packed in.

    threads, providers, arena: see SessionSettings. Raises BundleError where the bundle is missing or damaged,
    ProviderError where a provider is not there, ValueError for threads out of range.
    """
    if isinstance(providers, str):
        raise ValueError(f"providers is a list of names: [{providers!r}]")
    return Model(read(name), SessionSettings(threads, tuple(providers), arena))


class Model:
    """One bundle's model. It has no state that calls change, so threads may share it.

    Images are uint8 (N, 28, 28), upright, 0 background; float images in [0, 1] are taken too.
    Latents are float32 (N, *latent_shape), standardised. All methods raise ValueError for arguments of another shape,
    dtype or range, and those that read images or decode raise BundleError where the bundle only generates.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: SessionSettings | None = None,
        open_graph: Callable[[str], RunGraph] | None = None,
    ) -> None:
        """open_graph gives what runs a file of the bundle, onnxruntime by default."""
        self.bundle = bundle
        self.settings = settings or SessionSettings()
        self._graphs = Graphs(bundle, self.settings, open_graph)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, and so for other processes: a copy opens its own sessions."""
        return Model, (self.bundle, self.settings, self._graphs.open_graph)

    def __repr__(self) -> str:
        return f"Model({self.bundle.name!r}, {self.settings})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.bundle.classes

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return self.bundle.latent_shape

    def generate(
        self,
        labels: ArrayLike,
        *,
        seed: int = 0,
        first: int = 0,
        **settings: Unpack[Sampling],
    ) -> Images:
        """New images of the given classes: labels (N,) to uint8 (N, 28, 28).

        seed: 0 to 2^64 - 1; image i depends on the seed, on first + i and on its label, not on the others.
        settings: see Sampling. Raises ValueError for what is out of range.
        """
        checked, first, way = self._request(labels, seed, first, settings)
        draw = self._draw if way.is_one_call(self.bundle) else self._draw_in_steps
        return self._chunked(
            lambda rows: draw(way, checked[rows], first + rows.start), len(checked), (IMAGE_SIZE, IMAGE_SIZE), np.uint8
        )

    def sample_latents(
        self,
        labels: ArrayLike,
        *,
        seed: int = 0,
        first: int = 0,
        **settings: Unpack[Sampling],
    ) -> Latents:
        """The latents of which generate, with the same arguments, draws the images: (N, *latent_shape).

        A sampler "few" has none; the bundle's solver takes its place where it is the default.
        """
        checked, first, way = self._request(labels, seed, first, self._by_solver(settings))
        return self._chunked(
            lambda rows: sampling.last(self._solve(way, checked[rows], first + rows.start)),
            len(checked),
            self.latent_shape,
        )

    def generate_path(
        self,
        labels: ArrayLike,
        *,
        seed: int = 0,
        first: int = 0,
        **settings: Unpack[Sampling],
    ) -> Images:
        """How the images of generate, with the same arguments, arise: uint8 (N, steps + 1, 28, 28), from noise on.

        The last may differ by a grey level, since generate rounds otherwise where it is one call.
        A sampler "few" has no steps; the bundle's solver takes its place where it is the default.
        """
        checked, first, way = self._request(labels, seed, first, self._by_solver(settings))

        def draw(rows: slice) -> Images:
            states = self._solve(way, checked[rows], first + rows.start)
            return np.stack([self._graphs.decode(z) for z in states], axis=1)

        return self._chunked(draw, len(checked), (way.steps + 1, IMAGE_SIZE, IMAGE_SIZE), np.uint8)

    def stream(
        self,
        num: int,
        labels: ArrayLike | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        batch_size: int = CHUNK,
        **settings: Unpack[Sampling],
    ) -> Iterator[Images]:
        """The images that generate draws of repeated labels, `num` of them, in batches of bounded memory.

        labels: all classes in turn by default. first: how many to pass over, so that a stream goes on where another
        of the same labels and seed ended.
        """
        cycle = check_labels(np.arange(len(self.classes)) if labels is None else labels, len(self.classes))
        if not len(cycle):
            raise ValueError("labels are empty: there is nothing to repeat")
        num, first = in_range("num", num, 0, MAX_IMAGES), in_range("first", first, 0, MAX_IMAGES)
        batch_size = in_range("batch_size", batch_size, 1, MAX_IMAGES)
        draw = partial(self.generate, seed=seed, **settings)
        for end in (first, first + max(num - 1, 0)):
            draw([], first=end)  # refuses what is out of range now, not at the first batch

        def batches() -> Iterator[Images]:
            for start in range(first, first + num, batch_size):
                stop = min(start + batch_size, first + num)
                yield draw(cycle[np.arange(start, stop) % len(cycle)], first=start)

        return batches()

    def classify(self, images: ArrayLike, *, rule: Rule | None = None) -> NDArray[np.float32]:
        """p(y | x) by Bayes' rule: images (N, 28, 28) to float32 (N, classes), rows sum to 1.

        rule: "denoising", "likelihood" or "ode"; the bundle's by default, the cheapest that is not clearly worse than
        another on validation data. By "denoising", images are read by classify.onnx, in stages and again where they
        leave doubt, floats at the nearest of 256 grey levels.
        """
        chosen: Rule = one_of("rule", self.bundle.classifier.rule if rule is None else rule, RULES)
        checked = check_images(images)
        if chosen == "denoising":
            return self._chunked(lambda rows: self._graphs.posterior(checked[rows]), len(checked), (len(self.classes),))
        scores = self.scores(checked, chosen)
        return bayes.posterior(scores, np.array(self.bundle.prior), self.bundle.classifier.temperatures[chosen])

    def scores(self, images: ArrayLike, rule: Rule) -> Floats:
        """Log p(x | y) by a rule, up to a constant and a temperature: images (N, 28, 28) to float64 (N, classes)."""
        latents, scorer, rule = self.encode(images), self._scorer, one_of("rule", rule, RULES)
        return self._chunked(lambda rows: scorer(latents[rows], rule), len(latents), (len(self.classes),), np.float64)

    def log_likelihood(self, images: ArrayLike) -> NDArray[np.float32]:
        """Log p(x | y) in nats for every class: images (N, 28, 28) to float32 (N, classes).

        It is the exact log-density of the image's latent under the flow. That of the image differs by a term that
        depends on the image but not on the class, which the autoencoder leaves unknown.
        """
        return self.scores(images, "likelihood").astype(np.float32)

    def log_density(self, images: ArrayLike) -> NDArray[np.float32]:
        """Log p(z) in nats of each image's latent, whatever its class: images (N, 28, 28) to float32 (N,)."""
        latents, scorer = self.encode(images), self._scorer
        return self._chunked(lambda rows: scorer.log_density(latents[rows]).astype(np.float32), len(latents), ())

    def is_unlike_training(self, log_density: ArrayLike) -> NDArray[np.bool_]:
        """Whether images of these log-densities (N,) are unlike the training data: bool (N,).

        They are where fewer than 1 % of held-out training images have a lower one.
        """
        found = np.asarray(log_density)
        if found.dtype.kind not in "fiu" or np.isnan(found).any():
            raise ValueError("log-densities are numbers, and none is NaN")
        return found < self.bundle.classifier.least_log_density

    def encode(self, images: ArrayLike) -> Latents:
        """Images (N, 28, 28) to standardised latents (N, *latent_shape)."""
        checked = check_images(images)
        self._graphs.opened("encoder.onnx")  # which may not be there, however few the images
        return self._chunked(lambda rows: self._graphs.encode(checked[rows]), len(checked), self.latent_shape)

    def decode(self, latents: ArrayLike) -> Images:
        """Latents (N, *latent_shape) to images uint8 (N, 28, 28)."""
        checked = check_latents(latents, self.latent_shape)
        self._graphs.opened("decoder.onnx")
        return self._chunked(
            lambda rows: self._graphs.decode(checked[rows]), len(checked), (IMAGE_SIZE, IMAGE_SIZE), np.uint8
        )

    def reconstruct(self, images: ArrayLike) -> Images:
        """Images through the autoencoder and back: (N, 28, 28) to uint8 (N, 28, 28)."""
        return self.decode(self.encode(images))

    def reconstruction_losses(self, images: ArrayLike) -> dict[str, NDArray[np.float32]]:
        """Losses of each image (N, 28, 28), each (N,).

        "l1" and "l2": mean absolute and squared error of a pixel in [0, 1]; "cross_entropy": binary, in nats, summed
        over pixels; "kl": divergence of a VAE's latent from N(0, I) in nats.
        """
        checked = check_images(images)
        found = in_chunks(lambda rows: self._graphs.losses(checked[rows]), len(checked), self.settings.threads)
        parts = found or [self._graphs.losses(checked)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @property
    def _scorer(self) -> Scorer:
        classifier = self.bundle.classifier
        return Scorer(
            len(self.classes),
            self.latent_shape,
            classifier.bank,
            classifier.likelihood_steps,
            self._graphs.velocity,
            self._graphs.velocity_and_divergence,
        )

    def _by_solver(self, settings: Sampling) -> Sampling:
        """The settings with a solver where they name no sampler."""
        sampler = solver_of(self.bundle, settings)
        if sampler == sampling.FEW:
            raise ValueError(f"sampler {sampling.FEW} has neither latents nor steps")
        return {**settings, "sampler": sampler}

    def _request(self, labels: ArrayLike, seed: int, first: int, settings: Sampling) -> tuple[Labels, int, Way]:
        """All arguments checked, with the bundle's defaults where nothing is said."""
        checked = check_labels(labels, len(self.classes))
        return checked, in_range("first", first, 0, MAX_IMAGES), way_of(self.bundle, seed, **settings)

    def _draw(self, way: Way, labels: Labels, first: int) -> Images:
        """Images (N, 28, 28) by generate.onnx."""
        return self._graphs.draw(noise.normal(way.seed, first, len(labels), self.latent_shape), labels, way.weight)

    def _draw_in_steps(self, way: Way, labels: Labels, first: int) -> Images:
        """Images (N, 28, 28) by a solver and the decoder."""
        return self._graphs.decode(sampling.last(self._solve(way, labels, first)))

    def _solve(self, way: Way, labels: Labels, first: int) -> Iterator[Latents]:
        """Noise, what every step makes of it, latents."""
        return drawing.states(way, labels, first, self._graphs.velocity, self.latent_shape, no_class=len(self.classes))

    def _chunked(
        self,
        function: Callable[[slice], NDArray[Any]],
        rows: int,
        shape: tuple[int, ...],
        dtype: type[np.generic] = np.float32,
    ) -> NDArray[Any]:
        """What a function gives of all slices of so many rows, together: (rows, *shape)."""
        parts = in_chunks(function, rows, self.settings.threads)
        return np.concatenate(parts) if parts else np.empty((0, *shape), dtype)

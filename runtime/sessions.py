"""The one place that opens onnxruntime sessions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Without this, onnxruntime keeps notes of its use below the user's home and sends them to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .checks import in_range
from .chunks import DEFAULT_THREADS
from .errors import BundleError, ProviderError, one_line

MAX_THREADS = 1024
ONNXRUNTIME_VERSION = str(onnxruntime.__version__)


@dataclass(frozen=True)
class SessionSettings:
    """How graphs are run.

    threads: among which the rows of a call are divided, where there are enough; every session runs on the thread that
    calls it. providers: onnxruntime's names, in order of preference. arena: keep freed memory for the next run, faster
    and larger.
    """

    threads: int = DEFAULT_THREADS
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    arena: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "threads", in_range("threads", self.threads, 1, MAX_THREADS))
        available = available_providers()
        for provider in self.providers:
            if provider not in available:
                raise ProviderError(f"there is no execution provider {provider!r} here, only {', '.join(available)}")
        if not self.providers:
            raise ProviderError(f"no execution provider given: there are {', '.join(available)}")


def available_providers() -> list[str]:
    """The execution providers of this onnxruntime."""
    providers: list[str] = onnxruntime.get_available_providers()
    return providers


class Graph:
    """One ONNX graph, ready to run; safe to share between threads."""

    def __init__(self, model: bytes | Path, name: str, settings: SessionSettings) -> None:
        """model: an ONNX file's content, or its path where its weights lie in files beside it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = settings.arena
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=list(settings.providers)
            )
        except Exception as error:  # onnxruntime's own exceptions have no common base class
            raise BundleError(f"{name} can't be loaded: {one_line(error, 300)}") from error
        self._name = name
        self._inputs = [node.name for node in self._session.get_inputs()]

    def __call__(self, *inputs: NDArray[np.generic]) -> list[NDArray[Any]]:
        """Run on inputs in the graph's order; BundleError where it takes others, so is not the manifest's."""
        try:
            arrays: list[NDArray[Any]] = self._session.run(None, dict(zip(self._inputs, inputs, strict=True)))
        except Exception as error:  # as above
            raise BundleError(f"{self._name} can't be run: {one_line(error, 300)}") from error
        return arrays

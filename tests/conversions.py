"""Conversions to ONNX, seconds each, of which tests that are about something else do none twice."""

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch

from export.graphs import GraphSpec


def remembered(convert: Callable[[GraphSpec], onnx.ModelProto], folder: Path) -> Callable[[GraphSpec], onnx.ModelProto]:
    """The same, but that a graph equal to one before comes from the folder, which processes may share."""

    def found_or_converted(spec: GraphSpec) -> onnx.ModelProto:
        path = folder / _digest(spec)
        if not path.exists():
            aside = path.with_name(f"{path.name}.{os.getpid()}")
            aside.write_bytes(convert(spec).SerializeToString())
            aside.rename(path)
        return onnx.load_model_from_string(path.read_bytes())

    return found_or_converted


def _digest(spec: GraphSpec) -> str:
    """Of all that a conversion sees, which of the example is its shape."""
    example = [(tensor.dtype, tensor.shape) for tensor in spec.example]
    content = io.BytesIO()
    pickler = _Values(content)
    pickler.fast = True  # equal parts are written alike, whether they are one object or two
    pickler.dump((spec.file, spec.module.eval(), spec.inputs, spec.outputs, example))
    return hashlib.sha256(content.getvalue()).hexdigest()


class _Values(pickle.Pickler):
    """What writes tensors by their values; as torch pickles them, where they lie in memory is a part of it."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return bytes, (f"{value.dtype} {tuple(value.shape)} ".encode() + value.detach().numpy().tobytes(),)
        return NotImplemented

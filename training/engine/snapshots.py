"""Snapshots of a training in progress: nested dicts and lists of tensors and JSON values, in one checked file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.errors import ToolkitError
from training import tensor_files

_TENSOR = "tensor:"


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    tensor_files.write(path, tensors, {"state": _flatten(state, tensors)})


def read(path: Path) -> dict[str, Any]:
    """The state, with tensors on the CPU. Raises TensorFileError where the file is damaged or something else."""
    tensors, metadata = tensor_files.read(path)
    if "state" not in metadata:
        raise tensor_files.TensorFileError(f"{path} is no snapshot of a training")
    state: dict[str, Any] = _restore(metadata["state"], tensors)
    return state


def left(path: Path) -> ToolkitError:
    """What to raise where a training would begin anew and an interrupted one has left its state at path."""
    return ToolkitError(f"{path} is of an interrupted training: --resume goes on, to begin anew remove it")


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser its state, laid out in memory as its parameters are, which fused optimisers rely on."""
    optimiser.load_state_dict(state)
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON value in which a name stands for each tensor, and a list of pairs for each dict."""
    if isinstance(value, Tensor):
        name = f"{_TENSOR}{len(tensors)}"
        tensors[name] = value
        return name
    if isinstance(value, dict):
        return {"pairs": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_flatten(item, tensors) for item in value]
    return value


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value]
    if isinstance(value, dict):
        return {key: _restore(item, tensors) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    return value

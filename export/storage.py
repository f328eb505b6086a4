"""Store weights small, in few bits in the file, float32 again when a session is opened; and once, not in each file.

The networks' weights are rounded first, so that what is stored is exactly what torch computes with; a session folds
the operators that widen them into constants, so that running costs what it costs in float32.
"""

from __future__ import annotations

import copy
import itertools
import string
from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from torch import Tensor

from export.graphs import Networks
from training.engine.rounding import LEVELS, to_levels
from training.networks.blocks import Network
from training.paths import Bits

Storage = Literal["float32", "float16", Bits]
LEAST_ELEMENTS = 64  # of a tensor that is worth the operators
DIGITS = 6  # of biases beside weights of few bits
LEAST_SHARED = 128  # bytes of a tensor that may lie in another file; onnxruntime wants smaller ones, as shapes, here


def rounded(networks: Networks, storage: Storage) -> Networks:
    """The networks of a bundle as rounded_network makes them."""
    generator = networks.generator
    return Networks(
        rounded_network(networks.autoencoder, storage),
        rounded_network(networks.flow, storage),
        generator and rounded_network(generator, storage),
    )


def store(model: onnx.ModelProto) -> None:
    """Replace every large float32 initialiser by the smallest tensor that gives exactly the same values."""
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        small = _smaller(tensor.name, values) if values.dtype == np.float32 and values.size >= LEAST_ELEMENTS else None
        if small is None:
            kept.append(tensor)
        else:
            kept += small[0]
            nodes += small[1]
    before = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend([*nodes, *before])


def share(model: onnx.ModelProto, others: Mapping[str, bytes]) -> list[str]:
    """Let large initialisers whose bytes lie in other files be read from there, as external data; returns which files.

    others: contents by name, of files in the same folder.
    """
    found = set()
    for tensor in model.graph.initializer:
        for file, content in others.items():
            length = len(tensor.raw_data)
            offset = content.find(tensor.raw_data) if length >= LEAST_SHARED else -1
            if offset >= 0:
                set_external_data(tensor, file, offset=offset, length=length)
                tensor.ClearField("raw_data")
                found.add(file)
                break
    return sorted(found)


def shorten_names(model: onnx.ModelProto) -> None:
    """Give every value but the graph's inputs and outputs a name of one to three letters."""
    graph = model.graph
    short = {node.name: node.name for node in (*graph.input, *graph.output)} | {"": ""}
    letters = (
        "".join(some)
        for length in itertools.count(1)
        for some in itertools.product(string.ascii_letters, repeat=length)
    )
    unused = (name for name in letters if name not in short)

    def shortened(name: str) -> str:
        if name not in short:
            short[name] = next(unused)
        return short[name]

    def shorten(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            tensor.name = shortened(tensor.name)
        for node in graph.node:
            node.ClearField("name")
            node.input[:] = [shortened(name) for name in node.input]
            node.output[:] = [shortened(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    shorten(attribute.g)
        for value in graph.output:
            value.name = shortened(value.name)

    shorten(graph)


def rounded_network(network: Network, storage: Storage) -> Network:
    """A copy whose parameters have only values that the storage holds.

    An encoder and a sieve keep 5 bits: fewer they would have to learn, which they can't beside a flow that is finished.
    """
    network = copy.deepcopy(network)
    if storage == "float32":
        return network
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if storage == "float16" or parameter.ndim == 1:
                few = storage in ("int5", "int4")
                parameter.copy_((_to_digits(parameter) if few else parameter).half().float())
            else:
                bits: Bits = "int5" if storage == "int4" and name.startswith(("encoder.", "sieve.")) else storage
                parameter.copy_(to_levels(parameter, LEVELS[bits]))
    return network


def _to_digits(values: Tensor) -> Tensor:
    """Values of DIGITS binary digits."""
    mantissa, exponent = values.frexp()
    return (mantissa * 2**DIGITS).round() * 2.0 ** (exponent - DIGITS)


def _smaller(name: str, values: NDArray[np.float32]) -> tuple[list[TensorProto], list[onnx.NodeProto]] | None:
    """Tensors and the nodes that make `name` of them; None where nothing smaller has the same values."""
    for most, of_rows in itertools.product(LEVELS.values(), _axes_of_rows(values.ndim)):
        along = tuple(axis for axis in range(values.ndim) if axis not in of_rows)
        scale = (np.abs(values).max(along, keepdims=True) / np.float32(most)).astype(np.float32)
        levels = np.rint(values / np.maximum(scale, np.finfo(np.float32).tiny)).astype(np.int8)
        if values.ndim > 1 and np.array_equal(levels.astype(np.float32) * scale, values):
            parts = {f"{name}.levels": levels, f"{name}.scale": scale}
            tensors = [numpy_helper.from_array(array, part) for part, array in parts.items()]
            wide = helper.make_node("Cast", [f"{name}.levels"], [f"{name}.wide"], to=TensorProto.FLOAT)
            return tensors, [wide, helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name])]
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.array_equal(halves.astype(np.float32), values):
        return None
    tensor = numpy_helper.from_array(halves, f"{name}.half")
    return [tensor], [helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT)]


def _axes_of_rows(dimensions: int) -> list[tuple[int, ...]]:
    """Axes that tell the rows of weights: those of outputs; of a transposed kernel they may be told by places, too."""
    return [(0,), (dimensions - 1,), *([(1,), (1, 2, 3)] if dimensions == 4 else [])]

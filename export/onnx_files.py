"""Write one torch module as an ONNX file, and count what it holds and costs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxscript.optimizer
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from export.branches import skip_where_none
from export.graphs import GraphSpec
from export.storage import share, shorten_names, store

OPSET = 18
LARGEST_FOLDED = 32  # elements of a constant that takes the place of what computes it; larger ones loading folds
OF_CONVOLUTIONS = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}  # their lists where none is given


def write(spec: GraphSpec, folder: Path, others: Sequence[str] = ()) -> dict[str, Any]:
    """Write `spec` into `folder`; returns what the manifest says of its inputs, outputs and cost.

    others: files of the folder from which it takes weights that they hold, too.
    """
    model = convert(spec)
    parameters = [math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    store(model)
    shorten_names(model)
    onnx.checker.check_model(model, full_check=True)
    weights_in = share(model, {file: (folder / file).read_bytes() for file in others})
    (folder / spec.file).write_bytes(model.SerializeToString(deterministic=True))
    return {
        "inputs": {node.name: _shape(node) for node in model.graph.input},
        "outputs": {node.name: _shape(node) for node in model.graph.output},
        "parameters": sum(parameters),
        **_counts(spec),
        **({"weights_in": weights_in} if weights_in else {}),
    }


def _counts(spec: GraphSpec) -> dict[str, int]:
    """Multiply-adds of a row, on average and at least."""
    cost = spec.cost
    if cost is None:
        return {"multiply_adds": multiply_adds(spec.module, spec.example)}
    once = multiply_adds(cost.once, spec.example)
    least = multiply_adds(cost.least, spec.example) if cost.least else once
    return {
        "multiply_adds": round(cost.runs * (least + cost.whole * (once - least))),
        "multiply_adds_at_least": least,
    }


def convert(spec: GraphSpec) -> onnx.ModelProto:
    """The graph in ONNX.

    The batch is the one dynamic axis. Weights lie in the model; debug data (names of source files) does not.
    """
    with warnings.catch_warnings():
        # torch.onnx itself calls a pytree function that it deprecates.
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
        program = torch.onnx.export(
            spec.module.eval(),
            spec.example,
            dynamo=True,
            dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in spec.example),
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            optimize=False,
        )
    assert program is not None
    onnxscript.optimizer.optimize(program.model, output_size_limit=LARGEST_FOLDED)
    model = program.model_proto
    _strip(model, spec)
    skip_where_none(model)
    return model


def multiply_adds(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiply-adds of convolutions and matrix products for one row more, in one run on it.

    What no row changes is folded on loading.
    """
    counts = []
    for rows in (1, 2):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*(tensor[:rows] for tensor in example))
        counts.append(int(counter.get_total_flops()) // 2)
    return counts[1] - counts[0]


def _strip(model: onnx.ModelProto, spec: GraphSpec) -> None:
    """Remove debug data and attributes that are defaults, and name the batch axis."""
    graph = model.graph
    for node in graph.node:
        said = [each for each in node.attribute if not _is_default(node, each)]
        del node.attribute[:]
        node.attribute.extend(said)
    for item in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    del graph.value_info[:]
    graph.name = spec.file.removesuffix(".onnx")
    for node in (*graph.input, *graph.output):
        node.type.tensor_type.shape.dim[0].dim_param = "batch"


def _is_default(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    """Whether a node is the same without an attribute. A kernel's shape is its weights'."""
    if node.op_type in ("Conv", "ConvTranspose"):  # of whose lists the schema doesn't know the defaults
        if attribute.name == "kernel_shape":
            return True
        if attribute.name in OF_CONVOLUTIONS:
            return set(attribute.ints) == {OF_CONVOLUTIONS[attribute.name]}
    schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
    return bool(attribute == schema.attributes[attribute.name].default_value)


def _shape(node: onnx.ValueInfoProto) -> list[Any]:
    tensor = node.type.tensor_type
    kind = TensorProto.DataType.Name(tensor.elem_type).lower()
    return [kind, *(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)]

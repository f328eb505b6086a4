"""Give a graph a branch: work on rows that are chosen by what is in them is skipped where there are none.

onnxruntime-node 1.30 dies of a division by zero where an operator is given no rows; Python's 1.32 does not.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

CHOOSES, PUTS_BACK = "NonZero", "ScatterND"


def skip_where_none(model: onnx.ModelProto) -> None:
    """Move all between every NonZero, which chooses rows, and the ScatterND that puts them back into an If.

    A graph without a NonZero stays as it is. The ScatterND's data go on as they are where no row is chosen. Raises
    ValueError where the graph is not of this kind.
    """
    nodes = _with_branches(list(model.graph.node), model.graph.name)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _with_branches(nodes: list[onnx.NodeProto], name: str) -> list[onnx.NodeProto]:
    """Nodes in their order, where a choice may lie within what another has chosen, or behind it."""
    choice = next((node for node in nodes if node.op_type == CHOOSES), None)
    if choice is None:
        return nodes
    chosen = choice.output[0]
    before, waiting = _parted(chosen, nodes)
    of_some = {output for node in waiting for output in node.output}
    back = [n for n, node in enumerate(waiting) if node.op_type == PUTS_BACK and node.input[0] not in of_some]
    if not back:
        raise ValueError(f"{name} does not put rows that {CHOOSES} chose back by {PUTS_BACK}")
    inside, after = waiting[: back[0] + 1], waiting[back[0] + 1 :]

    put_back = inside[-1]
    result, put_back.output[0] = put_back.output[0], f"{put_back.output[0]}.of_some"
    branching = [
        helper.make_node("Size", [chosen], [f"{chosen}.size"]),
        helper.make_node("Cast", [f"{chosen}.size"], [f"{chosen}.any"], to=TensorProto.BOOL),
        helper.make_node(
            "If",
            [f"{chosen}.any"],
            [result],
            then_branch=_branch("some", _with_branches(inside, name)),
            else_branch=_branch("none", [helper.make_node("Identity", [put_back.input[0]], [f"{result}.of_none"])]),
        ),
    ]
    return [*before, *branching, *_with_branches(after, name)]


def _parted(name: str, nodes: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes that do not need a value, and those that do, directly or not, each in their order."""
    needing, others, found = {name}, [], []
    for node in nodes:
        if needing.intersection(node.input):
            needing.update(node.output)
            found.append(node)
        else:
            others.append(node)
    return others, found


def _branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    """A graph of nodes, the last of which makes its one output, of floats; its inputs are what is around it."""
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output])

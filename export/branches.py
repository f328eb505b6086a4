"""Give a graph a branch: work on rows that are chosen by what is in them is skipped where there are none.

onnxruntime-node 1.30 dies of a division by zero where an operator is given no rows; Python's 1.32 does not.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

CHOOSES, PUTS_BACK = "NonZero", "ScatterND"


def skip_where_none(model: onnx.ModelProto) -> None:
    """Move all between every NonZero, which chooses rows, and each ScatterND that puts them back into an If.

    A graph without a NonZero stays as it is. A ScatterND's data go on as they are where no row is chosen. Raises
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
    chosen, is_any = choice.output[0], f"{choice.output[0]}.any"
    before, waiting = _parted(chosen, nodes)
    found = [
        *before,
        helper.make_node("Size", [chosen], [f"{chosen}.size"]),
        helper.make_node("Cast", [f"{chosen}.size"], [is_any], to=TensorProto.BOOL),
    ]
    while waiting:
        of_some = {output for node in waiting for output in node.output}
        back = [n for n, node in enumerate(waiting) if node.op_type == PUTS_BACK and node.input[0] not in of_some]
        if not back:
            raise ValueError(f"{name} does not put rows that {CHOOSES} chose back by {PUTS_BACK}")
        put_back = waiting.pop(back[0])
        inside, others = _leading_to(set(put_back.input), waiting)
        found.append(_branching(is_any, _with_branches(inside, name), put_back))
        shared, _ = _leading_to({value for node in others for value in node.input}, inside)
        free, waiting = _parted(chosen, [*shared, *others])
        found += _with_branches(free, name)
    return found


def _branching(condition: str, inside: list[onnx.NodeProto], put_back: onnx.NodeProto) -> onnx.NodeProto:
    """What gives the result of put_back, which follows upon the nodes inside, under a condition; else its data."""
    (result,) = put_back.output
    last = helper.make_node(put_back.op_type, put_back.input, [f"{result}.of_some"])
    last.attribute.extend(put_back.attribute)
    return helper.make_node(
        "If",
        [condition],
        [result],
        then_branch=_branch("some", [*inside, last]),
        else_branch=_branch("none", [helper.make_node("Identity", [put_back.input[0]], [f"{result}.of_none"])]),
    )


def _leading_to(names: set[str], nodes: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes that values of these names need, directly or not, and the others, each in their order."""
    needed, leading, others = set(names), [], []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            leading.append(node)
        else:
            others.append(node)
    return leading[::-1], others[::-1]


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

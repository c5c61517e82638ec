"""What an ONNX file may be, checked before ONNX Runtime sees it.

A checksum detects damage, not intent. So a graph is refused that points outside its file, runs other graphs, or whose tensors
for one image are larger than any classifier's: their sizes are computed anew here, whatever the file claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairquant.artifact.header import read_bounded
from fairquant.errors import UserError

#: More values than a tensor of any classifier of images has, and more than an image has along one side.
MOST_VALUES, MOST_SIDE = 1 << 28, 1 << 20
#: More values than any of them computes from constants when it starts, beside its weights.
MOST_CONSTANT = 1 << 24
#: More multiplications than any of them needs before the first image.
MOST_WORK = 1 << 33
#: More nodes than any of them has, and times that sizes are computed from sizes.
MOST_NODES, MOST_ROUNDS = 20_000, 60
#: Operations on few numbers, by which a graph computes sizes from sizes.
ON_SIZES = (
    "Shape", "Size", "Constant", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Identity", "Cast", "Reshape", "Add", "Sub",
    "Mul", "Div", "Mod", "Neg", "Abs", "Min", "Max", "Floor", "Ceil", "Round", "Equal", "Less", "Greater", "Not", "And", "Or",
    "Where", "ReduceProd", "ReduceSum", "Range", "Expand", "ConstantOfShape",
)  # fmt: skip
FEW = 64  # numbers
Sizes = Mapping[str, tuple[int, ...]]


def check_onnx(path: Path) -> bytes:
    """The content of a file whose graph is valid. Raises UserError that names what is wrong with it."""
    content = read_bounded(path)
    check_content(content, path)
    return content


def check_content(content: bytes, path: Path) -> None:
    """UserError that names what is wrong with the content of a file."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise UserError(f"{path}: not an ONNX file, or cut off") from error
    if not model.graph.node or not model.graph.input:
        raise UserError(f"{path}: not an ONNX file, or an empty one")
    for problem in (*_foreign_parts(model), *_impossible_tensors(model, len(content))):
        raise UserError(f"{path}: {problem}")
    try:
        onnx.checker.check_model(model)
        _bound_memory(model, len(content))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        raise UserError(f"{path}: its graph does not fit together: {_first_line(error)}") from error


def _foreign_parts(model: Any) -> Iterator[str]:
    if model.functions or model.training_info or model.graph.sparse_initializer:
        yield "it contains functions, training information or sparse tensors, which no exported classifier has"
    if len(model.graph.node) > MOST_NODES:
        yield f"it has {len(model.graph.node)} nodes, at most {MOST_NODES} are allowed"
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"node {node.name!r} is of the foreign domain {node.domain!r}"
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            yield f"node {node.name!r} is {node.op_type}, which runs a graph of its own and can take any amount of memory"
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if not 0 <= dim.dim_value <= MOST_SIDE:
                yield f"{value.name!r} has an impossible size, {dim.dim_value}"


def _impossible_tensors(model: Any, size: int) -> Iterator[str]:
    import onnx

    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    tensors = [*model.graph.initializer, *(a.t for a in attributes if a.HasField("t"))]
    for tensor in (*tensors, *(each for attribute in attributes for each in attribute.tensors)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            yield f"tensor {tensor.name!r} points outside the file, which is refused"
        if any(dim < 0 for dim in tensor.dims):
            yield f"tensor {tensor.name!r} has a negative size"
        elif (count := math.prod(tensor.dims)) > 8 * size:
            yield f"tensor {tensor.name!r} claims {count} values, more than the file can hold"


def _bound_memory(model: Any, file_bytes: int) -> None:
    """ValueError where some tensor of one image is larger than any classifier's, of a size that cannot be known, or grows faster
    than the batch, and where more is computed from constants than weights laid out from their codes."""
    one, sizes = _settled(model, 1)
    _, of_two = _settled(model, 2)
    for name in sizes.keys() & of_two.keys():
        if math.prod(of_two[name]) > 2 * math.prod(sizes[name]):
            raise ValueError(f"{name!r} grows faster than the batch, which is refused")
    fixed = {each.name for each in one.graph.initializer}
    constant, work = 0, 0
    for node in one.graph.node:
        if set(filter(None, node.input)) <= fixed:  # computed when the session starts, and kept
            fixed |= set(node.output)
            constant += sum(math.prod(sizes.get(name, ())) for name in node.output)
            work += _work(node, sizes)
    if constant > MOST_CONSTANT + 16 * file_bytes:
        raise ValueError(f"it computes {constant} constant values, which is refused")
    if work > MOST_WORK:
        raise ValueError(f"it takes {work:.1e} multiplications before the first image, which is refused")
    for node in one.graph.node:
        for name in filter(None, node.output):
            if name not in sizes:
                raise ValueError(
                    f"node {node.name!r} is {node.op_type} of a size that cannot be known, which is refused"
                )
            if math.prod(sizes[name]) > MOST_VALUES:
                raise ValueError(f"{name!r} would have {math.prod(sizes[name])} values, which is refused")


def _work(node: Any, sizes: Sizes) -> int:
    """Multiplications that a node takes, at most: of products, convolutions and recurrent layers, and of windows and sorting; of
    any other operation, its values."""
    shapes = [sizes.get(name, ()) for name in node.input]
    first, second, third = (*shapes, (), (), ())[:3]
    out = max((math.prod(sizes.get(name, ())) for name in node.output), default=0)
    values = max(out, *(math.prod(shape) for shape in shapes), 0)
    numbers = {each.name: each for each in node.attribute}
    if node.op_type in ("MatMul", "Gemm", "Einsum") and second:
        return math.prod(first) * max(second)
    if node.op_type.startswith(("Conv", "QLinearConv")) and second:
        # a transposed convolution takes its kernel once for each value that goes in
        of = math.prod(first) if node.op_type == "ConvTranspose" else out
        return of * math.prod(second[1:])
    if node.op_type in ("LSTM", "GRU", "RNN") and len(first) == 3:
        return first[0] * first[1] * (math.prod(second) + math.prod(third))
    if "kernel_shape" in numbers:  # of a pooling
        return out * int(math.prod(numbers["kernel_shape"].ints))
    if node.op_type == "LRN":
        return values * int(numbers["size"].i) if "size" in numbers else values
    if node.op_type in ("Det", "DFT", "STFT", "CumSum", "TopK", "Unique", "NonMaxSuppression"):
        return values * max((*first, 1))
    return values


def _settled(model: Any, batch: int) -> tuple[Any, Sizes]:
    """A copy for so many images, in which numbers stand for what computes sizes, and the sizes of its tensors."""
    copy = _for_images(model, batch)
    sizes = _sizes(copy)
    rounds = 0
    while _spell_out(copy, sizes):
        sizes, rounds = _sizes(copy), rounds + 1
        if rounds > MOST_ROUNDS:
            raise ValueError(f"its sizes are computed from sizes more than {MOST_ROUNDS} times over, which is refused")
    return copy, {**sizes, **{each.name: tuple(each.dims) for each in copy.graph.initializer}}


def _for_images(model: Any, batch: int) -> Any:
    """A copy with a batch of this size and no sizes in between."""
    import onnx

    one = onnx.ModelProto()
    one.CopyFrom(model)
    del one.graph.value_info[:]
    for node in one.graph.node:
        if node.op_type == "GroupNormalization":  # shape inference does not know it; its output has its input's shape
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    for value in one.graph.output:
        value.type.tensor_type.ClearField("shape")
    given = {each.name for each in one.graph.initializer}
    for value in one.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in given or len(dims) != 4 or any(dim.dim_value < 1 for dim in dims[1:]):
            raise ValueError(f"its input {value.name!r} is no batch of images of a known size")
        dims[0].dim_value = batch
    return one


def _sizes(model: Any) -> dict[str, tuple[int, ...]]:
    """Tensor -> its size, where all of it can be known."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    sizes = {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            sizes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return sizes


def _spell_out(model: Any, sizes: Sizes) -> bool:
    """Put the numbers themselves in place of every operation that computes few numbers from sizes and constants, which shape
    inference does not follow; whether there was one. ValueError for a Range of more than a tensor's side."""
    from onnx import numpy_helper

    graph = model.graph
    known = {each.name: numpy_helper.to_array(each) for each in graph.initializer if math.prod(each.dims) <= FEW}
    done = []
    for node in graph.node:
        numbers = _numbers(node, known, sizes)
        if numbers is not None:
            graph.initializer.append(numpy_helper.from_array(numbers, node.output[0]))
            done.append(node)
            if numbers.size <= FEW:
                known[node.output[0]] = numbers
    for node in done:
        graph.node.remove(node)
    return bool(done)


def _numbers(node: Any, known: Mapping[str, Any], sizes: Sizes) -> Any:
    """What an operation on few numbers gives, an array; None where it is another one or its inputs are not known."""
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    if node.op_type not in ON_SIZES or len(node.output) != 1:
        return None
    if node.op_type in ("Shape", "Size"):
        if node.input[0] not in sizes:
            return None
        size, bounds = sizes[node.input[0]], {attribute.name: attribute.i for attribute in node.attribute}
        whole = size[bounds.get("start", 0) : bounds.get("end")]
        return np.array(whole if node.op_type == "Shape" else math.prod(size), np.int64)
    names = [name for name in node.input if name]
    if any(name not in known for name in names) or _large(node, known):
        return None
    try:
        return np.asarray(ReferenceEvaluator(node).run(None, {name: known[name] for name in names})[0])
    except Exception:  # a node that does not fit its inputs: the checks that follow name it
        return None


def _large(node: Any, known: Mapping[str, Any]) -> bool:
    """Whether an operation makes many numbers of few. ValueError where it is a Range of more than a tensor's side."""
    if node.op_type == "Range":
        start, end, step = (float(known[name].reshape(-1)[0]) for name in node.input)
        if not step or not (end - start) / step <= MOST_SIDE:
            raise ValueError(f"node {node.name!r} is a Range that can ask for any amount of memory, which is refused")
        return False
    shape = {"ConstantOfShape": 0, "Expand": 1}.get(node.op_type)
    if node.op_type == "Constant":
        return any(math.prod(attribute.t.dims) > FEW for attribute in node.attribute)
    return shape is not None and not 0 <= math.prod(known[node.input[shape]].reshape(-1).tolist()) <= FEW


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

"""Graphs made to harm: refused with a reason, and with little memory."""

from __future__ import annotations

import json
import random
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from fairquant_rivals.codebook import CodebookEma
from helpers.artifacts import CLASSES, SIZE, build, export

from fairquant.errors import UserError
from fairquant.export.runtime import open_runtime

onnx = pytest.importorskip("onnx")


MEGABYTE = 1024  # in the kilobytes of getrusage


def grown(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE


def most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def odd_graph(rng: random.Random, model) -> None:
    """One thing in the graph becomes something odd."""
    nodes, tensors = model.graph.node, model.graph.initializer
    kind, node, tensor = rng.randrange(7), rng.choice(nodes), rng.choice(tensors)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([-1, 0, 1, 1 << 20, 1 << 40])
    elif kind == 1:
        node.op_type = rng.choice(["Expand", "Tile", "Resize", "Loop", "Range", "Pad", "Conv", "NonZero", "Evil", ""])
    elif kind == 2 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(["", "nowhere", node.output[0], "images", tensor.name])
    elif kind == 3 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice([-5, 0, 1 << 40])
        attribute.ints[:] = [rng.choice([-5, 0, 3, 1 << 40]) for _ in attribute.ints]
    elif kind == 4:
        tensor.raw_data = tensor.raw_data[: rng.randrange(1 + len(tensor.raw_data))]
    elif kind == 5:
        tensor.data_type = rng.choice([1, 2, 3, 7, 8, 11, 21, 22, 99])
    else:
        del nodes[rng.randrange(len(nodes))]


def test_graphs_that_lie_under_a_good_checksum_do_no_harm(untrained_export, tmp_path):
    from fairquant.export.onnx import sealed

    rng, bad = random.Random(1), tmp_path / "bad.onnx"
    images = np.zeros((2, 3, SIZE, SIZE), np.float32)
    open_runtime(untrained_export).logits(images)
    before, reasons = most_memory(), []
    for _ in range(220):
        model = onnx.load(untrained_export)
        odd_graph(rng, model)
        bad.write_bytes(sealed(model))
        try:
            open_runtime(bad).logits(images)
        except UserError as error:
            reasons.append(str(error))
    assert len(reasons) > 150
    assert all("bad.onnx" in reason for reason in reasons), reasons
    assert grown(before) < 200


def refuse(exported: Path, bad: Path, change, message: str) -> None:
    model = onnx.load(exported)
    change(model.graph)
    bad.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=message):
        open_runtime(bad)


def test_malicious_graphs_are_refused_with_a_reason_and_little_memory(untrained_export, tmp_path):
    make, array = onnx.helper.make_node, onnx.numpy_helper.from_array

    def outside(graph):
        graph.initializer[0].ClearField("raw_data")
        graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")

    def huge(graph):
        del graph.initializer[0].dims[:]
        graph.initializer[0].dims.extend([1 << 20, 1 << 20])

    def negative(graph):
        graph.initializer[0].dims[0] = -3

    def constant(graph):
        graph.initializer.append(array(np.array([1 << 30, 64], np.int64), "x"))
        graph.node.insert(0, make("ConstantOfShape", ["x"], ["y"], name="bomb"))

    def foreign(graph):
        graph.node.append(make("Evil", ["logits"], ["z"], name="evil", domain="evil.example"))

    def growing(graph):
        graph.initializer.append(array(np.array([1 << 20, 1 << 12, 3], np.int64), "shape"))
        graph.initializer.append(array(np.ones((1, 1, 1), np.float32), "one"))
        graph.node.append(make("Expand", ["one", "shape"], ["grown"], name="grow"))

    def growing_in_secret(graph):
        """To a size that comes out of the images, with a lie about it."""
        graph.node.append(make("NonZero", ["images"], ["places"], name="hide"))
        graph.initializer.append(array(np.ones((1, 1), np.float32), "one"))
        graph.node.append(make("ReduceMax", ["places"], ["size"], keepdims=1, name="most"))
        graph.initializer.append(array(np.array([2], np.int64), "two"))
        graph.node.append(make("Expand", ["size", "two"], ["shape"], name="shape"))
        graph.node.append(make("Expand", ["one", "shape"], ["grown"], name="grow"))
        graph.value_info.append(onnx.helper.make_tensor_value_info("grown", onnx.TensorProto.FLOAT, [1, 1]))

    def ranging(graph):
        graph.initializer.append(array(np.array(0, np.int64), "zero"))
        graph.initializer.append(array(np.array(1 << 40, np.int64), "far"))
        graph.initializer.append(array(np.array(1, np.int64), "step"))
        graph.node.append(make("Range", ["zero", "far", "step"], ["numbers"], name="far"))

    def many(graph):
        """Each constant is within what a tensor may be; they are all kept."""
        graph.initializer.append(array(np.array([1 << 24], np.int64), "x"))
        graph.node.extend(make("ConstantOfShape", ["x"], [f"y{n}"], name=f"bomb {n}") for n in range(6))

    def superlinear(graph):
        """Small for one image, huge for a batch."""
        graph.initializer.append(array(np.array([0], np.int64), "first"))
        graph.node.append(make("Shape", ["images"], ["all_sizes"], name="sizes"))
        graph.node.append(make("Gather", ["all_sizes", "first"], ["count"], name="count"))
        graph.node.append(make("Concat", ["count"] * 5, ["cube"], name="cube", axis=0))
        graph.node.append(make("ConstantOfShape", ["cube"], ["grown"], name="grow"))

    def branching(graph):
        body = onnx.helper.make_graph([make("Identity", ["logits"], ["w"])], "b", [], [])
        graph.node.append(make("If", ["logits"], ["v"], name="fork", then_branch=body, else_branch=body))

    before, bad = most_memory(), tmp_path / "bad.onnx"
    refuse(untrained_export, bad, growing, "values, which is refused")
    refuse(untrained_export, bad, growing_in_secret, "of a size that cannot be known")
    refuse(untrained_export, bad, constant, "values, which is refused")
    refuse(untrained_export, bad, outside, "points outside the file")
    refuse(untrained_export, bad, huge, "more than the file can hold")
    refuse(untrained_export, bad, negative, "negative size")
    refuse(untrained_export, bad, ranging, "is a Range that can ask for any amount of memory")
    refuse(untrained_export, bad, many, "constant values, which is refused")
    refuse(untrained_export, bad, superlinear, "'grown' grows faster than the batch")
    refuse(untrained_export, bad, branching, "runs a graph of its own")
    refuse(untrained_export, bad, foreign, "foreign domain")
    assert grown(before) < 200


def constants(graph, **sizes: list[int]) -> None:
    """Constants of these sizes, by few bytes."""
    for name, size in sizes.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(size, np.int64), f"{name} size"))
        graph.node.append(onnx.helper.make_node("ConstantOfShape", [f"{name} size"], [name], name=name))


def recurrent(kind: str, gates: int):
    def change(graph):
        constants(graph, X=[2000, 16, 64], W=[1, 512 * gates, 64], R=[1, 512 * gates, 512])
        graph.node.append(onnx.helper.make_node(kind, ["X", "W", "R"], ["", "Y"], name=kind, hidden_size=512))

    return change


def pooled(graph):
    constants(graph, X=[1, 1, 2500, 2500])
    graph.node.append(
        onnx.helper.make_node("AveragePool", ["X"], ["Y"], name="pool", kernel_shape=[1500, 1500], strides=[10, 10])
    )


def normalized(graph):
    constants(graph, X=[1, 4000, 16, 32])
    graph.node.append(onnx.helper.make_node("LRN", ["X"], ["Y"], name="lrn", size=20001))


def determinant(graph):
    constants(graph, X=[3900, 3900])
    graph.node.append(onnx.helper.make_node("Det", ["X"], ["Y"], name="det"))


def transposed(graph):
    constants(graph, X=[1, 256, 32, 32], K=[256, 16, 48, 48])
    graph.node.append(onnx.helper.make_node("ConvTranspose", ["X", "K"], ["Y"], name="transposed"))


WORK = {
    "LSTM": recurrent("LSTM", 4), "GRU": recurrent("GRU", 3), "RNN": recurrent("RNN", 1), "pool": pooled, "LRN": normalized,
    "Det": determinant, "ConvTranspose": transposed,
}  # fmt: skip


@pytest.mark.parametrize("kind", WORK)
def test_work_before_the_first_image_is_bounded(untrained_export, tmp_path, kind):
    refuse(untrained_export, tmp_path / "bad.onnx", WORK[kind], "multiplications before the first image")


def test_chains_are_bounded(untrained_export, tmp_path):
    make = onnx.helper.make_node

    def long(graph):
        graph.node.extend(
            make("Relu", [f"r{n - 1}" if n else "logits"], [f"r{n}"], name=f"r{n}") for n in range(20_001)
        )

    def sizes_of_sizes(graph):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 2], np.int64), "s0"))
        for n in range(100):
            graph.node.append(make("ConstantOfShape", [f"s{n}"], [f"c{n}"], name=f"c{n}"))
            graph.node.append(make("Flatten", [f"c{n}"], [f"f{n}"], name=f"f{n}"))
            graph.node.append(make("Shape", [f"f{n}"], [f"s{n + 1}"], name=f"s{n}"))

    refuse(untrained_export, tmp_path / "bad.onnx", long, "nodes, at most 20000 are allowed")
    refuse(untrained_export, tmp_path / "bad.onnx", sizes_of_sizes, "computed from sizes more than 60 times over")


def test_foreign_and_oversized_files_are_refused(tmp_path):
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04\x95" + b"c" * 500)
    (tmp_path / "pickle.onnx").write_bytes(b"\x80\x04\x95" + b"c" * 500)
    entry = {"dtype": "F32", "shape": [1 << 30, 1 << 30], "data_offsets": [0, 4]}
    header = json.dumps({"w": entry, "__metadata__": {"format": "fairquant-1"}})
    (tmp_path / "shape.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 4)
    (tmp_path / "length.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    for name in ("large.safetensors", "large.onnx"):
        with open(tmp_path / name, "wb") as stream:
            stream.truncate(5 << 30)  # a hole: it takes no space
    before = most_memory()
    for file in tmp_path.iterdir():
        message = "5.4 GB is more than" if file.name.startswith("large") else file.name
        with pytest.raises(UserError, match=message):
            open_runtime(file)
    assert grown(before) < 50


@pytest.mark.parametrize(("name", "size"), [("convnext_atto", 32), ("tiny_vit_5m_224", 64)])
def test_what_we_export_ourselves_is_not_refused(tmp_path, name, size):
    """ConvNeXt's graph has a Range, TinyViT's makes windows."""
    source = build(tmp_path / "model.safetensors", CodebookEma(), name, size)
    images = np.random.default_rng(1).normal(size=(3, 3, size, size)).astype(np.float32)
    assert open_runtime(export(source)).logits(images).shape == (3, len(CLASSES))

"""Files that are cut off, altered or made to harm: refused with a reason, and with little memory."""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from fairquant_paper.baq import Baq
from fairquant_rivals.codebook import CodebookEma

from fairquant.artifact.format import BLANK, seal
from fairquant.export.runtime import Preprocessing, open_runtime
from fairquant.artifact.save import save_artifact
from fairquant.bits import attach, find_layers
from fairquant.bits.problem import BitChoices, Budget
from fairquant.errors import UserError
from fairquant.roles import BitPlan

onnx = pytest.importorskip("onnx")
NAME, SIZE, CLASSES = "resnet10t", 32, ["a", "b", "c"]
MEGABYTE = 1024  # in the kilobytes of getrusage


def build(path: Path, quantizer, name: str = NAME, size: int = SIZE, **options) -> Path:
    """An artifact of an untrained model with all widths in it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=len(CLASSES), **options).eval()
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.randint(9, (l.units,)) for l in layers}, {l.name: l.unit_size for l in layers})
    attachment = attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(8.0))
    attachment.project_to_budget()
    weights = attachment.encode()
    attachment.detach()
    metadata = {
        "architecture": {"source": "timm", "name": name, "image_size": size, "options": options}, "classes": CLASSES,
        "preprocessing": {"image_size": size, "mean": [0.5] * 3, "std": [0.2] * 3, "channels_last": False},
        "recipe": {"seed": 0, "dataset": {"name": "isic2019", "root": "data"}}, "plan": {}, "audit": {}, "groups": ["x", "y"],
    }  # fmt: skip
    save_artifact(path, model, layers, weights, metadata)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("artifact") / "model.safetensors", Baq())


@pytest.fixture(scope="module")
def exported(artifact) -> Path:
    return export(artifact)


def export(source: Path) -> Path:
    from fairquant.export.onnx import export_onnx
    from fairquant.export.ranges import Calibration

    out = source.with_suffix(".onnx")
    size = open_runtime(source).metadata["preprocessing"]["image_size"]
    images = np.random.default_rng(0).normal(size=(4, 3, size, size)).astype(np.float32)
    export_onnx(source, out, calibration=Calibration([images]))
    return out


def grown(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE


def most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Truncated, altered, overwritten, lengthened, spliced."""
    draw = np.random.default_rng(7)
    for number in range(count):
        kind, at = number % 5, int(draw.integers(0, len(content)))
        changed = bytearray(content)
        if kind == 0:
            changed = changed[:at]
        elif kind == 1:
            changed[at] ^= int(draw.integers(1, 256))
        elif kind == 2:
            changed[at : at + 64] = draw.bytes(64)
        elif kind == 3:
            changed += draw.bytes(int(draw.integers(1, 4000)))
        else:
            del changed[at : at + int(draw.integers(1, 5000))]
        if bytes(changed) != content:
            yield bytes(changed)


@pytest.mark.parametrize("format", ["artifact", "exported"])
def test_two_hundred_mutated_files_are_refused(format, request, tmp_path):
    """Every altered byte is: both formats have a checksum over the whole file."""
    source = request.getfixturevalue(format)
    bad, refused = tmp_path / f"bad{source.suffix}", 0
    for changed in mutations(source.read_bytes(), 220):
        bad.write_bytes(changed)
        with pytest.raises(UserError, match=r"bad\."):
            open_runtime(bad)
        refused += 1
    assert refused >= 200


# --- sealed anew: whoever makes a file can make its checksum, too ---

ODD = [0, -1, 1, 3, 1 << 20, 1 << 31, 1 << 40, 1 << 62, 2.5, float("inf"), None, True, "", "x", "../../etc/passwd",
       [], {}, [1 << 20] * 4, {"a": 1}, ["a"] * 3, "F32", "I64"]  # fmt: skip


def places(node: object, path: tuple = ()) -> Iterator[tuple]:
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node[:4]) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def altered(rng: random.Random, root: dict) -> None:
    """Something in it is left away, or becomes something odd."""
    path = rng.choice([place for place in places(root) if place])
    node = root
    for key in path[:-1]:
        node = node[key]
    if rng.random() < 0.1:
        del node[path[-1]]
    else:
        node[path[-1]] = rng.choice(ODD)


def opened(content: bytes) -> tuple[dict, dict, bytes]:
    """Tensors, metadata, body."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = header.pop("__metadata__")
    metadata = {key: json.loads(value) for key, value in text.items() if key not in ("format", "checksum")}
    return header, metadata, content[8 + length :]


def sealed_anew(header: dict, metadata: dict, body: bytes) -> bytes:
    text = {key: json.dumps(value) for key, value in metadata.items()}
    text |= {"format": "fairquant-1", "checksum": BLANK}
    full = json.dumps({**header, "__metadata__": text}).encode()
    return seal(struct.pack("<Q", len(full)) + full + body)


def test_headers_that_lie_under_a_good_checksum_do_no_harm(artifact, tmp_path):
    """Refused, or what they say is of no consequence; never another error, never much memory."""
    header, metadata, body = opened(artifact.read_bytes())
    rng, bad = random.Random(0), tmp_path / "bad.safetensors"
    open_runtime(artifact)
    before, reasons = most_memory(), []
    for _ in range(260):
        tensors, facts = copy.deepcopy(header), copy.deepcopy(metadata)
        for _ in range(rng.choice([1, 1, 2])):
            altered(rng, rng.choice([tensors, facts, {"layers": facts.get("layers")}, facts]))
        bad.write_bytes(sealed_anew(tensors, facts, body))
        try:
            Preprocessing.of(open_runtime(bad).metadata, bad)
        except UserError as error:
            reasons.append(str(error))
    assert len(reasons) > 150
    assert all("bad.safetensors" in reason for reason in reasons), reasons
    assert grown(before) < 150


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda facts: facts["layers"][3].update(shape=[64, 1 << 20, 512]), "more than a model of this kind"),
        (lambda facts: facts["layers"][3].update(shape=[64, 1 << 14, 32]), "the model that it names has"),
        (lambda facts: facts["layers"][3].update(shape=[64, -3, 3, 3]), "damaged or refused"),
        (lambda facts: facts["architecture"].update(options={"checkpoint_path": "/tmp/evil.pth"}), "'checkpoint_path', which is refused"),
        (lambda facts: facts["architecture"].update(options={"pretrained_cfg": {"url": "x"}}), "'pretrained_cfg', which is refused"),
        (lambda facts: facts["architecture"].update(options={"stem_width": 1 << 14}), "the model that it names has"),
        (lambda facts: facts["architecture"].update(name="hf-hub:evil/model"), "timm has no model"),
        (lambda facts: facts["architecture"].update(name="vit_giant_patch14_224"), "the model that it names has"),
        (lambda facts: facts["architecture"].update(image_size=1 << 20), "image size is 1048576, which is refused"),
        (lambda facts: facts.update(classes=["a"] * 100_000), "the model that it names has"),
        (lambda facts: facts.pop("layers"), "it has no layers"),
        (lambda facts: facts.update(activations={"../conv1": [8, True]}), "do not fit the model"),
    ],
)  # fmt: skip
def test_a_lie_is_named(artifact, tmp_path, change, message):
    header, metadata, body = opened(artifact.read_bytes())
    change(metadata)
    (tmp_path / "bad.safetensors").write_bytes(sealed_anew(header, metadata, body))
    before = most_memory()
    with pytest.raises(UserError, match=message):
        open_runtime(tmp_path / "bad.safetensors")
    assert grown(before) < 100


def test_a_codebook_that_is_cut_off_is_named(tmp_path):
    header, metadata, body = opened(build(tmp_path / "model.safetensors", CodebookEma()).read_bytes())
    entry = header["fairquant.codebooks"]
    entry["shape"] = [entry["shape"][0] // 2]
    entry["data_offsets"][1] = entry["data_offsets"][0] + 4 * entry["shape"][0]
    (tmp_path / "bad.safetensors").write_bytes(sealed_anew(header, metadata, body))
    with pytest.raises(UserError, match=r"codebook is cut off|cannot be read"):
        open_runtime(tmp_path / "bad.safetensors")


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


def test_graphs_that_lie_under_a_good_checksum_do_no_harm(exported, tmp_path):
    from fairquant.export.onnx import sealed

    rng, bad = random.Random(1), tmp_path / "bad.onnx"
    images = np.zeros((2, 3, SIZE, SIZE), np.float32)
    open_runtime(exported).logits(images)
    before, reasons = most_memory(), []
    for _ in range(220):
        model = onnx.load(exported)
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


def test_malicious_graphs_are_refused_with_a_reason_and_little_memory(exported, tmp_path):
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

    def branching(graph):
        body = onnx.helper.make_graph([make("Identity", ["logits"], ["w"])], "b", [], [])
        graph.node.append(make("If", ["logits"], ["v"], name="fork", then_branch=body, else_branch=body))

    before, bad = most_memory(), tmp_path / "bad.onnx"
    refuse(exported, bad, growing, "values, which is refused")
    refuse(exported, bad, growing_in_secret, "of a size that cannot be known")
    refuse(exported, bad, constant, "values, which is refused")
    refuse(exported, bad, outside, "points outside the file")
    refuse(exported, bad, huge, "more than the file can hold")
    refuse(exported, bad, negative, "negative size")
    refuse(exported, bad, ranging, "is a Range that can ask for any amount of memory")
    refuse(exported, bad, branching, "runs a graph of its own")
    refuse(exported, bad, foreign, "foreign domain")
    assert grown(before) < 200


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

"""Headers that are damaged, foreign or lie: refused with a reason, and with little memory."""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
from collections.abc import Iterator

import pytest
import torch
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from helpers.artifacts import build, saved
from safetensors.torch import save_file

import fairquant
from fairquant.artifact.format import BLANK, seal
from fairquant.errors import UserError
from fairquant.export.runtime import Preprocessing, open_runtime


def test_truncated_foreign_and_missing_files_say_what_is_wrong(tmp_path, strange):
    path, _, _ = saved(tmp_path, strange, Uniform())
    content = path.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for length, message in (
        (len(content) - 1, "cut off"),
        (200, "cut off"),
        (4, "not a safetensors file"),
        (0, "not a safetensors"),
    ):
        bad.write_bytes(content[:length])
        with pytest.raises(UserError, match=message):
            fairquant.load(bad)
    bad.write_bytes(content + b"x")
    with pytest.raises(UserError, match="longer than its header says"):
        fairquant.load(bad)
    save_file({"weight": torch.ones(2)}, bad)
    with pytest.raises(UserError, match="holds plain weights, and no quantized model of fairquant"):
        fairquant.load(bad)
    save_file({"weight": torch.ones(2)}, bad, metadata={"format": "fairquant-9"})
    with pytest.raises(UserError, match="its format is 'fairquant-9', this version reads 'fairquant-1'"):
        fairquant.load(bad)
    bad.write_bytes(b"\x80\x04" + b"pickled" * 30)
    with pytest.raises(UserError, match="not a safetensors file"):
        fairquant.load(bad)
    with pytest.raises(UserError, match="cannot be read"):
        fairquant.load(tmp_path / "nowhere.safetensors")


MEGABYTE = 1024  # in the kilobytes of getrusage


def grown(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE


def most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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


def test_headers_that_lie_under_a_good_checksum_do_no_harm(untrained_artifact, tmp_path):
    """Refused, or what they say is of no consequence; never another error, never much memory."""
    header, metadata, body = opened(untrained_artifact.read_bytes())
    rng, bad = random.Random(0), tmp_path / "bad.safetensors"
    open_runtime(untrained_artifact)
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
    ("change", "message"),
    [
        (lambda facts: facts["layers"][3].update(shape=[64, 1 << 20, 512]), "more than a model of this kind"),
        (lambda facts: facts["layers"][3].update(shape=[64, 1 << 14, 32]), "the model that it names has"),
        (lambda facts: facts["layers"][3].update(shape=[64, -3, 3, 3]), "damaged or refused"),
        (lambda facts: facts["architecture"].update(options={"checkpoint_path": "/tmp/evil.pth"}), "the option 'checkpoint_path' is refused"),
        (lambda facts: facts["architecture"].update(options={"pretrained_cfg": {"url": "x"}}), "the option 'pretrained_cfg' is refused"),
        (lambda facts: facts["architecture"].update(options={"stem_width": 1 << 12}), "the model that it names has"),
        (lambda facts: facts["architecture"].update(name="hf-hub:evil/model"), "timm has no model"),
        (lambda facts: facts["architecture"].update(name="vit_giant_patch14_224"), "the model that it names has"),
        (lambda facts: facts["architecture"].update(image_size=1 << 20), "its architecture.image_size: Input should be less than or equal to 4096"),
        (lambda facts: facts.update(classes=[f"a{n}" for n in range(100_000)]), "the model that it names has"),
        (lambda facts: facts.update(classes=["a"] * 3), "two of its classes have one name"),
        (lambda facts: facts["classes"].__setitem__(0, "\x1b[31mred"), "a name of its classes has characters that control"),
        (lambda facts: facts["architecture"].update(name="resnet18.foo"), "timm has no weights 'foo' of 'resnet18'"),
        (lambda facts: facts.update(classes={}), "its classes: Input should be a valid list"),
        (lambda facts: facts.update(recipe=5), "its recipe: Input should be a valid dictionary"),
        (lambda facts: facts.update(groups=[{}]), "its groups: Input should be a valid string"),
        (lambda facts: facts["preprocessing"].update(image_size=float("inf")), "its preprocessing.image_size"),
        (lambda facts: facts["preprocessing"].update(std=[0.2, float("nan"), 0.2]), "its preprocessing.std"),
        (lambda facts: facts["preprocessing"].update(std=[0.2, 0.0, 0.2]), "its preprocessing.std: must be above 0"),
        (lambda facts: facts.update(operating_point={"classes": ["nobody"], "threshold": 0.5}), "classes that it does not have"),
        (lambda facts: facts["architecture"].update(options={"drop_rate": "x"}), "timm cannot build"),
        (lambda facts: facts["architecture"].update(options={"depth": 1_000_000}), "'depth' is 1000000, which is refused"),
        (lambda facts: facts["architecture"].update(options={"layers": [100_000, 2, 2, 2]}), "which is refused|larger than"),
        (lambda facts: facts["architecture"].update(options={"img_size": 16384}), "'img_size' is 16384, which is refused"),
        (lambda facts: facts["architecture"].update(options={"a": [[[[[[1]]]]]]}), "nested too deep"),
        (lambda facts: facts.pop("layers"), "it has no layers"),
        (lambda facts: facts.update(activations={"../conv1": [8, True]}), "do not fit the model"),
        (lambda facts: facts.update(activations="int8"), "its activations are 'int8': damaged or refused"),
    ],
)  # fmt: skip
def test_a_false_header_is_named(untrained_artifact, tmp_path, change, message):
    header, metadata, body = opened(untrained_artifact.read_bytes())
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

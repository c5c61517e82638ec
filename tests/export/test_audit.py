"""Other data for a file: classes numbered as it numbers them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fairquant.errors import UserError


def test_labels_of_other_data_are_numbered_as_the_files_classes_are():
    from fairquant.export.audit import audit_splits
    from fairquant.roles import Split, Splits
    from fairquant.roles.dataset import ArrayImages

    def split(labels, *ids):
        rows = np.arange(len(labels))
        array = np.zeros((len(labels), 4, 4, 3), np.uint8) + np.array(labels, np.uint8)[:, None, None, None]
        return Split(ArrayImages(array, rows), np.array(labels), np.zeros(len(labels), np.int64), ids)

    splits = Splits(
        train=split([0], "a"),
        validation=split([1, 0], "b", "c"),
        test=split([1], "d"),
        class_names=("mole", "wart"),
        group_names=("all",),
        attributes=("x",),
        fingerprint="",
    )
    test = audit_splits(splits, ["wart", "burn", "mole"], True, Path("m.onnx")).test
    assert test.ids == ("a", "b", "c", "d")
    assert test.labels.tolist() == [2, 0, 2, 0]
    assert [int(test.images[row].max()) for row in range(4)] == [0, 1, 0, 1]
    assert audit_splits(splits, ["mole", "wart"], False, Path("m.onnx")).test.ids == ("d",)
    with pytest.raises(UserError, match="it has no class 'wart' of these data. Its classes: mole, burn"):
        audit_splits(splits, ["mole", "burn"], False, Path("m.onnx"))

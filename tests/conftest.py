"""What tests share: small models, small data, and the project's own plugins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.problem import BitChoices, make_problem, squared_errors
from fairquant.registry import Plugins, Registry, discover

REPOSITORY = Path(__file__).resolve().parent.parent
#: Real data lie beside the checkout, or where FAIRQUANT_TEST_DATA says; tests that need them skip without.
REAL_DATA = Path(os.environ.get("FAIRQUANT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return discover()


@pytest.fixture(scope="session")
def registry(plugins: Plugins) -> Registry:
    return plugins.registry


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in its own folder, with its own cache, untracked unless it says otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FAIRQUANT_RUNS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    """The tests' models are tiny: more threads cost more than they bring, and two workers share the cores."""
    side_by_side = "PYTEST_XDIST_WORKER" in os.environ
    torch.set_num_threads(1 if side_by_side else min(2, torch.get_num_threads()))
    if side_by_side:
        os.environ["OMP_NUM_THREADS"] = "1"  # for what the tests start


@pytest.fixture(scope="session")
def isic_root() -> Path:
    return _real("isic2019")


@pytest.fixture(scope="session")
def fitzpatrick_root() -> Path:
    return _real("fitzpatrick17k")


def _real(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real data {name} are not on this machine (FAIRQUANT_TEST_DATA names their folder)")
    return folder


class Strange(nn.Module):
    """All that a stranger may bring: grouped, depthwise, padded and strided convolutions, a weight shared by two
    modules, a module called twice, a Linear on tokens, attention, no biases, an
    activation in place, a frozen layer, a batch norm."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="circular")
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.twice = nn.Linear(8, 8, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.frozen = nn.Linear(8, 8)
        self.frozen.requires_grad_(False)
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.depthwise(F.relu(self.grouped(F.relu(self.norm(self.stem(images)))), inplace=True))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = F.gelu(self.second(F.gelu(self.first(tokens))))
        tokens = tokens + self.twice(F.gelu(self.twice(tokens)))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(F.gelu(self.frozen(tokens.mean(1))))


@pytest.fixture
def strange() -> nn.Module:
    torch.manual_seed(3)
    return Strange()


class Small(nn.Module):
    """Two convolutions and a head: quick to train."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.one(images)), 2)
        return self.head(F.relu(self.two(x)).mean((2, 3)))


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(5)
    return Small()


def problem_of(layers, importance, scores, quantizer, choices, budget):
    """An allocation problem with the errors of the quantizer. choices: free widths."""
    errors = squared_errors(layers, quantizer, choices)
    return make_problem(layers, importance, scores, errors, BitChoices(choices), budget)


class Triples:
    """A data set of (image, label, group): a bright square tells the class, its contrast depends on the group."""

    def __init__(self, count: int, seed: int, classes: int = 2, groups: int = 2, size: int = 12) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(classes, (count,), generator=draw)
        self.groups = torch.randint(groups, (count,), generator=draw)
        self.images = torch.randn(count, 3, size, size, generator=draw) * 0.4
        for row in range(count):
            start = 2 + 3 * int(self.labels[row])
            self.images[row, :, start : start + 3, 2:8] += 1.5 / (1 + int(self.groups[row]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.images[index], int(self.labels[index]), int(self.groups[index])


#: The files that take longest, begun first: with two workers the last one would otherwise run alone.
LONGEST = (
    "test_docs.py", "test_search.py", "test_compare.py", "test_distributed.py", "test_onnx.py", "test_cli.py",
    "test_pipeline.py", "test_recipes.py", "test_examples.py", "test_new_plugin.py", "test_options.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))

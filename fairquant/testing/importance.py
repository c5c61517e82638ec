"""The contract of role `importance`."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from fairquant.bits import find_layers
from fairquant.roles import Batch, ErrorImportance
from fairquant.roles.importance import UnitKind
from fairquant.testing.cases import GROUPS, SmallNetwork, chosen, cut, images
from fairquant.testing.contract import NotApplicable, everywhere

SEEDS = st.integers(0, 999)


def _table(importance: Any, seed: int, batches: list[Batch], unit: UnitKind = "channel") -> Tensor:
    model = SmallNetwork(seed)
    found: Tensor = importance.measure(model, batches, find_layers(model, unit), GROUPS).table()
    return found


def _group_errors(
    importance: Any, model: SmallNetwork, batches: list[Batch], unit: UnitKind = "channel"
) -> dict[str, Tensor]:
    """What it says of three made-up errors, the first of them none."""
    if not isinstance(importance, ErrorImportance):
        raise NotApplicable("it has no group_errors")
    layers, sizes = find_layers(model, unit), torch.tensor([0.0, 0.1, 1.0])
    errors = {}
    for layer in layers:
        weight, draw = layer.weight.detach(), torch.Generator().manual_seed(layer.units)
        noise = torch.randn(3, *weight.shape, generator=draw).to(weight)
        errors[layer.name] = noise * sizes.to(weight).view(-1, *[1] * weight.dim())
    found = dict(importance.group_errors(model, batches, layers, GROUPS, errors))
    assert set(found) == set(errors), f"layers measured: {sorted(found)}"
    for layer in layers:
        shape, wanted = tuple(found[layer.name].shape), (len(GROUPS), layer.units, 3)
        assert shape == wanted, f"layer {layer.name!r}: the errors are {shape}, not {wanted}"
    return found


def scores_every_unit_for_every_group(importance: Any) -> None:
    """Every layer has a finite score [G, U]."""

    def law(seed: int, unit: UnitKind) -> None:
        model = SmallNetwork(seed)
        layers = find_layers(model, unit)
        found = importance.measure(model, [images(seed)], layers, GROUPS)
        assert set(found.scores) == {layer.name for layer in layers}, f"layers scored: {sorted(found.scores)}"
        for layer in layers:
            shape = tuple(found.scores[layer.name].shape)
            assert shape == (3, layer.units), f"layer {layer.name!r}: scores are {shape}, not {(3, layer.units)}"
            assert torch.isfinite(found.scores[layer.name]).all(), f"layer {layer.name!r}: scores are not finite"

    everywhere(law, examples=8, seed=SEEDS, unit=st.sampled_from(["channel", "tensor"]))


def leaves_the_model_as_it_was(importance: Any) -> None:
    """Weights, buffers, gradients, requires_grad, mode and random state are as before."""
    model = SmallNetwork(0).train()
    model.norm.eval()
    model.head.requires_grad_(False)
    model.stem.weight.grad = torch.full_like(model.stem.weight, 7.0)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    importance.measure(model, cut(images(0), 4), find_layers(model, "channel"), GROUPS)
    if isinstance(importance, ErrorImportance):
        _group_errors(importance, model, cut(images(0), 4))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, kept[name])]
    assert not changed, f"it changed {', '.join(changed)}"
    assert [module.training for module in model.modules()] == modes, "it changed training or evaluation mode"
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted, "it changed requires_grad"
    own = model.stem.weight.grad
    assert own is not None and bool((own == 7).all()), "it changed a gradient"
    others = [n for n, p in model.named_parameters() if p.grad is not None and n != "stem.weight"]
    assert not others, f"it left gradients on {', '.join(others)}"
    assert torch.equal(torch.get_rng_state(), random_state), "it drew from the global random state"


def batches_do_not_matter(importance: Any) -> None:
    """The same images in other batches and another order: the same scores."""

    def law(seed: int, size: int) -> None:
        batch = images(seed)
        order = torch.randperm(len(batch.labels), generator=torch.Generator().manual_seed(seed + 1))
        one = _table(importance, seed, [batch])
        two = _table(importance, seed, cut(chosen(batch, order), size))
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-12), f"batches of {size} give other scores than one batch"

    everywhere(law, examples=8, seed=SEEDS, size=st.integers(1, 6))


def scores_follow_their_groups(importance: Any) -> None:
    """Groups numbered otherwise: their rows move with them."""

    def law(seed: int, order: list[int]) -> None:
        batch = images(seed)
        renumbered = Batch(batch.images, batch.labels, torch.tensor(order).argsort()[batch.groups])
        one, two = _table(importance, seed, [batch]), _table(importance, seed, [renumbered])
        assert torch.allclose(one[order], two, rtol=1e-6, atol=1e-12), f"the numbering {order} gives other scores"

    everywhere(law, examples=8, seed=SEEDS, order=st.permutations([0, 1, 2]))


def group_errors_are_errors(importance: Any) -> None:
    """Measured errors [G, U, K] are finite, not negative, and 0 where the weights do not change."""

    def law(seed: int, unit: UnitKind) -> None:
        for name, table in _group_errors(importance, SmallNetwork(seed), [images(seed)], unit).items():
            assert torch.isfinite(table).all(), f"layer {name!r}: errors are not finite"
            assert (table >= 0).all(), f"layer {name!r}: an error is negative"
            assert (table[:, :, 0] == 0).all(), f"layer {name!r}: weights that do not change have an error"

    everywhere(law, examples=8, seed=SEEDS, unit=st.sampled_from(["channel", "tensor"]))


def group_errors_do_not_depend_on_batches(importance: Any) -> None:
    """The same images in other batches and another order: the same measured errors."""

    def law(seed: int, size: int) -> None:
        batch = images(seed)
        order = torch.randperm(len(batch.labels), generator=torch.Generator().manual_seed(seed + 1))
        one = _group_errors(importance, SmallNetwork(seed), [batch])
        two = _group_errors(importance, SmallNetwork(seed), cut(chosen(batch, order), size))
        for name in one:
            assert torch.allclose(one[name], two[name], rtol=1e-6, atol=1e-12), f"batches of {size} give other errors"

    everywhere(law, examples=8, seed=SEEDS, size=st.integers(1, 6))


CHECKS = (
    scores_every_unit_for_every_group, leaves_the_model_as_it_was, batches_do_not_matter, scores_follow_their_groups,
    group_errors_are_errors, group_errors_do_not_depend_on_batches,
)  # fmt: skip

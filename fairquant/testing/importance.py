"""The contract of role `importance`."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from fairquant.bits import find_layers
from fairquant.roles import Batch, ErrorImportance, Importance, JointImportance, Layer
from fairquant.roles.importance import UnitKind
from fairquant.testing.cases import GROUPS, SmallNetwork, images, reorder_batch, split_batch
from fairquant.testing.contract import NotApplicable, for_all

SEEDS = st.integers(0, 999)


def _table(importance: Importance, seed: int, batches: list[Batch], unit: UnitKind = "channel") -> Tensor:
    """Scores of all layers side by side [G, U]."""
    model = SmallNetwork(seed)
    return importance.measure(model, batches, find_layers(model, unit), GROUPS).table()


def _group_errors(
    importance: Importance, model: SmallNetwork, batches: list[Batch], unit: UnitKind = "channel"
) -> dict[str, Tensor]:
    """What it measures for three made-up errors per layer [G, U, 3], the first of which is zero."""
    if not isinstance(importance, ErrorImportance):
        raise NotApplicable("it has no group_errors")
    layers = find_layers(model, unit)
    errors = _made_up_errors(layers)
    measured = dict(importance.group_errors(model, batches, layers, GROUPS, errors))
    assert set(measured) == set(errors), f"layers measured: {sorted(measured)}"
    for layer in layers:
        shape, expected = tuple(measured[layer.name].shape), (len(GROUPS), layer.units, 3)
        assert shape == expected, f"layer {layer.name!r}: the errors are {shape}, not {expected}"
    return measured


def _made_up_errors(layers: tuple[Layer, ...]) -> dict[str, Tensor]:
    """Three for each layer [3, *weight.shape], the first of which is zero."""
    errors, sizes = {}, torch.tensor([0.0, 0.1, 1.0])
    for layer in layers:
        weight, draw = layer.weight.detach(), torch.Generator().manual_seed(layer.units)
        noise = torch.randn(3, *weight.shape, generator=draw).to(weight)
        errors[layer.name] = noise * sizes.to(weight).view(-1, *[1] * weight.dim())
    return errors


def scores_every_unit_for_every_group(importance: Importance) -> None:
    """Every layer has finite scores [G, U]."""

    def law(seed: int, unit: UnitKind) -> None:
        model = SmallNetwork(seed)
        layers = find_layers(model, unit)
        scores = importance.measure(model, [images(seed)], layers, GROUPS).scores
        assert set(scores) == {layer.name for layer in layers}, f"layers scored: {sorted(scores)}"
        for layer in layers:
            shape = tuple(scores[layer.name].shape)
            assert shape == (3, layer.units), f"layer {layer.name!r}: scores are {shape}, not {(3, layer.units)}"
            assert torch.isfinite(scores[layer.name]).all(), f"layer {layer.name!r}: scores are not finite"

    for_all(law, examples=8, seed=SEEDS, unit=st.sampled_from(["channel", "tensor"]))


def leaves_the_model_as_it_was(importance: Importance) -> None:
    """Weights, buffers, gradients, requires_grad, mode and random state are unchanged."""
    model = SmallNetwork(0).train()
    model.norm.eval()
    model.head.requires_grad_(False)
    model.stem.weight.grad = torch.full_like(model.stem.weight, 7.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    importance.measure(model, split_batch(images(0), 4), find_layers(model, "channel"), GROUPS)
    if isinstance(importance, ErrorImportance):
        _group_errors(importance, model, split_batch(images(0), 4))
    if isinstance(importance, JointImportance):
        layers = find_layers(model, "channel")
        importance.measure_jointly(model, split_batch(images(0), 4), layers, GROUPS, _made_up_errors(layers))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert not changed, f"it changed {', '.join(changed)}"
    assert [module.training for module in model.modules()] == modes, "it changed training or evaluation mode"
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable, "it changed requires_grad"
    gradient = model.stem.weight.grad
    assert gradient is not None and bool((gradient == 7).all()), "it changed a gradient"
    others = [n for n, p in model.named_parameters() if p.grad is not None and n != "stem.weight"]
    assert not others, f"it left gradients on {', '.join(others)}"
    assert torch.equal(torch.get_rng_state(), random_state), "it drew from the global random state"


def batches_do_not_matter(importance: Importance) -> None:
    """The same images in other batches and another order give the same scores."""

    def law(seed: int, size: int) -> None:
        batch = images(seed)
        order = torch.randperm(len(batch.labels), generator=torch.Generator().manual_seed(seed + 1))
        one = _table(importance, seed, [batch])
        two = _table(importance, seed, split_batch(reorder_batch(batch, order), size))
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-12), f"batches of {size} give other scores than one batch"

    for_all(law, examples=8, seed=SEEDS, size=st.integers(1, 6))


def scores_follow_their_groups(importance: Importance) -> None:
    """Renumbering the groups permutes the rows of the scores accordingly."""

    def law(seed: int, order: list[int]) -> None:
        batch = images(seed)
        renumbered = Batch(batch.images, batch.labels, torch.tensor(order).argsort()[batch.groups])
        one, two = _table(importance, seed, [batch]), _table(importance, seed, [renumbered])
        assert torch.allclose(one[order], two, rtol=1e-6, atol=1e-12), f"the numbering {order} gives other scores"

    for_all(law, examples=8, seed=SEEDS, order=st.permutations([0, 1, 2]))


def group_errors_are_errors(importance: Importance) -> None:
    """Measured errors [G, U, K] are finite, not negative, and 0 where the weights do not change."""

    def law(seed: int, unit: UnitKind) -> None:
        for name, table in _group_errors(importance, SmallNetwork(seed), [images(seed)], unit).items():
            assert torch.isfinite(table).all(), f"layer {name!r}: errors are not finite"
            assert (table >= 0).all(), f"layer {name!r}: an error is negative"
            assert (table[:, :, 0] == 0).all(), f"layer {name!r}: weights that do not change have an error"

    for_all(law, examples=8, seed=SEEDS, unit=st.sampled_from(["channel", "tensor"]))


def group_errors_do_not_depend_on_batches(importance: Importance) -> None:
    """The same images in other batches and another order give the same measured errors."""

    def law(seed: int, size: int) -> None:
        batch = images(seed)
        order = torch.randperm(len(batch.labels), generator=torch.Generator().manual_seed(seed + 1))
        one = _group_errors(importance, SmallNetwork(seed), [batch])
        two = _group_errors(importance, SmallNetwork(seed), split_batch(reorder_batch(batch, order), size))
        for name in one:
            assert torch.allclose(one[name], two[name], rtol=1e-6, atol=1e-12), f"batches of {size} give other errors"

    for_all(law, examples=8, seed=SEEDS, size=st.integers(1, 6))


def measured_jointly_is_the_same(importance: Importance) -> None:
    """`measure_jointly`, where there is one, gives the scores of `measure` and the errors of `group_errors`."""
    if not isinstance(importance, JointImportance):
        raise NotApplicable("it has no measure_jointly")

    def law(seed: int, unit: UnitKind) -> None:
        model = SmallNetwork(seed)
        layers, batches = find_layers(model, unit), split_batch(images(seed), 4)
        scores, errors = importance.measure_jointly(model, batches, layers, GROUPS, _made_up_errors(layers))
        alone = importance.measure(model, batches, layers, GROUPS)
        assert scores.relative == alone.relative, "`relative` differs"
        assert scores.table().shape == alone.table().shape, f"scores are {list(scores.table().shape)}"
        assert torch.allclose(scores.table(), alone.table(), rtol=1e-4, atol=1e-9), "the scores differ"
        expected = _group_errors(importance, model, batches, unit)
        assert set(errors) == set(expected), f"layers measured: {sorted(errors)}"
        for name, each in expected.items():
            assert errors[name].shape == each.shape, f"layer {name!r}: the errors are {list(errors[name].shape)}"
            assert torch.allclose(errors[name], each, rtol=1e-4, atol=1e-9), f"layer {name!r}: the errors differ"

    for_all(law, examples=6, seed=SEEDS, unit=st.sampled_from(("channel", "tensor")))


CHECKS = (
    scores_every_unit_for_every_group, leaves_the_model_as_it_was, batches_do_not_matter, scores_follow_their_groups,
    group_errors_are_errors, group_errors_do_not_depend_on_batches,
    measured_jointly_is_the_same,
)  # fmt: skip

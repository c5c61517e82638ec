"""The contract of role `rounding`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from fairquant.roles import BlockProblem, LayerInputs, Rounded, Rounding, RoundingProblem, RoundsBlocks
from fairquant.roles.quantizer import QuantizedWeight, codes_fit, largest_code
from fairquant.testing.cases import GROUPS, weights
from fairquant.testing.contract import NotApplicable, for_all

SEEDS, ROWS, COLUMNS = st.integers(0, 999), st.integers(1, 4), st.integers(1, 12)


def make_problem(seed: int, rows: int, columns: int, *, slices: int = 1, codebook: bool = False) -> RoundingProblem:
    """A layer of slices x rows rows with 0 to 8 bits, a bias, and correlated inputs of three groups, one of them without images."""
    draw = torch.Generator().manual_seed(seed)
    weight = weights(seed, slices * rows, columns)
    bits = torch.randint(2 if codebook else 0, 5 if codebook else 9, (len(weight),), generator=draw)
    scale = weight.abs().amax(1).clamp_min(1e-6) / largest_code(bits).clamp_min(1)
    grid = QuantizedWeight(
        codes=_nearest(weight, scale, bits), bits=bits, scale=scale, shape=tuple(weight.shape),
        codebook=_codebook() if codebook else None,
    )  # fmt: skip
    moments, means = [], []
    for group in range(len(GROUPS)):
        mixing = torch.randn(columns, columns, generator=draw, dtype=torch.double)
        inputs = torch.randn(slices, 40, columns, generator=draw, dtype=torch.double) @ mixing + group
        inputs = inputs * (group < len(GROUPS) - 1)
        moments.append(inputs.transpose(1, 2) @ inputs / 40)
        means.append(inputs.mean(1))
    zeros = torch.zeros_like(torch.stack(moments))
    seen = LayerInputs(
        moments=torch.stack(moments), means=torch.stack(means), images=torch.tensor([9.0, 4.0, 0.0]), drift=zeros,
        drift_means=torch.zeros_like(torch.stack(means)), drift_outputs=torch.zeros(len(GROUPS), len(weight), dtype=torch.double),
    )  # fmt: skip
    return RoundingProblem(layer="layer", weight=weight, grid=grid, groups=GROUPS, inputs=seen, has_bias=True)


def _nearest(weight: Tensor, scale: Tensor, bits: Tensor) -> Tensor:
    largest = largest_code(bits)[:, None]
    codes = (weight / scale[:, None]).round().clamp(-largest, largest)
    return torch.where(bits[:, None] == 1, torch.where(weight < 0, -1, 1), codes).to(torch.int8)


def _codebook() -> Tensor:
    table = torch.zeros(9, 256)
    for width in range(1, 9):
        table[width, : 2**width] = torch.linspace(-3, 3, 2**width)
    return table


def _round(rounding: Rounding, problem: RoundingProblem) -> Rounded:
    found = rounding.round(problem)
    assert isinstance(found, Rounded), f"round() returned {type(found).__name__}, a Rounded is wanted"
    return found


def codes_and_bits_are_those_of_the_grid(rounding: Rounding) -> None:
    """Every row keeps its bits, codes fit them, scales are finite, whatever the layer: convolutions of several groups, codebooks, a
    layer whose inputs are not known."""

    def law(seed: int, rows: int, columns: int, slices: int, codebook: bool, seen: bool) -> None:
        problem = make_problem(seed, rows, columns, slices=slices, codebook=codebook)
        problem = problem if seen else replace(problem, inputs=None)
        weight = _round(rounding, problem).weight
        assert torch.equal(weight.bits, problem.grid.bits), "the bits are not those of the grid"
        assert weight.codes.shape == problem.grid.codes.shape, "the codes are of another shape"
        assert weight.codes.dtype == torch.int8, f"codes are {weight.codes.dtype}, int8 is wanted"
        assert bool(codes_fit(weight).all()), "codes do not fit their bits"
        assert bool(torch.isfinite(weight.decode()).all()), "weights are NaN or infinite"

    for_all(
        law,
        seed=SEEDS,
        rows=ROWS,
        columns=COLUMNS,
        slices=st.integers(1, 3),
        codebook=st.booleans(),
        seen=st.booleans(),
    )


def what_is_on_the_grid_stays(rounding: Rounding) -> None:
    """A layer whose weights all lie on the grid stays as it is, where the inputs are those of full precision."""

    def law(seed: int, rows: int, columns: int) -> None:
        problem = make_problem(seed, rows, columns)
        problem = replace(problem, weight=problem.grid.decode())
        found = _round(rounding, problem)
        assert torch.allclose(found.weight.decode(), problem.weight, rtol=1e-4, atol=1e-6), (
            "weights on the grid were moved"
        )
        assert found.bias is None or float(found.bias.abs().max()) < 1e-4, "the bias was moved"

    for_all(law, seed=SEEDS, rows=ROWS, columns=COLUMNS)


def order_and_names_of_groups_do_not_matter(rounding: Rounding) -> None:
    """The same codes whatever the groups are called and in whichever order they come."""

    def law(seed: int) -> None:
        problem = make_problem(seed, 3, 6)
        inputs = problem.inputs
        assert inputs is not None
        order = torch.tensor([2, 0, 1])
        moved = {name: getattr(inputs, name)[order] for name in inputs.__dataclass_fields__}
        other = replace(problem, inputs=LayerInputs(**moved), groups=("z", "y", "x"))
        first, second = _round(rounding, problem).weight.decode(), _round(rounding, other).weight.decode()
        assert torch.allclose(first, second, rtol=1e-4, atol=1e-6), "the weights depend on the groups' order or names"

    for_all(law, examples=10, seed=SEEDS)


def it_leaves_its_problem_alone(rounding: Rounding) -> None:
    """Weight, grid and inputs are not written into, and the same problem is answered in the same way again."""

    def law(seed: int) -> None:
        problem = make_problem(seed, 3, 6)
        assert problem.inputs is not None
        before = [problem.weight.clone(), problem.grid.codes.clone(), problem.inputs.moments.clone()]
        first = _round(rounding, problem).weight.codes.clone()
        after = [problem.weight, problem.grid.codes, problem.inputs.moments]
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True)), (
            "it wrote into its problem"
        )
        assert torch.equal(first, _round(rounding, problem).weight.codes), "another answer the second time"

    for_all(law, examples=8, seed=SEEDS)


def no_output_is_worse_than_nearest(rounding: Rounding) -> None:
    """Over many layers, the mean squared output error is not above that of rounding to the nearest by more than a tenth: who
    measures inputs uses them. (Not applicable to a rounding that measures nothing.)"""
    if "inputs" not in rounding.needs:
        raise NotApplicable("it measures no inputs")
    total = nearest = 0.0
    for seed in range(12):
        problem = make_problem(seed, 4, 10)
        found = _round(rounding, problem)
        total += _output_error(problem, found.weight.decode(), found.bias)
        nearest += _output_error(problem, problem.grid.decode(), None)
    assert total < 1.1 * nearest, f"its error is {total / nearest:.2f} times that of rounding to the nearest"


def a_block_fits_its_bits_and_is_no_worse_than_its_layers(rounding: Rounding) -> None:
    """Of a block of two layers: codes of the grid for the layers that it returns, and an output that is not further from that in
    full precision, all groups counting alike, than before. (Not applicable to a rounding that does not look at blocks.)"""
    if not isinstance(rounding, RoundsBlocks):
        raise NotApplicable("it does not look at blocks")

    def law(seed: int, groups: int) -> None:
        problem = make_block(seed, groups)
        found = {**problem.rounded, **rounding.round_block(problem)}
        for name, each in found.items():
            assert torch.equal(each.weight.bits, problem.layers[name].grid.bits), "the bits are not those of the grid"
            assert bool(codes_fit(each.weight).all()), "codes do not fit their bits"
        before, after = (_block_error(problem, rounded) for rounded in (problem.rounded, found))
        assert after <= before * (1 + 1e-6), f"the block's error grew from {before:.4g} to {after:.4g}"

    for_all(law, examples=6, seed=SEEDS, groups=st.integers(1, 3))


def make_block(seed: int, groups: int) -> BlockProblem:
    """relu(x A^T + a) B^T + b on three batches of inputs, A and B at 2 to 4 bits and rounded to the nearest."""
    draw = torch.Generator().manual_seed(seed)
    layers, rounded = {}, {}
    for name, (rows, columns) in {"first": (6, 4), "second": (3, 6)}.items():
        weight, bits = weights(seed, rows, columns), torch.randint(2, 5, (rows,), generator=draw)
        scale = weight.abs().amax(1).clamp_min(1e-6) / largest_code(bits)
        grid = QuantizedWeight(codes=_nearest(weight, scale, bits), bits=bits, scale=scale, shape=(rows, columns))
        layers[name] = RoundingProblem(layer=name, weight=weight, grid=grid, groups=GROUPS, has_bias=True)
        rounded[name] = Rounded(weight=grid)
    inputs = [torch.randn(8, 4, generator=draw) for _ in range(3)]

    def run(number: int, values: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        x = inputs[number]
        for name, (weight, bias) in values.items():
            x = x @ weight.T + (0.0 if bias is None else bias)
            x = x.relu() if name == "first" else x
        return x

    full = {name: (layer.weight, None) for name, layer in layers.items()}
    return BlockProblem(
        name="block", layers=layers, rounded=rounded, groups=[torch.arange(8) % groups for _ in inputs], group_names=GROUPS,
        targets=[run(number, full) for number in range(3)], run=run,
    )  # fmt: skip


def _block_error(problem: BlockProblem, rounded: Mapping[str, Rounded]) -> float:
    """Mean over the groups with images."""
    values = {name: (each.weight.decode(), each.bias) for name, each in rounded.items()}
    errors = [(problem.run(n, values) - target).square().sum(1) for n, target in enumerate(problem.targets)]
    groups, error = torch.cat(list(problem.groups)), torch.cat(errors).detach()
    return float(torch.stack([error[groups == group].mean() for group in torch.unique(groups)]).mean())


def _output_error(problem: RoundingProblem, weight: Tensor, bias: Tensor | None) -> float:
    """Mean over the groups with images, each relative to the layer's own output."""
    inputs = problem.inputs
    assert inputs is not None
    error, own = (weight - problem.weight).double(), problem.weight.double()
    added = torch.zeros(len(error), dtype=torch.double) if bias is None else bias.double().cpu()
    total = 0.0
    for moments, means, images in zip(inputs.moments[:, 0], inputs.means[:, 0], inputs.images, strict=True):
        if images:
            squared = ((error @ moments) * error).sum() + (2 * added * (error @ means) + added.square()).sum()
            total += float(squared / ((own @ moments) * own).sum())
    return total


CHECKS = (
    codes_and_bits_are_those_of_the_grid, what_is_on_the_grid_stays, order_and_names_of_groups_do_not_matter,
    it_leaves_its_problem_alone, no_output_is_worse_than_nearest, a_block_fits_its_bits_and_is_no_worse_than_its_layers,
)  # fmt: skip

"""What a user gets wrong in a recipe, and exactly what is reported."""

from __future__ import annotations

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe, recipe_from
from fairquant.recipe.read import with_lists

GOOD = "dataset: {name: synthetic-lesions}\n"


METHODS = (
    "adq, fairgrape, fairprune, fairquantize, fmpq, fmpq-fair, fp32, fq-baq, fq-block, fq-block-rounding, fq-gptq, fq-qat, gptq, hawq, impq, impq-fair, "
    "iterative-qat, nir, uniform-1, uniform-2, uniform-3, uniform-4, uniform-8; NAME-ptq: untrained"
)


#: recipe text, overrides, the exact lines of the message
BAD: list[tuple[str, list[str], list[str]]] = [
    (GOOD + "alocator: {name: knapsack}\n", [], ["bad.yaml:2: alocator: unknown key. Did you mean 'allocator'?"]),
    (GOOD + "allocator: {name: knapsak}\n", [], ["bad.yaml:2: allocator.name: no allocator is called 'knapsak'. Did you mean 'knapsack'? Known: fairgrape, fairprune, fairquantize, fmpq, impq, knapsack, minimax, quantile, uniform"]),
    (GOOD + "allocator:\n  name: uniform\n  avg_bits: 4\n", [], ["bad.yaml:4: allocator.avg_bits: allocator 'uniform' has no option 'avg_bits'. Did you mean 'bits'? Options: bits"]),
    (GOOD + "allocator: {name: knapsack, bits: 4}\n", [], ["bad.yaml:2: allocator.bits: allocator 'knapsack' has no option 'bits'. It has no options"]),
    (GOOD + "allocator: {name: quantile, levels: [2, 4], fractions: [0.5, 0.6]}\n", [], ["bad.yaml:2: allocator.fractions: must not be negative and must sum to 1, got [0.5, 0.6]"]),
    (GOOD + "allocator: {name: quantile, levels: [2, 4, 8], fractions: [0.5, 0.5]}\n", [], ["bad.yaml:2: allocator.levels: 3 levels but 2 fractions"]),
    (GOOD + "quantizer: {name: uniform, scale: abs}\n", [], ["bad.yaml:2: quantizer.scale: 'abs' is not one of absmax, mse, learned. Did you mean 'absmax'?"]),
    (GOOD + "quantizer: {name: baq, gradient: true}\n", [], ["bad.yaml:2: quantizer.gradient: True is not one of fractional, step."]),
    (GOOD + "budget:\n  average_bits: four\n", [], ["bad.yaml:3: budget.average_bits: expected a number, got 'four'"]),
    (GOOD + "budget: {average_bits: 9}\n", [], ["bad.yaml:2: budget.average_bits: must be at most 8, got 9"]),
    (GOOD + "budget: 4\n", [], ["bad.yaml:2: budget: expected a mapping, got 4"]),
    (GOOD + "budget: {bits: 4}\n", [], ["bad.yaml:2: budget.bits: budget has no option 'bits'. Options: average_bits, size, bops, latency, latency_table"]),
    (GOOD + "quantize: {choices: [2, 4, 16]}\n", [], ["bad.yaml:2: quantize.choices: must be whole numbers within 0..8, got [2, 4, 16]"]),
    (GOOD + "quantize: {choices: [4, 8]}\nbudget: {average_bits: 3}\n", [], ["bad.yaml:3: budget.average_bits: 3 is below the smallest of quantize.choices, 4"]),
    (GOOD + "quantize: {units: weight}\n", [], ["bad.yaml:2: quantize.units: 'weight' is not one of channel, tensor."]),
    (GOOD + "quantize:\n  pin: {conv1: 12}\n", [], ["bad.yaml:3: quantize.pin: 'conv1': bits must be within 0..8, got 12"]),
    (GOOD + "train:\n  epochs: 2.5\n", [], ["bad.yaml:3: train.epochs: expected a whole number, got 2.5"]),
    (GOOD + "train:\n  epoch: 2\n", [], ["bad.yaml:3: train.epoch: train has no option 'epoch'. Did you mean 'epochs'? Options: epochs, batch_size, optimizer, learning_rate, weight_decay, momentum, schedule, warmup_epochs, step_epochs, step_factor, clip_norm, label_smoothing, class_balanced, augment, early_stopping, select, precision, device, channels_last, workers, checkpoint_minutes, bit_learning_rate_scale, bit_confidence, freeze_bits_after, post_training, label_weight, step_size_learning_rate_scale, weight_average, freeze_oscillating, narrow_until, replan, rounds, sampler, running_group_losses, batch_norm"]),
    (GOOD + "train: {learning_rate: -1}\n", [], ["bad.yaml:2: train.learning_rate: must be greater than 0, got -1"]),
    (GOOD + "train: {epochs: 0}\n", [], ["bad.yaml:2: train.epochs: 0 epochs: set train.post_training: true to quantize without training"]),
    (GOOD + "train: {precision: fp16}\n", [], ["bad.yaml:2: train.precision: 'fp16' is not one of fp32, bf16, auto. Did you mean 'bf16'?"]),
    (GOOD + "train: {early_stopping: {metric: f1, patience: 3}}\n", [], ["bad.yaml:2: train.early_stopping.metric: no metric is called 'f1'. Known: accuracy, accuracy-gap, auc, balanced-accuracy, brier, demographic-parity, ece, eodd, eopp0, eopp1, group-mean-accuracy, operating-point-sensitivity, operating-point-specificity, ppv, predictive-equality, predictive-parity, recall-loss, sensitivity, specificity, worst-cell-recall, worst-class-recall, worst-group-accuracy, worst-group-auc"]),
    (GOOD + "regularizers:\n  - {name: loss-gap, weight: -1}\n", [], ["bad.yaml:3: regularizers[0].weight: must not be negative, got -1.0"]),
    (GOOD + "regularizers: loss-gap\n", [], ["bad.yaml:2: regularizers: expected a list, got 'loss-gap'"]),
    (GOOD + "regularizers: [{name: los-gap}]\n", [], ["bad.yaml:2: regularizers[0].name: no regularizer is called 'los-gap'. Did you mean 'loss-gap'? Known: bit-anchor, bit-budget, bit-l2, cvar-groups, cvar-samples, distillation, feature-mmd, group-dro, group-variance, loss-gap, nir, soft-demographic-parity, soft-equalized-odds"]),
    (GOOD + "metrics: [accuracy, accuracy]\n", [], ["bad.yaml:2: metrics: 'accuracy' is listed twice"]),
    (GOOD + "metrics: [{name: eopp1, min_support: 0}]\n", [], ["bad.yaml:2: metrics[0].min_support: must be at least 1, got 0"]),
    (GOOD + "metrics: [{name: recall-loss, min_support: -1}]\n", [], ["bad.yaml:2: metrics[0].min_support: must be at least 1, got -1"]),
    (GOOD + "metrics: [{name: eopp1, convention: fair}]\n", [], ["bad.yaml:2: metrics[0].convention: 'fair' is not one of valid, fairprune, fairquant. Did you mean 'fairquant'?"]),
    (GOOD + "reducer: {name: subtractive}\n", [], ["bad.yaml:2: reducer.unprivileged: reducer 'subtractive' needs this option"]),
    (GOOD + "reducer: {name: cvar, alpha: 0}\n", [], ["bad.yaml:2: reducer.alpha: must be in (0, 1], got 0.0"]),
    (GOOD + "method: fq-bak\n", [], [f"bad.yaml:2: method: no method is called 'fq-bak'. Did you mean 'fq-baq'? Known: {METHODS}"]),
    (GOOD + "seed: -3\n", [], ["bad.yaml:2: seed: expected a whole number from 0 to 4294967280, got -3"]),
    (GOOD + "seed: yes\n", [], ["bad.yaml:2: seed: expected a whole number from 0 to 4294967280, got True"]),
    ("seed: 1\n", [], ["bad.yaml: dataset: a recipe needs a dataset. Known: DATASETS"]),
    ("dataset: {name: image-table}\n", [], ["bad.yaml:1: dataset.table: dataset 'image-table' needs this option"]),
    ("dataset: {name: fitzpatrick17k, labels: 12}\n", [], ["bad.yaml:1: dataset.labels: 12 is not one of 114, 9, 3."]),
    ("dataset: {root: here}\n", [], ["bad.yaml:1: dataset: expected a name with options, such as {name: bcn20000}, got {'root': 'here'}"]),
    (GOOD + "model: {image_size: 8}\n", [], ["bad.yaml:2: model.image_size: must be at least 16, got 8"]),
    (GOOD + "seed: 1\nseed: 2\n", [], ["bad.yaml:3: seed: given twice (first in line 2)"]),
    (GOOD + "budget: {average_bits: 3}\nmethod: uniform-4\n", [], ["bad.yaml:2: budget.average_bits: 3 is below the allocator's 4 bits everywhere"]),
    (GOOD, ["budget.average_bits=12"], ["command line: budget.average_bits: must be at most 8, got 12"]),
    (GOOD, ["budget.size=3000"], ["command line: budget.size: must be a number with one of MB, kB, MiB, KiB, B, got '3000'"]),
    (GOOD, ["budget.size=big"], ["command line: budget.size: must be a number with one of MB, kB, MiB, KiB, B, got 'big'"]),
    (GOOD, ["budget.bops=2G"], ["command line: budget.bops: a plan has one kind of cost. Set average_bits: null and leave out size"]),
    (GOOD, ["budget.average_bits=null"], ["command line: budget: give average_bits, size, bops or latency"]),
    (GOOD, ["activations.bits=16"], ["command line: activations.bits: must be at most 8, got 16"]),
    (GOOD, ["trian.epochs=3"], ["command line: trian: unknown key. Did you mean 'train'?"]),
    (GOOD + "metrics: [accuracy]\n", ["metrics=[acuracy]"], ["command line: metrics[0].name: no metric is called 'acuracy'. Did you mean 'accuracy'? Known: METRICS"]),
    (GOOD, ["epochs"], ["command line: 'epochs' is not key=value, such as budget.average_bits=4"]),
    (GOOD, ["seed\n=1", "budget..size=1kB", ".seed=1"], [
        r"command line: 'seed\n=1' is not key=value, such as budget.average_bits=4",
        "command line: 'budget..size=1kB' is not key=value, such as budget.average_bits=4",
        "command line: '.seed=1' is not key=value, such as budget.average_bits=4",
    ]),
    (GOOD, ["method=uniform-4", "budget.average_bits=3"], ["command line: budget.average_bits: 3 is below the allocator's 4 bits everywhere"]),
    ("- 1\n- 2\n", [], ["bad.yaml:1: a recipe is a mapping of sections, this is a list"]),
    (GOOD + "alocator: {name: knapsack}\nbudget: {average_bits: 0}\n", ["seed=x"], [
        "bad.yaml:2: alocator: unknown key. Did you mean 'allocator'?",
        "command line: seed: expected a whole number from 0 to 4294967280, got 'x'",
        "bad.yaml:3: budget.average_bits: must be greater than 0, got 0",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "overrides", "lines"), BAD, ids=[f"{n:02d}" for n in range(len(BAD))])
def test_a_bad_recipe_is_reported_exactly(tmp_path, registry, text, overrides, lines):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe("bad.yaml", overrides, registry=registry)
    known = ", ".join(sorted(registry.names("dataset")))
    metrics = ", ".join(sorted(registry.names("metric")))
    lines = [line.replace("DATASETS", known).replace("METRICS", metrics) for line in lines]
    expected = "\n".join([f"{len(lines)} problem(s) in bad.yaml", *(f"  {line}" for line in lines)])
    assert caught.value.render() == expected


def test_there_are_enough_of_them():
    assert len(BAD) >= 25


def test_plain_data_are_resolved_like_a_file(registry):
    recipe = recipe_from(
        {"dataset": {"name": "synthetic-lesions"}, "train": {"epochs": 3}}, ["seed=4"], registry=registry, name="mine"
    )
    assert (recipe.name, recipe.seed, recipe.train.epochs) == ("mine", 4, 3)
    with pytest.raises(UserError, match="seed: expected a whole number"):
        recipe_from({"dataset": "synthetic-lesions", "seed": "x"}, registry=registry)


def test_an_entry_of_a_list_can_be_changed_by_its_name(registry):
    recipe = read_recipe("quickstart", ["regularizers=[loss-gap, {name: nir, weight: 2.0}]"], registry=registry)
    (changed,) = with_lists(recipe, ["regularizers.loss-gap.weight=0.5"])
    again = read_recipe("quickstart", [changed], registry=registry)
    assert [(each.name, each.value.weight) for each in again.regularizers] == [("loss-gap", 0.5), ("nir", 2.0)]
    with pytest.raises(UserError, match="the recipe lists no regularizer 'los-gap'. Listed: loss-gap, nir"):
        with_lists(recipe, ["regularizers.los-gap.weight=0.5"])

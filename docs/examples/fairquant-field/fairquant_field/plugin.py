"""What FairQuant is told. Names only: nothing heavy is imported until a recipe asks for it."""

from typing import Any

from fairquant.registry import hookimpl

FAIRQUANT_CONTRACT = 1


@hookimpl
def fairquant_register(registry: Any) -> None:
    add, here = registry.add, "fairquant_field"
    add("metric", "jain-index", f"{here}.jain:JainIndex", "Jain's index of the groups' accuracies")
    add("importance", "activation", f"{here}.activation:Activation", "|W| times the size of what it multiplies")
    add("reducer", "power-mean", f"{here}.power_mean:PowerMean", "between the mean and the maximum over groups")
    add("allocator", "size-aware", f"{here}.size_aware:SizeAware", "least error within so many megabytes of file")
    add(
        "quantizer",
        "power-of-two",
        f"{here}.power_of_two:PowerOfTwo",
        "levels 1, 1/2, 1/4, ...: products become shifts",
    )
    add("regularizer", "class-margin", f"{here}.margin:ClassMargin", "larger margins for rare classes")
    add("dataset", "chest-xray", f"{here}.chest_xray:ChestXray", "ChestX-ray14's csv: one finding, sex or age")
    registry.add_recipes(here)

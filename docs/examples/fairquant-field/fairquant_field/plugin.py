"""Registers the components. Names only: nothing heavy is imported until a recipe uses a component."""

from fairquant.registry import Registrar, hookimpl

FAIRQUANT_CONTRACT = 1


@hookimpl
def fairquant_register(registry: Registrar) -> None:
    for role, name, target, summary in (
        ("metric", "jain-index", "jain:JainIndex", "Jain's index of the groups' accuracies"),
        ("importance", "activation", "activation:Activation", "|W| times the magnitude of its inputs"),
        ("reducer", "power-mean", "power_mean:PowerMean", "between the mean and the maximum over groups"),
        ("allocator", "size-aware", "size_aware:SizeAware", "least error within a file size in megabytes"),
        ("quantizer", "power-of-two", "power_of_two:PowerOfTwo", "levels 1, 1/2, 1/4, ...: products become shifts"),
        ("rounding", "stochastic", "stochastic:Stochastic", "up or down at random, so that the mean is kept"),
        ("regularizer", "class-margin", "margin:ClassMargin", "larger margins for rare classes"),
        ("dataset", "chest-xray", "chest_xray:ChestXray", "ChestX-ray14: one finding, groups by sex or age"),
    ):
        registry.add(role, name, f"fairquant_field.{target}", summary)
    registry.add_recipes("fairquant_field")

"""The answer to "may I ship this?" in words: which limits are kept, which are broken, and what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence

from fairquant.recipe.events import AcceptReport, CellReport, CellsReport, LimitReport

#: What each answer means, in one line.
MEANINGS = {
    "PASS": "every limit is kept",
    "FAIL": "a limit is broken",
    "CANNOT TELL": "too few test images to say whether every limit is kept",
}
#: More images than any number that is given.
MANY = 10**9
#: Exit codes of --strict.
EXIT_CODES = {"PASS": 0, "FAIL": 3, "CANNOT TELL": 4}
HOW = (
    "Each limit is tested one-sided on the test images, both models on the same ones. PASS: the interval excludes a loss as "
    "large as the limit. FAIL: the loss is beyond the limit and is not chance. CANNOT TELL: too few images for either. The "
    "probability of a wrong PASS anywhere is held below 5 % over all limits together, and so is that of a FAIL where nothing "
    "changed (Holm): the intervals are as wide as that takes."
)


def points(fraction: float | None, signed: bool = False) -> str:
    """A fraction as percentage points."""
    if fraction is None or fraction != fraction:
        return "unknown"
    return f"{100 * fraction:+.1f}" if signed else f"{100 * fraction:.1f}"


def size(count: float) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def answer_sentence(accept: AcceptReport) -> str:
    """The answer, and the limits that decide it."""
    answer, limits = accept["answer"], accept["limits"]
    if not limits:
        return "CANNOT TELL: no limit is named."
    failed, unclear = ([each for each in limits if each["answer"] == kind] for kind in ("FAIL", "CANNOT TELL"))
    if answer == "PASS":
        alone = "" if any(each["images"] for each in limits) else " None of them is about patients."
        return f"PASS: {_all(len(limits))} kept.{alone}"
    if answer == "FAIL":
        count = "" if len(limits) == 1 else f" {len(failed)} of {len(limits)} limits {_are(len(failed))} broken"
        rest = f"{count}, {len(unclear)} cannot be judged." if unclear else count and f"{count}."
        return f"FAIL: {limit_words(failed[0])}.{rest}"
    return f"CANNOT TELL: {_unclear(unclear, len(limits))}"


def _unclear(unclear: Sequence[LimitReport], count: int) -> str:
    """Why it cannot be told: how many limits, how many of them may be broken, and what the hardest needs."""
    beyond = may_be_broken(unclear)
    text = f"for {len(unclear)} of {count} limits there are too few test images to exclude harm"
    if beyond:
        worst = " and ".join(
            f"{each['name']} {_verb(each)} {_amount(each)} (on {images(each['images'])})" for each in beyond[:2]
        )
        more = f", and {len(beyond) - 2} more {_are(len(beyond) - 2)} beyond theirs" if len(beyond) > 2 else ""
        return f"{text}. Beyond the limit, though it may be chance: {worst}{more}."
    hardest = max(unclear, key=lambda each: MANY if each["more_images"] is None else each["more_images"])
    if hardest["more_images"] is None:
        return f"{text}. The hardest is {hardest['name']}{_left_out(hardest)}."
    return f"{text}. The most are needed for {hardest['name']}: {needed(hardest)}."


def may_be_broken(limits: Sequence[LimitReport]) -> list[LimitReport]:
    """Limits that the measured loss or rise is beyond although it may be chance, the largest excess first."""
    beyond = [each for each in limits if each["answer"] == "CANNOT TELL" and excess(each) > 0]
    return sorted(beyond, key=lambda each: -excess(each))


def excess(limit: LimitReport) -> float:
    """How far a loss or rise is beyond its limit; 0 where it is not."""
    value = limit["value"]
    return 0.0 if value is None or limit["kind"] not in ("loss", "rise") else max(value - limit["limit"], 0.0)


def needed(limit: LimitReport) -> str:
    """How many more images would tell what, if they are like those that there are; "" where it is told already."""
    more, value = limit["more_images"], limit["value"]
    if limit["answer"] != "CANNOT TELL":
        return ""
    if more is None:
        return "over a million"
    fits = value is None or (value >= limit["limit"] if limit["kind"] == "at least" else value <= limit["limit"])
    return f"about {more} more for {'PASS' if fits else 'FAIL'}"


def images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _verb(limit: LimitReport) -> str:
    worse, better = ("lost", "gained") if limit["kind"] == "loss" else ("rose by", "fell by")
    return better if limit["value"] is not None and limit["value"] < 0 else worse


def _amount(limit: LimitReport) -> str:
    value = None if limit["value"] is None else abs(limit["value"])
    return f"{points(value)} points" if limit["kind"] == "loss" else _number(value)


def _all(count: int) -> str:
    return "the one limit is" if count == 1 else f"all {count} limits are"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def limit_words(limit: LimitReport) -> str:
    """What was measured against what is allowed."""
    if limit["name"].startswith("file size"):
        return f"the file has {size(limit['value'] or 0)}, at most {size(limit['limit'])} allowed"
    value, bound = limit["value"], limit["limit"]
    if not limit["images"]:
        return f"{limit['name']}: there is no test image of it"
    if value is None:
        return f"{limit['name']} cannot be measured on these images{_left_out(limit)}"
    span = f" ({_span(limit)})" if limit["low"] is not None else ""
    if limit["kind"] in ("loss", "rise"):
        span = f" ({limit['kind']} {_span(limit)})" if span else ""
        allowed = points(bound) if limit["kind"] == "loss" else f"{bound:g}"
        text = f"{limit['name']} {_verb(limit)} {_amount(limit)}{span}, at most {allowed} allowed"
    else:
        text = f"{limit['name']} is {_number(value)}{span}, wanted: {limit['kind']} {bound:g}"
    return text + _left_out(limit)


def _left_out(limit: LimitReport) -> str:
    count = limit["left_out"]
    return f"; {count} cells have too few images to count, and nothing is known of them" if count else ""


def _span(limit: LimitReport) -> str:
    low, high = limit["low"], limit["high"]
    if limit["kind"] == "loss":
        return f"{points(low)} to {points(high)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def frequency(cell: CellReport) -> str:
    """A loss in natural frequencies."""
    before, after, change = cell["before"], cell["after"], cell["change"]
    if before is None or after is None:
        return ""
    where = "" if cell["scope"] == "all images" else f" in {cell['scope']!r}"
    ends = f"{points(_minus(change['high']))} to {points(_minus(change['low']))}"
    lost = f"{points(_minus(change['value']))} points (95 % interval {ends})"
    of = 1000 if round(100 * before) == round(100 * after) else 100
    sensitive = cell["rate"].endswith("sensitivity")
    verb, having = ("finds", "with") if sensitive else ("clears", "without")
    at = " at its threshold" if cell["rate"].startswith("operating-point") else ""
    return (
        f"Of {of} patients {having} {cell['label']}{where}, the full-precision model {verb} {of * before:.0f}{at}, this one "
        f"{of * after:.0f}: a loss of {lost}, on {cell['images']} images."
    )


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def worst_first(lost: Sequence[CellReport]) -> list[CellReport]:
    """Losses of sensitivity, then of specificity, the largest first."""
    return sorted(lost, key=lambda cell: (not cell["rate"].endswith("sensitivity"), cell["change"]["value"] or 0.0))


def cells_sentences(cells: CellsReport, accept: AcceptReport, most: int = 3) -> list[str]:
    """Who lost sight of what, the worst first, and how much could not be judged."""
    lost = worst_first(cells["lost"])
    sentences = [frequency(cell) for cell in lost[:most]]
    if lost and accept["answer"] == "PASS":
        sentences.insert(0, "The limits do not cover everything that was lost beyond chance:")
    if len(lost) > most:
        sentences.append(
            f"{len(lost) - most} more {'loss is' if len(lost) == most + 1 else 'losses are'} significant: see cells.csv."
        )
    total = cells["judged"] + cells["undecided"]
    if cells["undecided"]:
        sentences.append(
            f"{cells['undecided']} of {total} sensitivities and specificities cannot be judged one by one, because too few of "
            "their images changed: that none is named here does not mean that none lost."
        )
    return sentences

"""The answer to "may I ship this?" in words: which limits are kept, which are broken, and what cannot be told."""

from __future__ import annotations

from fairquant.recipe.events import AcceptReport, CellReport, LimitReport, Report

#: What each answer means, in one line.
MEANINGS = {
    "PASS": "every limit is kept",
    "FAIL": "a limit is broken",
    "CANNOT TELL": "no limit is known to be broken, and not every limit is shown to be kept",
}
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
        return "CANNOT TELL: the recipe has no limits."
    failed, unclear = ([each for each in limits if each["answer"] == kind] for kind in ("FAIL", "CANNOT TELL"))
    if answer == "PASS":
        return f"PASS: {_all(len(limits))} kept."
    if answer == "FAIL":
        rest = f" {len(failed)} of {len(limits)} limits are broken" + (
            f", {len(unclear)} cannot be judged." if unclear else "."
        )
        return f"FAIL: {limit_words(failed[0])}.{rest}"
    hardest = max(unclear, key=lambda each: each["more_images"] or 0)
    return (
        f"CANNOT TELL: for {len(unclear)} of {len(limits)} limits there are too few test images to exclude harm"
        f"{_most_needed(hardest)}."
    )


def _all(count: int) -> str:
    return "the one limit is" if count == 1 else f"all {count} limits are"


def _most_needed(limit: LimitReport) -> str:
    if limit["more_images"] is None:
        return ""
    return f"; most are needed for {limit['name']}, about {limit['more_images']} more images"


def limit_words(limit: LimitReport) -> str:
    """What was measured against what is allowed."""
    if limit["name"].startswith("file size"):
        return f"the file has {size(limit['value'] or 0)}, at most {size(limit['limit'])} allowed"
    span = f" ({_span(limit)})" if limit["low"] is not None else ""
    value, bound = limit["value"], limit["limit"]
    if limit["kind"] == "loss":
        verb = "gained" if value is not None and value < 0 else "lost"
        shown = points(None if value is None else abs(value))
        if verb == "gained":
            span = f" (loss {_span(limit)})" if limit["low"] is not None else ""
        return f"{limit['name']} {verb} {shown} points{span}, at most {points(bound)} allowed"
    if limit["kind"] == "rise":
        return f"{limit['name']} rose by {_number(value)}{span}, at most {bound:g} allowed"
    return f"{limit['name']} is {_number(value)}{span}, {limit['kind']} {bound:g} wanted"


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
    found = f"the full-precision model {{verb}} {100 * before:.0f}, this one {100 * after:.0f}"
    if cell["rate"] == "sensitivity":
        who = f"Of 100 patients with {cell['label']}{where}, {found.format(verb='finds')}"
    else:
        who = f"Of 100 patients without {cell['label']}{where}, {found.format(verb='clears')}"
    return f"{who}: a loss of {lost}, on {cell['images']} images."


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def cells_sentences(report: Report, most: int = 3) -> list[str]:
    """Who lost sight of what, the worst first, and how much could not be judged."""
    cells = report["cells"]
    lost = sorted(cells["lost"], key=lambda cell: (cell["rate"] != "sensitivity", cell["change"]["value"] or 0.0))
    sentences = [frequency(cell) for cell in lost[:most]]
    if lost and report["accept"]["answer"] == "PASS":
        sentences.insert(0, "The limits do not cover everything that was lost beyond chance:")
    if len(lost) > most:
        sentences.append(f"{len(lost) - most} more losses are significant: see the table of classes and groups.")
    total = cells["judged"] + cells["undecided"]
    if cells["undecided"]:
        sentences.append(
            f"{cells['undecided']} of {total} sensitivities and specificities have too few changed images to be judged one by "
            "one: that none is named here does not mean that none lost."
        )
    return sentences

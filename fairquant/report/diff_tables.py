"""A diff as tables of text, the same on the terminal and on the page."""

from __future__ import annotations

from dataclasses import dataclass

from fairquant.report.answer import size
from fairquant.report.comparison import Difference
from fairquant.report.diff import Diff, Estimate, Quantity
from fairquant.report.tables import number

#: Said below every table with intervals of differences.
CHANCE = (
    "Intervals: 95 %. Fractions of images (accuracy, sensitivity): Wilson's, of the difference Tango's; all else: bootstrap, which "
    "cannot see what none of the images shows. B - A is paired over the same test images. 'better' and 'worse': the interval "
    "excludes 0. Many values are compared: about one in twenty is marked by chance alone."
)


@dataclass(frozen=True)
class Section:
    """One table: its title, the heads of its columns, its rows of text; notes below it; prose: its cells are words, not numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()
    prose: bool = False


def sections(diff: Diff) -> list[Section]:
    """Every table of a diff, in the order in which it is read."""
    paired = diff.pairing != "none"
    arrow = {each.label: "↓" if each.lower_is_better else "↑" for each in diff.metrics}
    tail = ["B - A", "better?"] if paired else []
    return [
        Section("A and B", ["", "A", "B"], _sides(diff), prose=True),
        Section(
            "What differs in the recipes", ["key", "A", "B"],
            [[each.key, each.a or "-", each.b or "-"] for each in diff.recipe], () if diff.recipe else ("Nothing.",), prose=True,
        ),
        Section(
            "Metrics", ["", "A", "B", *tail],
            [_row(f"{each.label} {arrow[each.label]}", each, paired) for each in diff.metrics], (CHANCE,) if paired else (),
        ),
        _groups(diff),
        *([Section("At the thresholds", ["rate", "images", "A", "B", *tail], [_counted(each, paired) for each in diff.decided])]
          if diff.decided else []),
        Section(
            "Recall by class", ["class", "images", "A", "B", *tail], [_counted(each, paired) for each in diff.classes],
        ),
    ]  # fmt: skip


def summary(diff: Diff) -> list[str]:
    """What was compared with what, in sentences; the rest follows from it."""
    lines = []
    if diff.pairing == "same":
        lines.append(f"Both were tested on the same {diff.images} images: differences are paired.")
    if diff.flips is not None:
        share = 100 * diff.flips.changed / diff.images
        lines.append(
            f"{diff.flips.changed} of {diff.images} predictions differ ({share:.1f} %): {diff.flips.newly_wrong} right in A and "
            f"wrong in B, {diff.flips.newly_right} wrong in A and right in B."
        )
    return [*lines, *(note[:1].upper() + note[1:] + "." for note in diff.notes)]


def _sides(diff: Diff) -> list[list[str]]:
    a, b = diff.a, diff.b
    bits = ["-" if each.bits is None else f"{each.bits:.3f}" for each in (a, b)]
    rows = [
        ("file or folder", a.path, b.path), ("recipe", a.recipe, b.recipe), ("method", a.method or "-", b.method or "-"),
        ("seed", *("-" if each.seed is None else str(each.seed) for each in (a, b))), ("bits per weight", *bits),
        ("size", size(a.bytes), size(b.bytes)), ("answer (accept)", a.answer or "-", b.answer or "-"),
        ("test images", str(a.images), str(b.images)), ("predictions", a.predictions, b.predictions),
    ]  # fmt: skip
    return [list(row) for row in rows]


def _groups(diff: Diff) -> Section:
    paired = diff.pairing != "none"
    head = ["group", "images", "A", "B"]
    rows = []
    for group in diff.groups:
        images = str(group.images[0]) if paired else f"{group.images[0]}, {group.images[1]}"
        row = [group.name, images, estimate(group.a), estimate(group.b)]
        if paired and group.flips is not None:
            counts = (group.flips.changed, group.flips.newly_wrong, group.flips.newly_right)
            row += [difference(group.change), group.says, *map(str, counts)]
        rows.append(row)
    extra = ["B - A", "better?", "changed", "newly wrong", "newly right"] if paired else []
    note = "changed: images whose predicted class differs; newly wrong: right in A, wrong in B; newly right: wrong in A, right in B."
    return Section("Accuracy by group", [*head, *extra], rows, (note,) if paired else ())


def _row(name: str, each: Quantity, paired: bool) -> list[str]:
    row = [name, estimate(each.a), estimate(each.b)]
    return [*row, difference(each.difference), each.says] if paired else row


def _counted(each: Quantity, paired: bool) -> list[str]:
    """A row with the number of images."""
    a, b = each.images or (0, 0)
    name, *rest = _row(each.label, each, paired)
    return [name, str(a) if a == b else f"{a}, {b}", *rest]


def estimate(value: Estimate | None) -> str:
    """0.812 [0.790, 0.834]; - where it is undefined."""
    if value is None or value.value != value.value:
        return "-"
    return f"{value.value:.3f} [{number(value.low, 3)}, {number(value.high, 3)}]"


def difference(value: Difference | None) -> str:
    """+0.012 [-0.004, +0.028]; - where it is undefined."""
    if value is None or value.value != value.value:
        return "-"
    low, high = (f"{end:+.3f}" if end == end else "-" for end in (value.low, value.high))
    return f"{value.value:+.3f} [{low}, {high}]"

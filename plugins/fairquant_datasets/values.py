"""What the values of a column mean: unknown spellings, declared names, bins of numbers, labels that are blank."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

Value = str | int | float | bool

#: Spellings of "not known", without regard to case.
UNKNOWN = (
    "", "unknown", "unk", "nan", "na", "n/a", "n.a.", "#n/a", "<na>", "nat", "none", "null", "nil", "-1", "?", "-", "--",
    "missing", "not reported", "not recorded", "not available", "not specified", "not known", "unspecified", "undefined",
    "undetermined", "prefer not to say",
)  # fmt: skip
#: Of these, what a label may well be called, or a code that only the user can explain.
MAY_BE_LABELS = ("none", "-1", "-", "--", "?", "undetermined")
#: Labels that are not there: what `blank` gives a class to.
BLANK = ("", "nan")
#: More different numbers than this in an attribute are a measurement, and no groups.
MOST_NUMBERS = 10
#: Values that a message lists.
SHOWN = 6


class Declared:
    """What users write within an option of a data set: keys that are none of its own are errors."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class AttributeValues(Declared):
    """How an attribute's values become groups. map: value -> name (null: unknown), for every value that is known;
    bins: edges of numbers, such as [40, 60]; unknown: further spellings of unknown."""

    map: dict[Value, Value | None] = field(default_factory=dict)
    bins: tuple[float, ...] = ()
    unknown: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if list(self.bins) != sorted(set(self.bins)) or not all(map(math.isfinite, self.bins)):
            raise ValueError(f"bins: must be numbers in ascending order, got {list(self.bins)}")

    @property
    def names(self) -> dict[Value, Value]:
        return _named(self.map)

    @property
    def not_known(self) -> tuple[Value, ...]:
        return (*self.unknown, *_nameless(self.map))


@dataclass(frozen=True, kw_only=True)
class LabelValues(Declared):
    """How the values of a column become classes. map: value -> class (null: as in drop), for every value that is kept;
    drop: values whose rows are left out; blank: the class of rows without a value (null: they are left out)."""

    column: str
    map: dict[Value, Value | None] = field(default_factory=dict)
    drop: tuple[Value, ...] = ()
    blank: str | None = None

    @property
    def names(self) -> dict[Value, Value]:
        return _named(self.map)

    @property
    def dropped(self) -> tuple[Value, ...]:
        return (*self.drop, *_nameless(self.map))


def _named(declared: Mapping[Value, Value | None]) -> dict[Value, Value]:
    return {value: name for value, name in declared.items() if name is not None}


def _nameless(declared: Mapping[Value, Value | None]) -> list[Value]:
    return [value for value, name in declared.items() if name is None]


#: Whole numbers, and such with decimals that are few enough for a float.
WHOLE, DECIMAL = re.compile(r"([+-]?\d{1,400})(?:\.0*|,0{0,2})?"), re.compile(r"[+-]?\d{0,15}[.,]?\d{0,15}")


def canonical(value: Value) -> str:
    """One spelling for equal values: 1.0 is 1, NaN is nan, True is true. Whole numbers are compared digit by digit, of which a
    patient's may have more than a float holds; 1e3, which may be a name, is no number here."""
    text = str(value).strip().casefold()
    if whole := WHOLE.fullmatch(text):
        return str(int(whole[1]))
    number = as_number(text) if DECIMAL.fullmatch(text) else None
    return text if number is None else repr(number)


def as_number(text: str) -> float | None:
    """A finite number, also with a decimal comma; None where the text is none, or may be thousands (1,200)."""
    if "," in text:
        whole, _, decimals = text.partition(",")
        if "." in text or "," in decimals or len(decimals) == 3:
            return None
        text = f"{whole}.{decimals}"
    try:
        number = float(text) if "_" not in text else math.nan  # 1_2 is a name, which Python reads as 12
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def names_of(declared: Mapping[Value, Value]) -> Callable[[str], str | None]:
    """What a map calls a value: as it is written, or in another case or form where only one key can be meant."""
    exact = {str(key): str(name) for key, name in declared.items()}
    forms: dict[str, set[str]] = {}
    for key, name in declared.items():
        forms.setdefault(canonical(key), set()).add(str(name))

    def find(value: str) -> str | None:
        if value in exact:
            return exact[value]
        found = forms.get(canonical(value), set())
        return next(iter(found)) if len(found) == 1 else None

    return find


def unused(what: str, listed_values: Iterable[Value], values: Iterable[str]) -> list[str]:
    """Notes on declared values that occur in no row: perhaps a spelling that YAML changed."""
    occur = {canonical(value) for value in values}
    absent = [repr(value) for value in listed_values if canonical(value) not in occur]
    return [f"{what} names values that occur in no row: {', '.join(absent)}"] if absent else []


def attribute_values(
    name: str, values: Sequence[str], declared: AttributeValues, unknown: Sequence[Value]
) -> tuple[list[str], list[str], list[str]]:
    """The group names of N values ("" where unknown), notes, and problems."""
    spellings = {canonical(each) for each in (*unknown, *declared.not_known)}
    name_of = names_of(declared.names)
    kept = {canonical(each): str(each) for each in declared.names.values()}  # a value may be written as its own name
    count = Counter(value for value in values if name_of(value) is not None or canonical(value) not in spellings)
    dropped = Counter(values) - count
    notes: list[str] = []
    problems: list[str] = []
    if not count:
        return [], notes, [f"attribute {name!r}: all {len(values)} values are unknown ({listed(dropped)})"]
    groups = {value: name_of(value) or kept.get(canonical(value), value) for value in count}
    if declared.map:
        notes += unused(f"attribute {name!r}: its map", declared.map, values)
        unnamed = Counter({v: count[v] for v in count if name_of(v) is None and canonical(v) not in kept})
        if unnamed and declared.names and not declared.bins:
            problems.append(
                f"attribute {name!r}: values that its map does not name: {listed(unnamed)}. Name them in map or in unknown"
            )
    if declared.bins:
        bins = set(bin_names(declared.bins))
        texts = Counter({v: count[v] for v in count if groups[v] not in bins and as_number(groups[v]) is None})
        if texts:
            problems.append(
                f"attribute {name!r}: values that are no numbers: {listed(texts)}. Name them in map or in unknown"
            )
        else:
            numbers = [as_number(g) or 0.0 for g in groups.values() if g not in bins]
            notes += [f"attribute {name!r}: from {min(numbers):g} to {max(numbers):g}, in bins"] if numbers else []
            groups = {v: g if g in bins else bin_name(as_number(g) or 0.0, declared.bins) for v, g in groups.items()}
            if empty := [each for each in bin_names(declared.bins) if each not in groups.values()]:
                notes.append(f"attribute {name!r}: no row is in bin(s) {', '.join(empty)}")
    elif not declared.names:
        problems += _undeclared(name, count)
        notes += [
            f"attribute {name!r}: {listed(Counter({v: count[v] for v in alike}))} differ in case or form only and are "
            "separate groups: give them one name in its map"
            for alike in _alike(count)
        ]
    if spelled := Counter({value: number for value, number in dropped.items() if value}):
        notes.append(f"attribute {name!r}: read as unknown: {listed(spelled)}")
    return [groups.get(value, "") for value in values], notes, problems


def _undeclared(name: str, count: Mapping[str, int]) -> list[str]:
    """A measurement that is given as an attribute without bins."""
    numbers = {number for value in count if (number := as_number(value)) is not None}
    if len(numbers) <= MOST_NUMBERS:
        return []
    low, high = min(numbers), max(numbers)
    return [
        f"attribute {name!r}: {len(numbers)} different numbers, from {low:g} to {high:g}, are no groups. Give edges: "
        f"attributes: {{{name}: {{bins: [{round((low + high) / 2):g}]}}}}"
    ]


def _alike(count: Mapping[str, int]) -> list[list[str]]:
    """Values that are equal but for their spelling."""
    alike: dict[str, list[str]] = {}
    for value in sorted(count):
        alike.setdefault(canonical(value), []).append(value)
    return [values for values in alike.values() if len(values) > 1]


def bin_name(number: float, edges: Sequence[float]) -> str:
    """under 40, 40 to under 60, 60 and over."""
    above = [edge for edge in edges if number >= edge]
    below = [edge for edge in edges if number < edge]
    if not above:
        return f"under {below[0]:.12g}"
    return f"{above[-1]:.12g} to under {below[0]:.12g}" if below else f"{above[-1]:.12g} and over"


def bin_names(edges: Sequence[float]) -> list[str]:
    """The names of all bins in their order."""
    return [bin_name(number, edges) for number in (edges[0] - 1, *edges)]


def label_values(
    values: Sequence[str], declared: LabelValues, unknown: Sequence[Value]
) -> tuple[list[str], list[str], list[str]]:
    """The classes of N values ("" where the row is left out), notes, and problems."""
    unlabelled = {canonical(each) for each in unknown} - set(MAY_BE_LABELS)
    name_of = names_of(declared.names)
    kept = {canonical(each): str(each) for each in declared.names.values()}
    left_out = {canonical(each) for each in declared.dropped}
    count = Counter(values)
    classes: dict[str, str] = {}
    for value in count:
        form = canonical(value)
        if form in left_out:
            classes[value] = ""
        elif (name := name_of(value)) is not None:
            classes[value] = name
        elif form in BLANK:
            classes[value] = declared.blank or ""
        else:
            classes[value] = "" if form in unlabelled and form not in kept else kept.get(form, value)
    unnamed = Counter(
        {v: count[v] for v in count if classes[v] and name_of(v) is None and canonical(v) not in {*kept, *BLANK}}
    )
    notes = _left_out(count, classes, left_out, declared)
    notes += [*unused("map", declared.map, values), *unused("drop", declared.drop, values)]
    if declared.names:
        problems = (
            [f"values that its map does not name: {listed(unnamed)}. Name them in map or in drop"] if unnamed else []
        )
    else:
        problems = _uncertain(unnamed, count, declared)
        notes += [
            f"{listed(Counter({v: count[v] for v in alike}))} differ in case or form only and are separate classes: give them one "
            "name in its map"
            for alike in _alike(unnamed)
        ]
    where = f"label {declared.column!r}: "
    return [classes[value] for value in values], [where + note for note in notes], [where + each for each in problems]


def _uncertain(unnamed: Mapping[str, int], count: Mapping[str, int], declared: LabelValues) -> list[str]:
    """A label -1 that nobody has explained."""
    rows = sum(number for value, number in unnamed.items() if canonical(value) == "-1")
    if not rows:
        return []
    blank = count.get("", 0) if declared.blank is None else 0
    more = f". Blank labels ({blank} rows) are left out unless blank: CLASS says what they mean" if blank else ""
    return [
        f"-1 ({rows} rows) may mean uncertain or unknown. Say what it means: label: {{column: {declared.column}, map: "
        f"{{-1: CLASS, ...}}}}, or drop: [-1]{more}"
    ]


def _left_out(
    count: Mapping[str, int], classes: Mapping[str, str], dropped: set[str], declared: LabelValues
) -> list[str]:
    """Which rows are left out: those without a label, and those that are to be dropped."""
    notes = []
    gone = Counter({v: n for v, n in count.items() if not classes[v] and canonical(v) not in dropped})
    if gone:
        hint = f". If blank means a class: label: {{column: {declared.column}, blank: CLASS}}" if gone[""] else ""
        notes.append(f"rows without a label left out: {listed(gone)}{hint}")
    if told := Counter({v: n for v, n in count.items() if canonical(v) in dropped}):
        notes.append(f"rows left out as drop says: {listed(told)}")
    return notes


def listed(count: Mapping[str, int]) -> str:
    """'M' (3), blank (2), the most frequent first."""
    ordered = sorted(count.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{value!r} ({number})" if value else f"blank ({number})" for value, number in ordered[:SHOWN]]
    return ", ".join(shown) + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


#: How programs write that a column is marked.
TRUTH = {"true": 1.0, "false": 0.0}


def one_hot(columns: Mapping[str, Sequence[str]], places: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The class of N rows of which exactly one column is marked ("" where none or several are), notes, and problems. A blank is
    not marked; places: file and line of each row."""
    names = list(columns)
    labels: list[str] = []
    notes: list[str] = []
    problems: list[str] = []
    none, several = 0, 0
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        numbers = [0.0 if not value else TRUTH.get(value.strip().lower(), as_number(value)) for value in values]
        bad = [
            f"{name}={value!r}" for name, value, n in zip(names, values, numbers, strict=True) if n not in (0.0, 1.0)
        ]
        if bad:
            problems.append(f"{places[row]}: {', '.join(bad)}: label_columns hold 1 and 0, or true and false")
        marked = [name for name, number in zip(names, numbers, strict=True) if number is not None and number > 0.5]
        none, several = none + (not marked), several + (len(marked) > 1)
        labels.append(marked[0] if len(marked) == 1 else "")
    if none:
        notes.append(f"{none} row(s) left out: none of label_columns is marked")
    if several:
        notes.append(f"{several} row(s) left out: several of label_columns are marked")
    return labels, notes, [*problems[:10], *([f"... and {len(problems) - 10} more"] if len(problems) > 10 else [])]

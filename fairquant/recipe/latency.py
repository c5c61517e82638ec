"""A latency table: how long each layer takes at each width, on the machine that the model is for.

`fairquant bench FILE --per-layer --out TABLE` measures one in ONNX Runtime; another device's can be written by hand:

    {"layers": {"conv1": {"2": 0.11, "4": 0.11, "8": 0.14}, "fc": {"4": 0.02, "8": 0.03}}}
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from fairquant.errors import UserError
from fairquant.files import read_bounded

#: Bytes of a table, milliseconds of one layer, and problems that are listed.
MOST_BYTES, MOST_MS, SHOWN = 32 * 10**6, 1e9, 10


def read_table(file: str | Path) -> dict[str, dict[int, float]]:
    """layer -> bits -> milliseconds. UserError with everything that is wrong in the file."""
    content = _read(file)
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, dict) or not layers:
        raise UserError(f'{file}: expected {{"layers": {{NAME: {{"8": MILLISECONDS}}}}}}')
    problems, table = [], {}
    for name, times in layers.items():
        if not isinstance(times, dict) or not times:
            problems.append(f'{file}: layers.{name}: expected {{"8": MILLISECONDS}}, got {times!r}')
            continue
        for bits, value in times.items():
            if not (bits.isascii() and bits.isdigit() and len(bits) <= 2 and bits == str(int(bits))):
                problems.append(f"{file}: layers.{name}: {bits[:20]!r} is not a number of bits, such as 8")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_MS:
                problems.append(f"{file}: layers.{name}.{bits}: must be milliseconds, 0 or more, got {str(value)[:20]}")
        table[name] = times
    if problems:
        raise UserError(
            [*problems[:SHOWN], *([f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else [])]
        )
    return {name: {int(bits): float(ms) for bits, ms in times.items()} for name, times in table.items()}


def _read(file: str | Path) -> object:
    """The JSON in a file, no key given twice."""
    try:
        return json.loads(read_bounded(Path(file), MOST_BYTES).decode("utf-8-sig"), object_pairs_hook=_once)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {str(file)!r}: {getattr(error, 'strerror', None) or error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of nested lists
        raise UserError(f"{file}: cannot be a latency table: {error}") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON whose keys are given once."""
    given = dict(pairs)
    if len(given) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice[:100]!r} is given twice")
    return given


def widest(table: dict[str, dict[int, float]]) -> int:
    """The most bits, up to 8, that every layer has a time for."""
    return min(max((bits for bits in times if bits <= 8), default=-1) for times in table.values())

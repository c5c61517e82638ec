"""A latency table: how long each layer takes at each width, on the machine that the model is for.

`fairquant bench FILE --per-layer --out TABLE` measures one in ONNX Runtime; another device's can be written by hand:

    {"layers": {"conv1": {"2": 0.11, "4": 0.11, "8": 0.14}, "fc": {"4": 0.02, "8": 0.03}}}
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from fairquant.errors import UserError


def read_table(file: str | Path) -> dict[str, dict[int, float]]:
    """layer -> bits -> milliseconds. UserError with everything that is wrong in the file."""
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {str(file)!r}: {getattr(error, 'strerror', None) or error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not JSON: {error.msg}") from error
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, dict) or not layers:
        raise UserError(f'{file}: expected {{"layers": {{NAME: {{"8": MILLISECONDS}}}}}}')
    problems, table = [], {}
    for name, times in layers.items():
        if not isinstance(times, dict) or not times:
            problems.append(f'{file}: layers.{name}: expected {{"8": MILLISECONDS}}, got {times!r}')
            continue
        for bits, value in times.items():
            if not (bits.isascii() and bits.isdigit()):
                problems.append(f"{file}: layers.{name}: {bits!r} is not a number of bits")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                problems.append(f"{file}: layers.{name}.{bits}: must be milliseconds, 0 or more, got {value!r}")
        table[name] = times
    if problems:
        raise UserError(problems)
    return {name: {int(bits): float(ms) for bits, ms in times.items()} for name, times in table.items()}


def widest(table: dict[str, dict[int, float]]) -> int:
    """The most bits, up to 8, that every layer has a time for."""
    return min(max((bits for bits in times if bits <= 8), default=-1) for times in table.values())

"""Content that changes under a run: killed after its baseline and resumed, or finished and started again, it is never a mixture, and
never an old result.

    python tests/campaigns/changes.py [--rounds 20] [--seed 0] [--what changes,caches]

A round is one change, at a random moment of a run. The result must be that of the same content from scratch; where the cache was
damaged, that without damage.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import harness
import kill
import numpy as np
import yaml
from PIL import Image

COUNT = 48


def make_data(folder: Path) -> None:
    """Images, a table, weights of the model, and a recipe that names them."""
    import timm
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    rows = ["file,label,sex"]
    for number in range(COUNT):
        pixels = draw.integers(0, 200, (32, 32, 3)).astype(np.uint8)
        pixels[8:20, 8:20, number % 2] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{('light', 'dark')[number % 2]},{'mf'[number // 2 % 2]}")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), folder / "w.safetensors")
    section = {"name": "image-table", "table": "t.csv", "image": "file", "label": "label", "attributes": ["sex"]}
    model = {"name": "test_resnet", "image_size": 32, "weights": "w.safetensors"}
    content = {
        **harness.RECIPE,
        "dataset": section,
        "model": model,
        "baseline": {"epochs": 1, "batch_size": 8},
        "train": {"epochs": 1, "batch_size": 8},
    }
    (folder / "changed.yaml").write_text(yaml.safe_dump(content))


def relabel(folder: Path, rng: random.Random) -> None:
    lines = (folder / "t.csv").read_text().splitlines()
    for row in rng.sample(range(1, len(lines)), 5):
        file, label, sex = lines[row].split(",")
        lines[row] = f"{file},{'dark' if label == 'light' else 'light'},{sex}"
    (folder / "t.csv").write_text("\n".join(lines) + "\n")


def regroup(folder: Path, rng: random.Random) -> None:
    lines = (folder / "t.csv").read_text().splitlines()
    row = rng.randrange(1, len(lines))
    lines[row] = lines[row][:-1] + ("m" if lines[row].endswith("f") else "f")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")


def rename(folder: Path, rng: random.Random) -> None:
    (folder / "t.csv").write_text((folder / "t.csv").read_text().replace(",dark,", ",naevus,"))


def remove_rows(folder: Path, rng: random.Random) -> None:
    lines = (folder / "t.csv").read_text().splitlines()
    (folder / "t.csv").write_text("\n".join(lines[:-10]) + "\n")


def third_class(folder: Path, rng: random.Random) -> None:
    lines = (folder / "t.csv").read_text().splitlines()
    lines[1:10] = [line.replace(",light,", ",third,").replace(",dark,", ",third,") for line in lines[1:10]]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")


def invert(folder: Path, rng: random.Random) -> None:
    """Other pixels under the same name, with the same times and, uncompressed, the same size."""
    for number in rng.sample(range(COUNT), 6):
        file = folder / f"{number}.png"
        times = file.stat()
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def swap(folder: Path, rng: random.Random) -> None:
    """Two images change names."""
    one, other = rng.sample(range(COUNT), 2)
    first, second = (folder / f"{one}.png").read_bytes(), (folder / f"{other}.png").read_bytes()
    (folder / f"{one}.png").write_bytes(second)
    (folder / f"{other}.png").write_bytes(first)


def other_weights(folder: Path, rng: random.Random) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "w.safetensors")
    first = next(name for name, value in state.items() if value.ndim == 4)
    state[first] = state[first] * 1.5
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "w.safetensors")


CHANGES: tuple[Callable[[Path, random.Random], None], ...] = (
    relabel, regroup, rename, remove_rows, third_class, invert, swap, other_weights,
)  # fmt: skip


def campaign(rounds: int, rng: random.Random) -> harness.Count:
    """A kill at a random moment, or none, a change, and the same command again."""
    count, home = harness.Count(), Path.cwd()
    make_data(home / "data")
    for number in range(rounds):
        change, place = CHANGES[number % len(CHANGES)], home / f"round{number}"
        shutil.copytree(home / "data", place)
        os.chdir(place)
        problem, kills = changed(change, place, rng)
        os.chdir(home)
        shutil.rmtree(place)
        count.add(problem and f"round {number} ({change.__name__}): {problem}", kills)
    return count


def changed(change: Callable[[Path, random.Random], None], place: Path, rng: random.Random) -> tuple[str, int]:
    """What is wrong after the change, "" where it holds, and how often the run was killed before it."""
    import fairquant

    def work() -> None:
        fairquant.run("changed.yaml", runs="runs")

    kills, _ = kill.killed_until_done(work, rng, 4.0, most=rng.choice([0, 1]))  # 0: finished before the change
    change(place, rng)
    try:
        resumed, fresh = fairquant.run("changed.yaml", runs="runs"), fairquant.run("changed.yaml", runs="fresh")
    except Exception as error:
        return f"{type(error).__name__}: {error}", kills
    if kill.result_of(resumed.folder) != kill.result_of(fresh.folder):
        return "not what it is from scratch", kills
    return "the old result is shown" if resumed.was_finished else "", kills


def cut(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size + 1)])


def zero(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content) + 1)
    content[at : at + 5000] = bytes(len(content[at : at + 5000]))
    file.write_bytes(content)


def alter(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes() or b"x")
    content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    file.write_bytes(content)


def replace_by_a_folder(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    cut, zero, alter, replace_by_a_folder, lambda file, rng: file.unlink(), lambda file, rng: file.write_bytes(pickle.dumps(print)),
)  # fmt: skip


def caches(rounds: int, rng: random.Random) -> harness.Count:
    """Files of the cache damaged before or in the middle of a run, whose result is that without damage."""
    import fairquant

    count = harness.Count()
    make_data(Path("data"))
    os.chdir("data")
    expected = kill.result_of(fairquant.run("changed.yaml", runs="reference").folder)
    cache, out = Path(os.environ["FAIRQUANT_CACHE"]), Path("output.txt").absolute()
    for number in range(rounds):
        runs = Path(f"round{number}")
        child = harness.started(lambda runs=runs: fairquant.run("changed.yaml", runs=runs), out)
        time.sleep(rng.choice([0.0, rng.uniform(0.0, 3.0)]))
        damage, files = rng.choice(DAMAGES), [file for file in cache.rglob("*") if file.is_file()]
        for file in rng.sample(files, min(len(files), rng.choice([1, 2, 5]))):
            with suppress(OSError):  # the run has removed it
                damage(file, rng)
        problem = harness.ended(child, out).problem(0)
        problem = problem or (
            "" if kill.result_of(next(runs.glob("*/*/report.json")).parent) == expected else "another result"
        )
        count.add(problem and f"round {number} ({damage.__name__}): {problem}")
        shutil.rmtree(runs, ignore_errors=True)
    return count


if __name__ == "__main__":
    harness.start(str(__doc__), {"changes": campaign, "caches": caches}, 24)

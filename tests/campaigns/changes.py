"""Content that changes under a run: killed after its baseline and resumed, or finished and started again, it is never a mixture, and
never an old result.

    python tests/campaigns/changes.py [--rounds 20] [--seed 0]

A round is one change, at a random moment of a run. The result must be that of the same content from scratch.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

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
        **kill.RECIPE,
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


def campaign(rounds: int, seed: int) -> kill.Count:
    """A kill at a random moment, a change, and the same command again."""
    import fairquant

    rng, count = random.Random(seed), kill.Count()
    with tempfile.TemporaryDirectory() as name, kill.own_places(Path(name)):
        make_data(Path("data"))
        for number in range(rounds):
            change = CHANGES[number % len(CHANGES)]
            place = Path(name) / f"round{number}"
            shutil.copytree("data", place)
            os.chdir(place)
            most = kill.MOST_KILLS
            kill.MOST_KILLS = rng.choice([0, 1])  # finished before the change, or killed
            kills, _ = kill.killed_until_done(lambda: fairquant.run("changed.yaml", runs="runs") and None, rng, 4.0)
            kill.MOST_KILLS = most
            change(place, rng)
            problem = ""
            try:
                resumed = fairquant.run("changed.yaml", runs="runs")
                fresh = fairquant.run("changed.yaml", runs="fresh")
                if kill.result_of(resumed.folder) != kill.result_of(fresh.folder):
                    problem = f"round {number} ({change.__name__}): not what it is from scratch"
                elif resumed.was_finished:
                    problem = f"round {number} ({change.__name__}): the old result is shown"
            except Exception as error:
                problem = f"round {number} ({change.__name__}): {type(error).__name__}: {error}"
            os.chdir(name)
            shutil.rmtree(place)
            count.add(kills, problem)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count = campaign(options.rounds, options.seed)
    print(f"changes: {count.tried} tried, {count.held} held, {count.kills} kills (seed {options.seed})")
    for problem in count.problems:
        print(f"  {problem}")
    raise SystemExit(bool(count.problems))


if __name__ == "__main__":
    main()

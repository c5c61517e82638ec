"""Disks that are full and places that are forbidden: a command says so in one message, loses nothing, and ends as if nothing had been once
there is room.

    python tests/campaigns/disk.py [--rounds 60] [--seed 0] [--what full,forbidden]

`full` mounts a tmpfs of random size and `forbidden` becomes another user, both in forked processes: they need root, and say so without.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import changes
import harness
import kill
import yaml

NOBODY = 65534
IMPORTED = (
    "multiprocessing.managers", "fairquant.study.compare", "fairquant.study.search", "fairquant.export.onnx", "fairquant.export.audit",
    "fairquant.report.write", "fairquant.report.data", "fairquant.report.pictures", "onnx.reference", "onnxruntime", "torch.onnx",
    "matplotlib.pyplot", "jinja2", "sqlalchemy.dialects.sqlite", "scipy.stats", "sklearn.model_selection", "encodings.cp437",
)  # fmt: skip
STATUS = (0, 1, 2)  # 1: a comparison some of whose runs failed, a study without a finished trial
COMPARE = ["compare", "changed.yaml", "--methods", "fq-qat-ptq,uniform-3-ptq", "--seeds", "1"]


def impossible(needs: str, rounds: int) -> harness.Count:
    print(f"needs {needs}: {rounds} rounds are not tried", flush=True)
    return harness.Count()


def others() -> bool:
    """Whether files can be given to another user: the root of a user namespace may not."""
    Path("given").touch()
    try:
        os.chown("given", NOBODY, NOBODY)
    except OSError:
        return False
    return True


def mounts(disk: Path) -> bool:
    """Whether a tmpfs can be mounted: root in a container often may not."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    return done.returncode == 0 and subprocess.run(["umount", str(disk)], check=False).returncode == 0


def prepared() -> Path:
    """Data, a recipe, a finished run, and where they lie."""
    import fairquant

    changes.make_data(Path("data"))
    os.chdir("data")
    content = yaml.safe_load(Path("changed.yaml").read_text()) | {"method": "fq-baq-ptq", "budget": {"average_bits": 3}}
    Path("changed.yaml").write_text(yaml.safe_dump(content))
    search = {**kill.SEARCH, "sampler": "random", "trials": 2}
    Path("studied.yaml").write_text(yaml.safe_dump({**content, "search": search}))
    fairquant.run("changed.yaml", runs="finished")
    return Path.cwd()


def commands(artifact: Path, target: Path) -> list[list[str]]:
    """What writes to the disk: to the folder of runs, the cache, or a file beside."""
    return [
        ["run", "changed.yaml"], COMPARE, ["study", "studied.yaml"], ["export", str(artifact), "--out", str(target / "model.onnx")],
        ["audit", str(artifact), "--out", str(target / "audit.json")], ["data", "check", "changed.yaml", "--html", str(target / "data.html")],
        ["recipes", "copy", "quickstart", str(target / "mine.yaml")],
    ]  # fmt: skip


def full(rounds: int, rng: random.Random) -> harness.Count:
    """A disk with too little room for runs, cache and what is exported."""
    Path("mounted").mkdir()
    if os.geteuid() or not shutil.which("mount") or not mounts(Path("mounted").absolute()):
        return impossible("root that may mount", rounds)
    home, count = prepared(), harness.Count()
    artifact, disk = next(home.glob("finished/changed/*/model.safetensors")), Path("disk").absolute()
    expected = kill.result_of(artifact.parent)
    disk.mkdir()
    for number in range(rounds):
        arguments = commands(artifact, disk)[number % 7]
        size = int(2 ** rng.uniform(2, 12))  # kilobytes
        os.environ |= {"FAIRQUANT_RUNS": str(disk / "runs"), "FAIRQUANT_CACHE": str(disk / "cache")}
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)], check=True)
        try:
            problem = harness.in_process(arguments).problem(*STATUS)
            (disk / "mine.yaml").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            problem = problem or harness.in_process(arguments).problem(0)
            if not problem and arguments[0] == "run":
                found = kill.result_of(next(disk.glob("runs/*/*/report.json")).parent)
                problem = "" if found == expected else "another result"
            left = [file.name for file in disk.rglob("*.tmp")]
            problem = problem or (f"{left[0]} is left" if left else "")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        count.add(problem and f"round {number}: {' '.join(arguments[:2])}, {size} kB: {problem}")
    return count


def locked(path: Path) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(0o555)


def forbid(path: Path) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(0)


#: What stands in place of a folder.
PLACES: tuple[Callable[[Path], object], ...] = (
    locked, forbid, lambda path: path.write_text("a file"), lambda path: path.symlink_to("nowhere"),
    lambda path: path.symlink_to("/dev/null"), lambda path: path.symlink_to(path), lambda path: os.mkfifo(path),
)  # fmt: skip
WHERE = ("FAIRQUANT_RUNS", "FAIRQUANT_CACHE", "target", "table", "image", "artifact", "HOME", "stdout", "stderr", "cwd")


def forbidden(rounds: int, rng: random.Random) -> harness.Count:
    """Another user, for whom one place is read-only, unreadable, or no folder at all."""
    if os.geteuid() or not others():
        return impossible("root that may become another user", rounds)
    home, count = prepared(), harness.Count()
    for arguments in commands(
        Path("model.safetensors"), Path("target")
    ):  # the other user cannot read what is not imported yet
        importlib.import_module(f"fairquant.cli.{arguments[0]}")
    for name in IMPORTED:
        importlib.import_module(name)
    (artifact,) = home.glob("finished/changed/*/model.safetensors")
    for folder in (*home.parents, home):  # which the other user must reach
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    for number in range(rounds):
        where, place = WHERE[number % len(WHERE)], Path("place").absolute()
        own = Path("own").absolute()
        shutil.copytree(home, own, ignore=shutil.ignore_patterns("finished", "own", "place"))
        shutil.copy(artifact, own / "model.safetensors")
        for each in (own, *own.rglob("*")):
            os.chown(each, NOBODY, NOBODY)
        harm = rng.choice(PLACES)
        harm(place)
        target = place if where == "target" else own
        arguments = rng.choice(commands(own / "model.safetensors", target))
        file = {"table": "t.csv", "image": f"{rng.randrange(changes.COUNT)}.png", "artifact": "model.safetensors"}.get(
            where
        )

        def prepare(where: str = where, file: str | None = file, own: Path = own, place: Path = place) -> None:
            os.environ |= {"FAIRQUANT_RUNS": str(own / "runs"), "FAIRQUANT_CACHE": str(own / "cache"), "HOME": str(own)}
            if where.isupper():
                os.environ[where] = str(place)
            if where == "HOME":
                del os.environ["FAIRQUANT_CACHE"]
            os.chdir(own)
            if file is not None:
                (own / file).chmod(0)
            if where == "cwd":
                gone = own / "gone"
                gone.mkdir()
                os.chdir(gone)
                gone.rmdir()
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            if where in ("stdout", "stderr"):
                setattr(sys, where, None)  # as Python begins where the stream is closed
                os.close(1 if where == "stdout" else 2)

        problem = harness.in_process(arguments, prepare, 120).problem(*STATUS)
        if where == "stderr" and problem == harness.SILENT:  # it had nowhere to say it
            problem = ""
        shown = "" if where in ("stdout", "stderr", "cwd", "table", "image", "artifact") else f" {PLACES.index(harm)}"
        count.add(problem and f"round {number}: {' '.join(arguments[:2])}, {where}{shown}: {problem}")
        remove(place), remove(own)
    return count


def remove(path: Path) -> None:
    """The path, whatever it is and whoever may not."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.exists():
        path.chmod(stat.S_IRWXU)
        shutil.rmtree(path)


if __name__ == "__main__":
    harness.start(str(__doc__), {"full": full, "forbidden": forbidden}, 60)

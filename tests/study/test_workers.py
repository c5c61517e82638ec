"""Workers end with the process that started them."""

from __future__ import annotations

import subprocess
import sys
import time


def test_workers_end_with_the_process_that_started_them(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fairquant",
        "compare",
        "quickstart",
        "tracking.mlflow=null",
        "--demo",
        "--jobs",
        "2",
    ]
    more = ["--methods", "uniform-4,uniform-3", "--runs", str(tmp_path)]
    main = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers() -> dict[str, str]:
        """Number of each worker process on this machine and of its parent: other tests have workers, too."""
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True
        ).stdout.splitlines()
        return {line.split()[0]: line.split()[1] for line in listed if "spawn_main" in line}

    deadline = time.time() + 60
    while not list(tmp_path.rglob("log.txt")) and time.time() < deadline:
        time.sleep(0.1)
    own = {worker for worker, parent in workers().items() if parent == str(main.pid)}
    main.kill()
    main.wait()
    deadline = time.time() + 30
    while own & set(workers()) and time.time() < deadline:
        time.sleep(0.2)
    assert own
    assert not own & set(workers())


LATE = """
import multiprocessing, os, pathlib, time

def late(place):
    pathlib.Path(place).write_text(str(os.getpid()))
    time.sleep(2)
    from fairquant.study.workers import follow_parent
    follow_parent()
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=late, args=("child",)).start()
"""


def test_a_worker_whose_parent_died_before_it_looked_ends_as_well(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    main = subprocess.Popen([sys.executable, "late.py"], cwd=tmp_path)
    child, deadline = tmp_path / "child", time.time() + 30
    while not (child.exists() and child.read_text()) and time.time() < deadline:
        time.sleep(0.05)
    main.kill()
    main.wait()
    number, deadline = child.read_text(), time.time() + 20

    def alive() -> bool:
        state = subprocess.run(["ps", "-o", "stat=", "-p", number], capture_output=True, text=True).stdout
        return bool(state.strip()) and not state.startswith("Z")

    assert alive()
    while alive() and time.time() < deadline:
        time.sleep(0.2)
    assert not alive()


STUBBORN = """
import multiprocessing, pathlib, signal, sys, time

def work(place, ignores):
    if ignores:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(place).touch()
    time.sleep(60)

if __name__ == "__main__":
    from fairquant.study import workers
    workers.SAVING = 1.0
    started = [multiprocessing.get_context("spawn").Process(target=work, args=(f"{n}", n == 1)) for n in range(2)]
    for each in started:
        each.start()
    while not all(pathlib.Path(f"{n}").exists() for n in range(2)):
        time.sleep(0.05)
    workers.end(started)
    for each in started:
        each.join()
    print([each.exitcode for each in started])
"""


def test_workers_are_asked_to_end_and_killed_where_they_do_not(tmp_path):
    (tmp_path / "main.py").write_text(STUBBORN)
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[-15, -9]", done.stderr

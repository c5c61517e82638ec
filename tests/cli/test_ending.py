"""How commands end: status and words, whatever the streams, the environment and the signals are."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import fairquant
from helpers.recipes import write_recipe

from fairquant.cli.ending import ending

COMMAND = [sys.executable, "-m", "fairquant"]


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line in bash, in which `fairquant` is ours; its status is that of fairquant."""
    text = f'fairquant() {{ {sys.executable} -m fairquant "$@"; }}; {line}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    "line", ["fairquant --help | head -n 1", "fairquant recipes | true", "fairquant show quickstart | head -n 1"]
)
def test_a_reader_that_goes_away_is_no_error(line):
    done = shell(line)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode in (0, 1)


def test_output_that_is_closed_goes_nowhere():
    done = shell("fairquant recipes >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert shell("fairquant recipes >&- 2>&-").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_to_a_full_disk_is_an_error_in_words():
    done = shell("fairquant recipes > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "fairquant: error: No space left on device\n"


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_any_encoding_will_do(environment):
    Path("größe.yaml").write_text("dataset: {name: synthetic-lesions, images: 60}\n# über\n", encoding="utf-8")
    for line in ("fairquant show größe.yaml", "fairquant run größe.yaml tracking.mlflow=null model.name=test_resnet "
                 "baseline.epochs=0 train.post_training=true calibration.images=8 model.image_size=32"):  # fmt: skip
        done = shell(line, **environment)
        assert done.returncode == 0, done.stderr
    assert list(Path("runs").glob("größe/*/report.html"))


def test_a_user_without_a_home_can_work():
    """As in a container whose user is in no table of users."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "FAIRQUANT_CACHE", "XDG_CACHE_HOME")
    }
    code = "import pwd; pwd.getpwuid = lambda number: {}[number]; from fairquant.cli import main; main()"
    arguments = ["run", "quickstart", "--demo", "model.name=test_resnet", "baseline.epochs=0", "train.post_training=true",
                 "dataset.images=60", "calibration.images=8", "tracking.mlflow=null"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


PLACES = {
    "a file": lambda: Path("place").write_text("x"),
    "a link to nowhere": lambda: Path("place").symlink_to("/nonexistent/folder"),
    "a device": lambda: Path("place").symlink_to("/dev/null"),
    "a folder of the system": lambda: Path("place").symlink_to("/proc"),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES.keys())
def test_a_folder_for_runs_that_is_none_is_named(make):
    make()
    done = fairquant("run", write_recipe(), "--runs", "place")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "place" in done.stderr.splitlines()[-1]


def without_privilege() -> None:
    """From here on files that may not be read or written are not, for root either (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (1, 2):
        prctl(24, capability, 0, 0, 0)


def as_a_user(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, preexec_fn=without_privilege, check=False,
        env={**os.environ, "FAIRQUANT_CACHE": str(cache)},
    )  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    """A recipe on a table of 20 images that takes a second."""
    from PIL import Image

    rows = ["file,label,sex"]
    for number in range(20):
        Image.new("RGB", (32, 32), (number * 12, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},{'mf'[number // 2 % 2]}")
    Path("t.csv").write_text("\n".join(rows) + "\n")
    Path("r.yaml").write_text(
        "dataset: {name: image-table, table: t.csv, image: file, label: label, attributes: [sex]}\n"
        "model: {name: test_resnet, image_size: 32}\nbaseline: {epochs: 0}\ntrain: {post_training: true}\n"
        "tracking: {mlflow: null}\ncalibration: {images: 8}\n"
    )
    for folder in ("runs", "cache", "out"):
        Path(folder).mkdir()
    return "r.yaml"


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="takes Linux's capabilities")


@needs_linux
@pytest.mark.parametrize(("what", "mode"), [("runs", 0o500), ("3.png", 0), ("t.csv", 0), ("r.yaml", 0), ("out", 0o500)])
def test_what_may_not_be_read_or_written_is_named(what, mode, pictures):
    Path(what).chmod(mode)
    done = as_a_user("run", pictures, cache=Path("cache"))
    if what == "out":
        assert done.returncode == 0, done.stderr
        (artifact,) = Path("runs").glob("r/*/model.safetensors")
        done = as_a_user(
            "export", str(artifact), "--activations", "fp32", "--out", "out/model.onnx", cache=Path("cache")
        )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert what in done.stderr
    assert "ermission denied" in done.stderr


@needs_linux
def test_a_cache_that_may_not_be_written_is_done_without(pictures):
    Path("cache").chmod(0o500)
    done = as_a_user("run", pictures, cache=Path("cache"))
    assert done.returncode == 0, done.stderr
    assert (
        "no image cache in" in done.stderr and "(Permission denied): decoded images are kept in memory" in done.stderr
    )


def started(*more: str) -> subprocess.Popen[str]:
    """A run that trains for long, once it has begun to train."""
    write_recipe(train={"epochs": 400, "batch_size": 16, "augment": "flips"})
    process = subprocess.Popen(
        [*COMMAND, "run", "tiny.yaml", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    )  # fmt: skip
    deadline = time.time() + 120
    while time.time() < deadline and not list(Path("runs").glob("tiny/*/checkpoints/train.pt")):
        time.sleep(0.1)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_asked_to_end_saves_says_so_and_can_be_resumed(number, code):
    process = started()
    (checkpoint,) = Path("runs").glob("tiny/*/checkpoints/train.pt")
    before = checkpoint.stat().st_mtime_ns
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    name = signal.Signals(number).name
    assert f"stopped by {name}. The same command resumes." in errors
    assert "Traceback" not in errors
    assert f"stopped: Terminated: {name}" in next(Path("runs").glob("tiny/*/log.txt")).read_text()
    assert checkpoint.stat().st_mtime_ns > before


def test_an_impatient_second_ctrl_c_is_no_traceback():
    process = started()
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "text", ["[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory", "other"]
)
def test_torchs_errors_about_memory_are_one_sentence_and_other_bugs_pass(text, capsys):
    def fails() -> int:
        with ending() as status:
            raise RuntimeError(text)
        return status.code

    if text == "other":
        with pytest.raises(RuntimeError, match="other"):
            fails()
    else:
        assert fails() == 2
        assert "not enough memory" in capsys.readouterr().err


def test_a_thread_that_a_plugin_leaves_does_not_hold_the_command(tmp_path):
    code = (
        "import sys, threading, time\nfrom fairquant.cli import main\n"
        "threading.Thread(target=time.sleep, args=(600,), name='theirs').start()\nsys.argv = ['fairquant', '--help']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert "ended with threads still running, which a plugin has left: theirs" in done.stderr


def test_a_process_that_calls_the_command_line_goes_on(tmp_path):
    """As tests and notebooks do: threads are waited for, or not, when the process itself ends."""
    code = (
        "import sys, threading, time\nfrom fairquant.cli import ending, main\n"
        "sys.modules['fairquant.cli.ending'].GRACE = 0.2\nsys.argv = ['fairquant', '--help']\n"
        "threading.Thread(target=time.sleep, args=(3,)).start()\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "time.sleep(1.5)\nprint('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith("went on\n")


def test_what_is_closed_at_the_start_takes_no_file_that_is_opened_later(tmp_path):
    """Libraries write to the numbers 1 and 2, whatever file has them."""
    code = (
        "import os\nfrom fairquant.cli.ending import prepare_streams\nprepare_streams()\n"
        f"file = open({str(tmp_path / 'opened')!r}, 'w')\nos.write(2, b'noise'); os.write(1, b'noise')\nfile.write('content')"
    )
    shell(f"{sys.executable} -c {shlex.quote(code)} 0<&- 1>&- 2>&-")
    assert (tmp_path / "opened").read_text() == "content"

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossrec.config import compose
from crossrec.runs.store import RunFolder, write_json
from crossrec.studies.trial import LocalProcesses, TrialJob


class Scripted(LocalProcesses):
    """Runs, instead of a training, the Python script that a job's only override holds."""

    def command(self, job: TrialJob) -> list[str]:
        return [
            sys.executable,
            "-c",
            "import sys, os, json, time\nrun = sys.argv[1]\n" + job.overrides[0],
            str(job.run.path),
        ]


def job(folder: Path, number: int, script: str, variable: str | None = None) -> TrialJob:
    run = RunFolder(folder / f"run{number}")
    run.path.mkdir(parents=True, exist_ok=True)
    return TrialJob(number, (script,), run, variable)


STATUS = "json.dump({'state': %r, 'ended': time.time(), 'error': 'E: it broke'}, open(run + '/status.json', 'w'))\n"
FINISH = STATUS % "finished" + "open(run + '/metrics.json', 'w').write('{}')"


def test_outcomes_of_processes(tmp_path: Path) -> None:
    stale = job(tmp_path, 5, "sys.exit(1)")
    stale.run.mark("pruned", ended=time.time() - 9)
    done = job(tmp_path, 6, "sys.exit(1)")
    done.run.mark("finished")
    write_json(done.run.path / "metrics.json", {})
    jobs = [
        job(tmp_path, 0, FINISH),
        job(tmp_path, 1, STATUS % "pruned" + "sys.exit(1)"),
        job(tmp_path, 2, STATUS % "failed" + "sys.exit(1)"),
        job(tmp_path, 3, "os.kill(os.getpid(), 9)"),
        job(tmp_path, 4, "print('no such thing', flush=True); sys.exit(2)"),
        stale,
        done,
    ]
    found = {o.job.number: o for o in Scripted(3, [], tmp_path / "logs").run_batch(jobs)}
    assert [found[n].state for n in range(7)] == ["finished", "pruned", *["failed"] * 4, "finished"]
    assert found[2].error.startswith("E: it broke (see ")
    assert found[3].error.startswith("killed by SIGKILL, as the system does when memory runs out")
    assert found[4].error.startswith("exited with 2")
    assert (tmp_path / "logs" / "run4.log").read_text() == "no such thing\n"
    assert found[6].seconds == 0 < found[0].seconds


def test_trials_overlap_and_are_drawn_when_there_is_room(tmp_path: Path) -> None:
    drawn: list[int] = []

    def jobs() -> Iterator[TrialJob]:
        for number in range(3):
            drawn.append(number)
            yield job(tmp_path, number, "time.sleep(%f)\n" % (0.6 if number == 0 else 0.0) + FINISH)

    order = []
    for outcome in Scripted(2, [], tmp_path / "logs").run_batch(jobs()):
        order.append((outcome.job.number, len(drawn)))
    assert order == [(1, 2), (2, 3), (0, 3)]


def test_a_run_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    waited = job(tmp_path, 0, "sys.exit(1)")
    code = "import sys, time\nfrom pathlib import Path\nfrom crossrec.runs.store import *\n"
    code += "run = RunFolder(Path(sys.argv[1]))\n"
    code += "with run.lock():\n  print(flush=True); time.sleep(0.5)\n"
    code += "  write_json(run.path / 'metrics.json', {}); run.mark('finished')\n"
    with subprocess.Popen([sys.executable, "-c", code, waited.run.path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        (outcome,) = Scripted(1, [], tmp_path / "logs").run_batch([waited])
    assert outcome.state == "finished" and outcome.seconds == 0


def test_a_process_that_comes_second_to_a_run_tries_again(tmp_path: Path) -> None:
    script = "seen = run + '/seen'\nif not os.path.exists(seen):\n  open(seen, 'w'); sys.exit(75)\n" + FINISH
    (outcome,) = Scripted(1, [], tmp_path / "logs").run_batch([job(tmp_path, 0, script)])
    assert outcome.state == "finished" and outcome.seconds > 0


@pytest.mark.parametrize("heeds", [True, False])
def test_what_runs_is_stopped_with_the_search(tmp_path: Path, heeds: bool) -> None:
    ignore = "" if heeds else "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    script = ignore + "open(run + '/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    launcher = Scripted(2, [], tmp_path / "logs", patience=0.3)
    long = job(tmp_path, 0, script)

    def jobs() -> Iterator[TrialJob]:
        yield long
        while not (long.run.path / "pid").is_file() or not (long.run.path / "pid").read_text():
            yield job(tmp_path, 1, FINISH)

    outcomes = launcher.run_batch(jobs())
    next(outcomes)
    while not (long.run.path / "pid").is_file():
        next(outcomes)
    pid = int((long.run.path / "pid").read_text())
    outcomes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_trials_process_is_told_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = LocalProcesses(2, [tmp_path / "a b's"], tmp_path / "logs")
    monkeypatch.setenv("CROSSREC_TRIAL", "of somebody else")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    plain, pruned = job(tmp_path, 0, "dim=4"), job(tmp_path, 1, "dim=4", "{}")
    assert "CROSSREC_TRIAL" not in launcher.environment(plain)
    assert launcher.environment(pruned)["CROSSREC_TRIAL"] == "{}"
    assert launcher.environment(plain)["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert launcher.environment(plain)["OMP_NUM_THREADS"] == "1"
    words = launcher.command(plain)
    assert words[1:4] == ["-m", "crossrec", "train"] and words[-1] == "dim=4"
    (tmp_path / "a b's" / "experiment").mkdir(parents=True)
    (tmp_path / "a b's" / "experiment" / "mine.yaml").write_text("# @package _global_\ndim: 5\n")
    assert compose([words[4], "experiment=mine"])["dim"] == 5

import os
import signal
import time
from pathlib import Path

import polars as pl
import pytest
from running import here, run
from study_files import finish, start, write_study

from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs


def counted(folder: Path) -> str:
    return f"+callbacks.count={{_target_: counting.Count, path: '{folder / 'trained'}'}}"


def trainings(folder: Path) -> list[list[str]]:
    return [line.split(" ") for line in (folder / "trained").read_text().splitlines()]


def test_a_dry_run_lists_and_trains_nothing(small: list[str], tmp_path: Path) -> None:
    done = here("sweep", str(write_study(tmp_path, small)), "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("│ new ") == 4 and "merged seed 1" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_every_row_must_compose_before_anything_runs(small: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, small, rows={"good": ["strategy=merged"], "bad": ["strategy=mergd"]})
    done = here("sweep", str(study), cwd=tmp_path)
    assert done.returncode == 1
    assert "study.yaml, row 'bad': no option 'mergd' for strategy; did you mean merged?" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_failing_row_stops_nothing_and_is_tried_again_when_asked(small: list[str], tmp_path: Path) -> None:
    rows = {"bad": ["strategy=merged", "trainer.check_val_every_n_epoch=99"], "good": ["strategy=popularity"]}
    study = str(write_study(tmp_path, small, rows=rows, seeds=[0]))
    done = finish(start("sweep", study, cwd=tmp_path))
    assert done.returncode == 1
    assert "1 of 2 runs finished" in done.stdout
    assert "failed bad seed 0: CrossrecError: no epoch was validated" in done.stdout
    log = Path(done.stdout.partition("log: ")[2].splitlines()[0])
    assert "no epoch was validated" in log.read_text()
    assert "--retry-failed" in done.stderr
    states = {r.id.split("-")[1]: r.state for r in find_runs(tmp_path / "runs")}
    assert states == {"merged": "failed", "popularity": "finished"}

    begun = {r.id: r.status["started"] for r in find_runs(tmp_path / "runs")}
    assert here("sweep", study, cwd=tmp_path).returncode == 1
    assert {r.id: r.status["started"] for r in find_runs(tmp_path / "runs")} == begun  # a failed run is left alone
    assert here("sweep", study, "--retry-failed", cwd=tmp_path).returncode == 1
    after = {r.id: r.status["started"] for r in find_runs(tmp_path / "runs")}
    assert [i.split("-")[1] for i in begun if after[i] > begun[i]] == ["merged"]


@pytest.mark.slow
def test_killed_as_a_whole_it_resumes_and_ends_as_if_nothing_had_been(small: list[str], tmp_path: Path) -> None:
    rows = {"merged": ["strategy=merged"]}
    long = [*small, "trainer.max_epochs=40", "callbacks=none"]
    study = str(write_study(tmp_path, long, rows=rows))
    sweep = start("sweep", study, cwd=tmp_path)
    deadline = time.time() + 120
    while not (last := list((tmp_path / "runs").glob("*/checkpoints/last.ckpt"))):
        assert time.time() < deadline and sweep.poll() is None
        time.sleep(0.05)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    broken = RunFolder(last[0].parents[1])
    while broken.locked:  # the kill reaches the child a moment later
        time.sleep(0.05)
    assert broken.state == "interrupted"
    done = finish(start("sweep", study, cwd=tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs finished" in done.stdout

    whole = run([*long, *rows["merged"], f"seed={broken.config['seed']}", f"paths.runs={tmp_path / 'whole'}"])
    assert whole.id == broken.id
    assert (whole.path / "metrics.json").read_bytes() == (broken.path / "metrics.json").read_bytes()
    assert here("sweep", study, cwd=tmp_path).stdout.startswith("2 of 2 runs finished")


@pytest.mark.slow
def test_two_sweeps_at_once_train_each_run_once_a_failing_one_too(small: list[str], tmp_path: Path) -> None:
    words = [*small, counted(tmp_path), "trainer.max_epochs=10"]
    rows = {"merged": ["strategy=merged"], "bad [/x]": ["strategy=merged", "trainer.check_val_every_n_epoch=99"]}
    study = str(write_study(tmp_path, words, rows=rows, seeds=[0]))
    both = [start("sweep", study, cwd=tmp_path) for _ in range(2)]
    for done in [finish(process) for process in both]:
        assert done.returncode == 1, done.stdout + done.stderr
        assert "1 of 2 runs finished" in done.stdout
        assert done.stdout.count("failed bad [/x] seed") >= 1  # names with brackets come out whole
    folders = [line[0] for line in trainings(tmp_path)]
    assert len(folders) == len(set(folders)) == 2


@pytest.mark.slow
def test_a_killed_worker_takes_no_other_job_along(small: list[str], tmp_path: Path) -> None:
    study = str(write_study(tmp_path, [*small, "trainer.max_epochs=25"], rows={"merged": ["strategy=merged"]}))
    sweep = start("sweep", study, "hydra/launcher=submitit_local", cwd=tmp_path)
    deadline = time.time() + 120
    while not list((tmp_path / "runs").glob("*/checkpoints/last.ckpt")):
        assert time.time() < deadline and sweep.poll() is None
        time.sleep(0.05)
    worker = next(p for p in children(sweep.pid) if "submitit.core" in command(p))
    for pid in [worker, *(p for p in children(worker) if "submitit.core" in command(p))]:
        os.kill(pid, signal.SIGKILL)
    done = finish(sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the launcher gave up" in done.stdout and "2 of 2 runs finished" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminated_sweep_leaves_nothing_running(small: list[str], tmp_path: Path) -> None:
    study = str(write_study(tmp_path, [*small, "trainer.max_epochs=500", "callbacks=none"]))
    sweep = start("sweep", study, "-j", "2", "--rows", "merged", cwd=tmp_path)
    deadline = time.time() + 120
    while not (found := list((tmp_path / "runs").glob("*/checkpoints/last.ckpt"))):
        assert time.time() < deadline and sweep.poll() is None
        time.sleep(0.05)
    sweep.terminate()
    done = finish(sweep)
    assert done.returncode == 130 and "the same line again resumes" in done.stderr
    run = RunFolder(found[0].parents[1])
    while run.locked:
        assert time.time() < deadline
        time.sleep(0.1)
    assert run.state == "interrupted"


def children(pid: int) -> list[int]:
    found = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in children(child)]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


LAUNCHERS = {
    "basic": [],
    "joblib": ["-j", "2", "--gpus", "7,8"],
    "submitit": ["hydra/launcher=submitit_local"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.include_dashboard=false"],
}


@pytest.mark.slow
def test_every_launcher_gives_the_same_table(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # its workers let every other process of the machine go first
    words = [*small, counted(tmp_path)]
    study = str(write_study(tmp_path, words, baseline="popularity"))
    tables = {}
    for name, launcher in LAUNCHERS.items():
        runs = f"paths.runs={tmp_path / name}"
        done = finish(start("sweep", study, runs, *launcher, cwd=tmp_path))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 of 4 runs finished" in done.stdout
        shown = here("table", study, runs, "--format", "csv", cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        tables[name] = shown.stdout
    assert pl.read_csv(tables["basic"].encode()).height == 2 * 2 * 2  # rows, domains, metrics
    for name in LAUNCHERS:
        assert tables[name] == tables["basic"]
    lines = trainings(tmp_path)
    assert len(lines) == len(LAUNCHERS) * 2  # the popularity row does not train
    jobs = {folder.split("/")[-2]: (device, threads) for folder, device, threads in lines}
    assert jobs["joblib"][0] in ("7", "8")
    assert jobs["joblib"][1] == str(max((os.cpu_count() or 1) // 2, 1))
    assert jobs["basic"][0] == "-"


def test_a_missing_or_unknown_launcher_says_what_to_do(small: list[str], tmp_path: Path) -> None:
    study = str(write_study(tmp_path, small))
    done = here("sweep", study, "hydra/launcher=slurm", cwd=tmp_path)
    assert done.returncode == 1
    assert "no launcher 'slurm'; there are basic, joblib, submitit_slurm" in done.stderr
    done = here("sweep", study, "-j", "2", "hydra/launcher=ray", cwd=tmp_path)
    assert done.returncode == 1 and "not both" in done.stderr
    done = here("sweep", study, "--rows", "mergd", cwd=tmp_path)
    assert done.returncode == 1 and "no row 'mergd'; did you mean merged?" in done.stderr
    done = here("sweep", study, "--seeds", "7", cwd=tmp_path)
    assert done.returncode == 1 and "no seed 7; its seeds are 0, 1" in done.stderr

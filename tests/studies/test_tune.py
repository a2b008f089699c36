import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import crossrec, run

from crossrec.commands import tune as command
from crossrec.commands.train import composed
from crossrec.config import compose
from crossrec.errors import CrossrecError
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.identity import run_id
from crossrec.runs.pruning import Pruned
from crossrec.runs.store import RunFolder, write_json
from crossrec.runs.trial_storage import TrialAddress, open_storage, open_study
from crossrec.studies.reader import read_study
from crossrec.studies.setting import settings
from crossrec.studies.trial import LocalProcesses, Outcome, TrialJob
from crossrec.studies.tune import Progress, Tuned, Tuner
from crossrec.studies.tuned import experiment, scientific, write_experiment

SEARCH = {"optimizer.lr": {"log": ["1e-4", "1e-1"]}, "dim": {"choice": [4, 8]}}


class Pretend:
    """Finishes each run at once, with a value that its learning rate gives; may stop as a killed tuner does."""

    def __init__(self, value: Callable[[TrialJob], float | None | str], die_at: int | None = None) -> None:
        self.value, self.die_at = value, die_at
        self.seen: list[TrialJob] = []

    def run_batch(self, jobs: Iterable[TrialJob]) -> Iterator[Outcome]:
        for job in jobs:
            if len(self.seen) == self.die_at:
                raise KeyboardInterrupt
            self.seen.append(job)
            value = self.value(job)
            if isinstance(value, str):
                yield Outcome(job, value, "out of luck" if value == "failed" else "")  # type: ignore[arg-type]
                continue
            write_json(job.run.path / "metrics.json", {"best_score": value})
            job.run.mark("finished")
            yield Outcome(job, "finished")


def lr(job: TrialJob) -> float:
    return float(next(w for w in job.overrides if w.startswith("optimizer.lr=")).partition("=")[2])


def study_file(folder: Path, small: list[str], search: dict[str, Any] = SEARCH, **more: Any) -> Path:
    rows = {"plain": ["strategy=target_only"], "mmd": {"overrides": ["strategy=mmd"], "search": search}}
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump({"base": small, "rows": rows, "seeds": [3, 4], "metrics": ["ndcg@10"], **more}))
    return path


def tuner(path: Path, launcher: Any = None, pruning: bool = True) -> Tuner:
    return Tuner(settings(read_study(path))[0], pruning=pruning, launcher=launcher)


def searched(path: Path, launcher: Any, trials: int) -> Tuned:
    return tuner(path, launcher).run(trials, lambda _: None)


def states(made: Tuner) -> list[str]:
    return [t.state.name for t in open_study(open_storage(made.storage), made.name).trials]


@pytest.fixture
def path(tmp_path: Path, small: list[str]) -> Path:
    return study_file(tmp_path, small)


def test_the_best_trial_is_found_and_progress_told(path: Path) -> None:
    told: list[Progress] = []
    launcher = Pretend(lr)
    tuned = tuner(path, launcher).run(6, told.append)
    values = [lr(job) for job in launcher.seen]
    assert [p.value for p in told] == values
    assert told[-1].best == tuned.trials[0].value == max(values)
    assert [(p.done, p.total) for p in told] == [(n, 6) for n in range(1, 7)]
    assert told[-1].seconds_left == 0 < told[0].seconds_left
    assert tuned.run.path == launcher.seen[tuned.trials[0].number].run.path
    assert tuned.monitor == "ndcg@10"
    assert set(tuned.importances) == set(SEARCH)
    assert all(job.overrides[-1] == "seed=3" for job in launcher.seen)


def test_a_killed_search_goes_on_as_if_it_had_not_been(path: Path, tmp_path: Path, small: list[str]) -> None:
    whole = Pretend(lr)
    searched(path, whole, 13)
    other = tmp_path / "other"
    other.mkdir()
    again = study_file(other, [f"paths.runs={tmp_path / 'runs2'}" if "paths.runs" in w else w for w in small])
    first, second = Pretend(lr, die_at=11), Pretend(lr)
    with pytest.raises(KeyboardInterrupt):
        searched(again, first, 13)
    assert states(tuner(again)) == ["COMPLETE"] * 11 + ["RUNNING"]
    searched(again, second, 13)
    assert [j.number for j in first.seen + second.seen] == list(range(13))
    assert [j.run.id for j in first.seen + second.seen] == [j.run.id for j in whole.seen]
    third = Pretend(lr)
    searched(again, third, 13)
    assert third.seen == []
    searched(again, third, 14)
    assert [j.number for j in third.seen] == [13]


def test_a_trial_killed_while_its_parameters_were_drawn_is_given_up(path: Path) -> None:
    made = tuner(path, Pretend(lr))
    made.database.parent.mkdir(parents=True)
    open_study(open_storage(made.storage), made.name).ask()
    made.run(2, lambda _: None)
    assert states(made) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_another_space_or_setting_is_another_search(path: Path, tmp_path: Path, small: list[str]) -> None:
    name = tuner(path).name
    assert tuner(path).name == name
    assert tuner(study_file(tmp_path, small, {"optimizer.lr": {"log": [1e-4, 0.2]}})).name != name
    assert tuner(study_file(tmp_path, [*small, "batch_size=64"])).name != name


def test_two_tuners_do_not_share_a_search(path: Path) -> None:
    made = tuner(path, Pretend(lr))
    with made._only(), pytest.raises(CrossrecError, match=r"lab\.db is being filled by another"):
        made.run(1, lambda _: None)


def test_failures_count_in_their_session_only(path: Path) -> None:
    tuned = searched(
        path, Pretend(lambda job: "failed" if job.number == 0 else float("nan") if job.number == 1 else 1), 3
    )
    assert [t.state for t in tuned.trials] == ["finished", "failed", "failed"]
    again = Pretend(lambda _: "pruned")
    tuned = searched(path, again, 3)
    assert len(again.seen) == 2
    assert [t.state for t in tuned.trials] == ["finished", "pruned", "pruned", "failed", "failed"]


def test_a_hopeless_search_is_given_up(path: Path) -> None:
    launcher = Pretend(lambda _: "failed")
    with pytest.raises(CrossrecError, match="mmd: 3 trials failed and none succeeded: out of luck"):
        searched(path, launcher, 50)
    assert len(launcher.seen) == 3


def test_a_strategy_that_trains_nothing_has_no_value(path: Path) -> None:
    with pytest.raises(CrossrecError, match="the strategy trains nothing"):
        searched(path, Pretend(lambda _: None), 3)


@pytest.mark.parametrize(
    ("search", "arguments", "message"),
    [
        (
            {"optimizer.lrr": {"int": [1, 2]}},
            {},
            "rows.mmd.search, tried with optimizer.lrr=1: no config key 'optimizer.lrr'",
        ),
        ({"user_encoder": {"choice": ["id", "transfromer"]}}, {}, "no option 'transfromer' for user_encoder"),
        ({"seed": {"int": [1, 2]}}, {}, "seed is searched; it is no hyper-parameter"),
        (SEARCH, {"overrides": ["dim=4"]}, "rows.mmd searches dim, so it cannot be set on the command line"),
        (SEARCH, {"rows": ["plain"]}, "rows.plain has no search: mapping"),
        (SEARCH, {"rows": ["mmdd"]}, "no row 'mmdd'; did you mean mmd?"),
        ({}, {}, "no row has a search: mapping"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    tmp_path: Path, small: list[str], search: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    study = read_study(study_file(tmp_path, small, search))
    with pytest.raises(CrossrecError, match=re.escape(message)) as caught:
        settings(study, **arguments)
    assert "lab.yaml: " in str(caught.value)


def test_each_data_set_and_each_run_of_a_row_is_tuned_by_itself(tmp_path: Path, small: list[str]) -> None:
    row = {"overrides": ["strategy=mmd"], "runs": [["target=a"], ["target=b"]], "search": SEARCH}
    path = study_file(tmp_path, small, rows={"mmd (ours)": row}, data={"x": [], "y": ["split=ratio"]})
    made = settings(read_study(path), overrides=["batch_size=64"])
    assert [s.name for s in made] == [f"lab_mmd_ours_{d}_{part}" for d in "xy" for part in (1, 2)]
    assert [w for w in made[3].words(["dim=4"]) if w not in small] == [
        "split=ratio", "strategy=mmd", "target=b", "batch_size=64", "dim=4", "seed=3",
    ]  # fmt: skip


def same_run(words: list[str], folder: Path, config_dirs: list[Path] | None = None) -> None:
    config = composed(words, config_dirs)
    identity = run_id(config, prepare_corpus(config).fingerprint)
    write_experiment(folder, "best", words, ["one"], identity, config_dirs or [])
    again = composed(["experiment=best"], [folder, *(config_dirs or [])])
    assert {k: v for k, v in again.items() if k != "paths"} == {k: v for k, v in config.items() if k != "paths"}


@pytest.mark.parametrize(
    "words",
    [
        ["strategy=merged", "strategy=mmd", "adaptation=[mmd]", "adaptation.mmd.weight=0.3", "optimizer.lr=1e-05"],
        ["experiment=demo", "data=synthetic", "split=leave_one_out", "strategy=mmd", "dim=9", "seed=5"],
        ["experiment=food_kitchen", "data=synthetic", "user_encoder=id", "evaluation.valid_queries=null"],
        ["scheduler=cosine", "target=all", "+trainer.max_steps=7", "++trainer.min_epochs=1", "item_encoder=id"],
        ["split=ratio", 'split.evaluated=["${target}"]', "dim=4", "dim=8", "callbacks=none"],
    ],
)
def test_an_experiment_composes_to_the_config_of_its_words(tmp_path: Path, small: list[str], words: list[str]) -> None:
    same_run([*small, *words], tmp_path / "conf_tuned")


def test_an_experiment_is_written_as_deltas() -> None:
    words = ["experiment=demo", "strategy=mmd", "adaptation=[mmd]", "adaptation.mmd.weight=0.5", "strategy=cmf"]
    assert experiment(words) == {
        "defaults": ["demo", "_self_", {"override /strategy": "cmf"}, {"override /adaptation": ["mmd"]}],
        "adaptation": {"mmd": {"weight": 0.5}},
    }
    assert scientific(["paths.runs=x", "dim=4", "logger=none", "hydra/launcher=joblib", "trainer.devices=2"]) == [
        "dim=4"
    ]


@pytest.mark.parametrize("word", ["~dim", "hydra.verbose=true"])
def test_what_an_experiment_cannot_hold_is_told(word: str) -> None:
    with pytest.raises(CrossrecError, match="cannot be written into an experiment"):
        experiment([word])


def test_an_experiment_that_would_train_another_run_is_not_written(tmp_path: Path, small: list[str]) -> None:
    with pytest.raises(CrossrecError, match="would train run synthetic-merged-.*, not other"):
        write_experiment(tmp_path / "out", "best", small, [], "other")
    assert [p.name for p in (tmp_path / "out").rglob("*.yaml")] == []


def test_a_choice_of_a_folder_of_ones_own_is_a_choice(tmp_path: Path, small: list[str]) -> None:
    (tmp_path / "own" / "optimizer").mkdir(parents=True)
    (tmp_path / "own" / "optimizer" / "fast.yaml").write_text("_target_: torch.optim.Adam\n_partial_: true\nlr: 0.1\n")
    same_run([*small, "optimizer=fast", "optimizer.lr=0.2"], tmp_path / "out", [tmp_path / "own"])


def test_a_pruned_run_goes_on_to_the_metrics_of_one_that_was_not(
    tmp_path: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*small, "trainer.max_epochs=4"]
    whole = (run(words).path / "metrics.json").read_bytes()
    words.append(f"paths.runs={tmp_path / 'pruned'}")
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    study = open_study(open_storage(url), "s")
    for _ in range(6):  # five that the pruner needs, good from epoch 1 on; then ours
        trial = study.ask()
        for epoch, value in enumerate((0.0, 0.9, 0.9, 0.9)):
            if trial.number < 5:
                trial.report(value, epoch)
        if trial.number < 5:
            study.tell(trial, 0.9)
    monkeypatch.setenv("CROSSREC_TRIAL", TrialAddress(url, "s", 5).dump())
    with pytest.raises(Pruned, match="trial 5 is behind the others at epoch 1"):
        run(words)
    (folder,) = (RunFolder(p.parent) for p in (tmp_path / "pruned").glob("*/config.yaml"))
    assert folder.status["state"] == "pruned" and not folder.finished and folder.last.is_file()
    assert list(open_study(open_storage(url), "s").trials[5].intermediate_values) == [0, 1]
    monkeypatch.delenv("CROSSREC_TRIAL")
    assert (run(words).path / "metrics.json").read_bytes() == whole
    assert folder.status["state"] == "finished" and folder.status["error"] is None


def test_a_wrong_trial_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSREC_TRIAL", "{}")
    with pytest.raises(CrossrecError, match=r"CROSSREC_TRIAL is '\{\}', not JSON"):
        TrialAddress.from_environment()
    monkeypatch.delenv("CROSSREC_TRIAL")
    assert TrialAddress.from_environment() is None


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
    code = "import sys, time\nfrom pathlib import Path\nfrom crossrec.runs.store import *\nrun = RunFolder(Path(sys.argv[1]))\n"
    code += "with run.lock():\n  print(flush=True); time.sleep(0.5)\n"
    code += "  write_json(run.path / 'metrics.json', {}); run.mark('finished')\n"
    with subprocess.Popen([sys.executable, "-c", code, waited.run.path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        (outcome,) = Scripted(1, [], tmp_path / "logs").run_batch([waited])
    assert outcome.state == "finished" and outcome.seconds == 0


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
    launcher = LocalProcesses(2, [tmp_path / "a b"], tmp_path / "logs")
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
    (tmp_path / "a b" / "experiment").mkdir(parents=True)
    (tmp_path / "a b" / "experiment" / "mine.yaml").write_text("# @package _global_\ndim: 5\n")
    assert compose([words[4], "experiment=mine"])["dim"] == 5


def test_pruning_can_be_switched_off(path: Path) -> None:
    for pruning in (True, False):
        launcher = Pretend(lr)
        tuner(path, launcher, pruning).run(1 if pruning else 2, lambda _: None)
        assert all((j.variable is not None) == pruning for j in launcher.seen) and launcher.seen


def test_the_command_tunes_and_what_it_writes_returns_the_best_run(tmp_path: Path, small: list[str]) -> None:
    words = [w for w in small if not w.startswith("paths.")] + [
        "trainer.max_epochs=1",
        "experiment=demo",
        "data=synthetic",
    ]
    words += ["split=leave_one_out", "strategy=mmd", "adaptation=[mmd]"]
    path = study_file(tmp_path, words, {"optimizer.lr": {"log": ["1e-3", "1e-1"]}})
    places = [w for w in small if w.startswith("paths.")]
    told = crossrec("tune", str(path), "mmd", "--trials", "2", "-j", "2", *places)
    assert told.returncode == 0, told.stderr
    assert "2/2  " in told.stdout and "mmd: best trials" in told.stdout
    written = tmp_path / "conf_tuned" / "experiment" / "lab_mmd.yaml"
    text = written.read_text()
    best = re.search(r"validation ndcg@10 (0\.\d{4}) in (\S+)", text)
    assert best is not None and "best of 2 trials (2 finished)" in text and "paths" not in text
    runs = {p.parent.name: json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/metrics.json")}
    assert len(runs) == 2
    assert f"{max(m['best_score'] for m in runs.values()):.4f}" == best[1]
    config = composed([*places, "experiment=lab_mmd"], [tmp_path / "conf_tuned"])
    assert run_id(config, prepare_corpus(config).fingerprint) == best[2] in runs
    assert RunFolder(tmp_path / "runs" / best[2]).finished


@pytest.mark.parametrize(("option", "value"), [("--trials", "0"), ("-j", "-1")])
def test_counts_are_checked(path: Path, option: str, value: str) -> None:
    with pytest.raises(CrossrecError, match=f"{option} is {value}; it must be at least 1"):
        command.main([str(path), f"{option}={value}" if option == "--trials" else f"{option}{value}"])


def test_without_optuna_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CrossrecError, match=r"pip install 'crossrec\[tune\]'"):
        command.main([str(path)])


def test_a_terminating_signal_is_an_interrupt() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        command._interruptible()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossrec.commands import tune as command
from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.identity import run_id
from crossrec.runs.store import RunFolder, write_json
from crossrec.runs.trial_storage import open_storage, open_study
from crossrec.studies.jobs import Resolved, Resolver
from crossrec.studies.reader import read_study
from crossrec.studies.setting import settings
from crossrec.studies.trial import Outcome, TrialJob
from crossrec.studies.tune import Progress, Tuned, Tuner

SEARCH = {"optimizer.lr": {"log": ["1e-4", "1e-1"]}, "dim": {"choice": [4, 8]}}


class Pretend:
    """Finishes each run at once, with a value that its learning rate gives; may stop as a killed tuner does."""

    def __init__(self, value: Callable[[TrialJob], float | str | None], die_at: int | None = None) -> None:
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name runs by their overrides, composing nothing; that run ids are right is another test's."""

    def resolve(made: Resolver, words: Sequence[str]) -> Resolved:
        runs = Path(next(w for w in words if w.startswith("paths.runs=")).partition("=")[2])
        science = [w for w in words if not w.startswith("paths.")]
        name = hashlib.sha256(json.dumps(science).encode()).hexdigest()
        return Resolved({"evaluation": {"monitor": "ndcg@10"}}, None, RunFolder(runs / name))  # type: ignore[arg-type]

    monkeypatch.setattr(Resolver, "__call__", resolve)


def test_the_best_trial_is_found_and_progress_told(quick: None, path: Path) -> None:
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


def test_a_killed_search_goes_on_as_if_it_had_not_been(
    quick: None, path: Path, tmp_path: Path, small: list[str]
) -> None:
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


def test_a_trial_killed_while_its_parameters_were_drawn_is_given_up(quick: None, path: Path) -> None:
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


def test_two_tuners_do_not_share_a_search(quick: None, path: Path) -> None:
    made = tuner(path, Pretend(lr))
    with made._only(), pytest.raises(CrossrecError, match=r"lab\.db is being filled by another"):
        made.run(1, lambda _: None)


def test_failures_count_in_their_session_only(quick: None, path: Path) -> None:
    tuned = searched(
        path, Pretend(lambda job: "failed" if job.number == 0 else float("nan") if job.number == 1 else 1), 3
    )
    assert [t.state for t in tuned.trials] == ["finished", "failed", "failed"]
    again = Pretend(lambda _: "pruned")
    tuned = searched(path, again, 3)
    assert len(again.seen) == 2
    assert [t.state for t in tuned.trials] == ["finished", "pruned", "pruned", "failed", "failed"]


def test_a_hopeless_search_is_given_up(quick: None, path: Path) -> None:
    launcher = Pretend(lambda _: "failed")
    with pytest.raises(CrossrecError, match="mmd: 3 trials failed and none succeeded: out of luck"):
        searched(path, launcher, 50)
    assert len(launcher.seen) == 3


def test_a_strategy_that_trains_nothing_has_no_value(quick: None, path: Path) -> None:
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
        ({"seed": {"int": [1, 2]}}, {}, "rows.mmd.search: seed is searched; it is no hyper-parameter"),
        ({"target": {"choice": ["a", "c"]}}, {}, "tried with target=c: target=c: the data have no such domain"),
        (
            {"evaluation.monitor": {"choice": ["ndcg@10", "ndcg@7"]}},
            {},
            "tried with evaluation.monitor=ndcg@7: evaluation.monitor=ndcg@7 is not computed in validation",
        ),
        (SEARCH, {"overrides": ["target=c"]}, "row 'mmd': target=c: the data have no such domain"),
        (SEARCH, {"overrides": ["dim=4"]}, "rows.mmd searches dim, so it cannot be set on the command line"),
        (SEARCH, {"rows": ["plain"]}, "rows.plain has no search: mapping"),
        (SEARCH, {"rows": ["mmdd"]}, "no row 'mmdd'; did you mean mmd?"),
        ({}, {}, "no row has a search: mapping"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    tmp_path: Path, small: list[str], search: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    path = study_file(tmp_path, small, search)
    with pytest.raises(CrossrecError, match=re.escape(message)) as caught:
        settings(read_study(path), **arguments)
    assert "lab.yaml" in str(caught.value)


def test_each_data_set_and_each_run_of_a_row_is_tuned_by_itself(tmp_path: Path, small: list[str]) -> None:
    row = {"overrides": ["strategy=mmd"], "runs": [["target=a"], ["target=b"]], "search": SEARCH}
    path = study_file(tmp_path, small, rows={"mmd (ours)": row}, data={"x": [], "y": ["split=ratio"]})
    made = settings(read_study(path), overrides=["batch_size=64"])
    assert [s.name for s in made] == [f"lab_mmd_ours_{d}_{part}" for d in "xy" for part in (1, 2)]
    assert [w for w in made[3].words(["dim=4"]) if w not in small] == [
        "split=ratio", "strategy=mmd", "target=b", "batch_size=64", "dim=4", "seed=3",
    ]  # fmt: skip


def test_pruning_can_be_switched_off(quick: None, path: Path) -> None:
    for pruning in (True, False):
        launcher = Pretend(lr)
        tuner(path, launcher, pruning).run(1 if pruning else 2, lambda _: None)
        assert all((j.variable is not None) == pruning for j in launcher.seen) and launcher.seen


def test_the_command_tunes_and_what_it_writes_returns_the_best_run(
    tmp_path: Path, small: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    words = [w for w in small if not w.startswith("paths.")]
    words += ["trainer.max_epochs=1", "experiment=movielens", "data=synthetic"]
    words += ["split=leave_one_out", "strategy=mmd", "adaptation=[mmd]"]
    path = study_file(tmp_path, words, {"optimizer.lr": {"log": ["1e-3", "1e-1"]}})
    places = [w for w in small if w.startswith("paths.")]
    command.main([str(path), "mmd", "--trials", "2", "-j", "2", *places])
    told = capfd.readouterr().out
    assert "2/2  " in told and "mmd: best trials" in told
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


@pytest.mark.parametrize(("option", "value"), [("--trials", "0"), ("-j", "-1"), ("--threads", "0")])
def test_counts_are_checked(path: Path, option: str, value: str) -> None:
    with pytest.raises(CrossrecError, match=f"{option} is {value}; it must be at least 1"):
        command.main([str(path), f"{option}={value}" if option.startswith("--") else f"{option}{value}"])


def test_without_optuna_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CrossrecError, match=r"pip install 'crossrec\[tune\]'"):
        command.main([str(path)])

"""Hyper-parameter search of a study's rows: which parameters a trial gets, and what its run makes of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.runs.trial_storage import TrialAddress, open_storage, open_study, optuna_module
from crossrec.studies.engine import Engine
from crossrec.studies.jobs import Resolver
from crossrec.studies.setting import Setting, option_name
from crossrec.studies.trial import Launcher, LocalProcesses, Outcome, TrialJob
from crossrec.studies.trial_batches import Batches

HOPELESS = 3
"""Trials that fail, and none that does not, before a search is given up."""


class Progress(NamedTuple):
    """A trial that has ended, and how the search stands.

    Attributes:
        outcome: of the trial.
        value: its validation metric; None of a pruned or failed one.
        values: the overrides of its parameters.
        best: the greatest value so far; None without one.
        done: trials that have ended, of this and earlier sessions; failed ones of earlier sessions do not count.
        total: trials asked for.
        seconds_left: estimated from the trials of this session.
    """

    outcome: Outcome
    value: float | None
    values: list[str]
    best: float | None
    done: int
    total: int
    seconds_left: float


class Trial(NamedTuple):
    """A trial that has ended.

    Attributes:
        number: of the trial.
        state: of its run, ``finished``, ``pruned`` or ``failed``.
        value: its validation metric; None of a pruned or failed one.
        values: the overrides of its parameters.
    """

    number: int
    state: str
    value: float | None
    values: list[str]


@dataclass(frozen=True)
class Tuned:
    """Result of a search.

    Attributes:
        setting: what was tuned.
        trials: finished ones, best first, then pruned and failed ones.
        monitor: name of the validation metric.
        run: folder of the best trial's run.
        importances: parameter -> share of the importance; empty where it cannot be told.
    """

    setting: Setting
    trials: list[Trial]
    monitor: str
    run: RunFolder
    importances: Mapping[str, float]


class Tuner:
    """A search, kept in ``<paths.runs>/tune/<study>.db``: the same again does what is left.

    A trial's parameters are a function of the seed, its number and the trials before it: the sampler starts anew for
    each trial with a seed derived from (study seed, trial number). With one job at once, a search that was killed
    therefore goes on as if it had not been. A trial whose tuner is gone keeps its number and parameters and is run (its
    run resumed, or its value taken) before new ones are drawn. A study whose settings or search space change starts
    afresh, though equal runs return at once.

    Args:
        setting: what to tune.
        n_jobs: trials at once.
        pruning: end trials that are behind the median of the others at the same epoch.
        launcher: what runs the trials; None for processes of this machine, or what ``hydra`` says.
        hydra: words for Hydra, such as ``hydra/launcher=ray``: trials are launched by it, ``n_jobs`` a batch.
        threads: of each trial; None for what the launcher gives.
    """

    def __init__(
        self,
        setting: Setting,
        n_jobs: int = 1,
        pruning: bool = True,
        launcher: Launcher | None = None,
        hydra: tuple[str, ...] = (),
        threads: int | None = None,
    ) -> None:
        self.setting = setting
        self.pruning = pruning
        self._resolve = Resolver(setting.study.config_dirs)
        config, _, run = self._resolve(setting.words([d.example(0) for d in setting.space]))
        self.monitor = str(config["evaluation"]["monitor"])
        folder = run.path.parent / "tune"
        self.database = folder / f"{option_name(setting.study.name)}.db"
        self.storage = f"sqlite:///{self.database}"
        about = json.dumps([run.id, repr(setting.space)])
        self.name = f"{setting.label} {hashlib.sha256(about.encode()).hexdigest()[:8]}"
        self.n_jobs = n_jobs
        dirs = setting.study.config_dirs
        if hydra and launcher is None:
            engine = Engine(folder / "launches", hydra, threads, config_dirs=dirs, group=setting.study.name)
            launcher = Batches(engine, n_jobs)
        named = {"WANDB_RUN_GROUP": setting.study.name, "WANDB_JOB_TYPE": setting.row.name}
        self.launcher = launcher or LocalProcesses(n_jobs, dirs, folder / "logs", variables=named, threads=threads)

    def run(self, n_trials: int, report: Callable[[Progress], None]) -> Tuned:
        """Run trials until there are ``n_trials``, those of earlier sessions included.

        Args:
            n_trials: finished or pruned trials to arrive at.
            report: is told of each trial that ends.

        Raises:
            CrossrecError: the first trials all fail, or the strategy does not train.
        """
        optuna = optuna_module()
        with self._only():
            study = open_study(open_storage(self.storage), self.name)
            states = [t.state.name for t in study.trials]
            before = states.count("COMPLETE") + states.count("PRUNED")
            total = max(n_trials, before + states.count("RUNNING"))
            failed, done, started = 0, before, time.monotonic()
            with closing(self.launcher.run_batch(self._jobs(study, total - before))) as outcomes:
                for outcome in outcomes:
                    value, outcome = self._value(outcome)
                    number = outcome.job.number
                    params = study.trials[number].params
                    if value is not None:
                        study.tell(number, value)
                    elif outcome.state == "pruned":
                        study.tell(number, state=optuna.trial.TrialState.PRUNED)
                    else:
                        failed += 1
                        study.tell(number, state=optuna.trial.TrialState.FAIL)
                    done += 1
                    best = max((t.value for t in study.trials if t.state.name == "COMPLETE"), default=None)
                    left = (time.monotonic() - started) / (done - before) * (total - done)
                    report(Progress(outcome, value, self.setting.values(params), best, done, total, left))
                    if failed >= HOPELESS and best is None:
                        raise CrossrecError(
                            f"{self.setting.label}: {failed} trials failed and none succeeded: {outcome.error}"
                        )
            return self._tuned(study)

    def _jobs(self, study: Any, n: int) -> Iterator[TrialJob]:
        """Yield ``n`` trials: those that a killed tuner left, then new ones, drawn when they are asked for."""
        optuna = optuna_module()
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if trial.params.keys() >= {d.key for d in self.setting.space}:
                n -= 1
                yield self._job(trial.number, trial.params)
            else:  # killed while its parameters were drawn
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        for _ in range(n):
            study.sampler = _sampler(self.setting.seed, len(study.trials))
            trial = study.ask({d.key: d.distribution() for d in self.setting.space})
            try:
                job = self._job(trial.number, trial.params)
            except CrossrecError:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                raise
            yield job

    def _job(self, number: int, params: Mapping[str, Any]) -> TrialJob:
        values = self.setting.values(params)
        variable = TrialAddress(self.storage, self.name, number).dump() if self.pruning else None
        words = self.setting.words(values)
        return TrialJob(number, words, self._resolve(words).run, variable)

    def _value(self, outcome: Outcome) -> tuple[float | None, Outcome]:
        if outcome.state != "finished":
            return None, outcome
        value = outcome.job.run.selected
        if value is not None and math.isfinite(value):
            return value, outcome
        why = "the strategy trains nothing, so it has no validation value" if value is None else f"its value is {value}"
        return None, Outcome(outcome.job, "failed", why, outcome.seconds)

    def _tuned(self, study: Any) -> Tuned:
        states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        trials = [
            Trial(t.number, states[t.state.name], t.value if t.state.name == "COMPLETE" else None, values)
            for t in study.trials
            if t.state.name in states and t.params.keys() >= {d.key for d in self.setting.space}
            for values in [self.setting.values(t.params)]
        ]
        trials.sort(key=lambda t: (list(states.values()).index(t.state), -(t.value or 0.0), t.number))
        if not trials or trials[0].value is None:
            raise CrossrecError(f"{self.setting.label}: no trial finished; the same line with more --trials goes on")
        run = self._resolve(self.setting.words(trials[0].values)).run
        return Tuned(self.setting, trials, self.monitor, run, _importances(study))

    @contextmanager
    def _only(self) -> Iterator[None]:
        """Keep a second tuner out: it would take this one's running trials for left ones."""
        self.database.parent.mkdir(parents=True, exist_ok=True)
        with self.database.with_suffix(".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CrossrecError(
                    f"{self.database} is being filled by another `crossrec tune`; wait for it"
                ) from None
            yield


def _sampler(seed: int, number: int) -> Any:
    import numpy as np

    optuna = optuna_module()
    return optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


def _importances(study: Any) -> dict[str, float]:
    """Importance by PED-ANOVA, which takes milliseconds; empty where the trials are too few or alike to tell."""
    import warnings

    optuna = optuna_module()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is marked as experimental
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ImportError, ValueError, RuntimeError):
        return {}

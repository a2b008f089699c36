"""``crossrec tune``: search hyper-parameters of a study's rows, and write the best as experiments."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from crossrec.studies.study import Study
    from crossrec.studies.tune import Progress, Tuned

SHOWN = 10


def main(arguments: list[str]) -> None:
    """Tune rows of a study, one after the other."""
    parser = argparse.ArgumentParser(
        prog="crossrec tune",
        description="Search the hyper-parameters that a study's rows name under search:, by the validation metric that "
        "selects the epoch. Every trial is an ordinary run; the same line again does what is left. "
        "The best parameters of each row are written as an experiment.",
        epilog="examples: crossrec tune my_study.yaml mmd --trials 40 -j 2; "
        "crossrec tune my_study.yaml --trials 40 -j 8 hydra/launcher=submitit_slurm (8 at a time)",
    )
    parser.add_argument("study", type=Path, help="study file")
    parser.add_argument(
        "words", nargs="*", metavar="ROW | KEY=VALUE", help="rows (default: all with search:), overrides"
    )
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="trials of each row and data set (default 20)"
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="trials at once (default 1)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of each trial (default: the cores shared out)"
    )
    parser.add_argument(
        "--config-dir", type=Path, action="append", default=[], metavar="DIR", help="one more folder of configs"
    )
    parser.add_argument("--no-pruning", action="store_true", help="run every trial to its end")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: conf_tuned beside the study")
    options = parser.parse_intermixed_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from crossrec.commands.sweep import is_hydra
    from crossrec.errors import CrossrecError
    from crossrec.runs.trial_storage import optuna_module
    from crossrec.studies.reader import read_study
    from crossrec.studies.setting import settings
    from crossrec.studies.signals import interruptible
    from crossrec.studies.tune import Tuner

    for name, value in (("--trials", options.trials), ("-j", options.jobs), ("--threads", options.threads)):
        if value is not None and value < 1:
            raise CrossrecError(f"{name} is {value}; it must be at least 1")
    for config_dir in options.config_dir:
        if not config_dir.is_dir():
            raise CrossrecError(f"--config-dir {config_dir} is not a folder")
    optuna_module()
    study = read_study(options.study)
    study = replace(study, config_dirs=(*study.config_dirs, *(d.resolve() for d in options.config_dir)))
    words = [w for w in options.words if is_hydra(w)]
    rows, overrides = _split(study, [w for w in options.words if w not in words])
    folder = options.output or options.study.parent / "conf_tuned"
    console = Console()
    with interruptible():
        for setting in settings(study, rows, overrides):
            tuner = Tuner(setting, options.jobs, not options.no_pruning, hydra=tuple(words), threads=options.threads)
            head = f"[bold]{escape(setting.label)}[/]: {options.trials} trials by validation {tuner.monitor}"
            console.print(head, highlight=False, soft_wrap=True)
            tuned = tuner.run(options.trials, lambda progress: _line(console, progress))
            _table(console, tuned)
            path = write(tuned, folder)
            lines = [f"best run: {tuned.run.path}", f"written: {path}"]
            for line in [*lines, f"train it: crossrec train {_selection(tuned, folder)}"]:
                console.print(line, soft_wrap=True, highlight=False, markup=False)


def write(tuned: Tuned, folder: Path) -> Path:
    """Write the best trial as ``<folder>/experiment/<study>_<row>[_<data>].yaml``."""
    from crossrec.runs.identity import scientific
    from crossrec.runs.versions import git_revision
    from crossrec.studies.tuned import write_experiment

    setting, best = tuned.setting, tuned.trials[0]
    states = [t.state for t in tuned.trials]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "pruned", "failed") if s in states)
    words = [*setting.own, *scientific(setting.more), *best.values, f"seed={setting.seed}"]
    comments = [
        f"{setting.study.title}: {setting.label}, tuned",
        f"best of {len(states)} trials ({counts}): validation {tuned.monitor} {best.value:.4f} in {tuned.run.id}",
        f"made by crossrec tune {setting.study.path.name}, git {git_revision() or 'unknown'}",
        f"crossrec train {_selection(tuned, folder)}",
    ]
    return write_experiment(folder, setting.name, words, comments, tuned.run.id, setting.study.config_dirs)


def _selection(tuned: Tuned, folder: Path) -> str:
    folders = [folder, *tuned.setting.study.config_dirs]
    search = [word for d in folders for word in ("--config-dir", os.path.relpath(d))]
    return shlex.join([*search, f"experiment={tuned.setting.name}"])


def _split(study: Study, words: list[str]) -> tuple[list[str], list[str]]:
    """Tell rows from overrides; a row made by ``over`` has an equals sign in its name."""
    names = [row.name for row in study.rows]
    rows = [w for w in words if w in names or ("=" not in w and not w.startswith("~"))]
    return rows, [w for w in words if w not in rows]


def _line(console: Console, progress: Progress) -> None:
    from rich.markup import escape

    from crossrec.durations import span

    outcome = progress.outcome
    if progress.value is None:
        value = f"[yellow]{outcome.state}[/]"
    else:
        value = f"[bold]{progress.value:.4f}[/]" if progress.value == progress.best else f"{progress.value:.4f}"
    best = "" if progress.best is None else f"  best {progress.best:.4f}"
    left = f"  {span(progress.seconds_left)} left" if progress.done < progress.total else ""
    parameters = escape(" ".join(progress.values))
    console.print(
        f"{progress.done}/{progress.total}  {value}  {parameters}{best}{left}", soft_wrap=True, highlight=False
    )
    if outcome.error:
        console.print(f"  {escape(outcome.error)}", soft_wrap=True, highlight=False)


def _table(console: Console, tuned: Tuned) -> None:
    from rich.markup import escape
    from rich.table import Table

    keys = [d.key for d in tuned.setting.space]
    table = Table(title=f"{escape(tuned.setting.label)}: best trials", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(tuned.monitor, justify="right")
    for key in keys:
        table.add_column(key, justify="right")
    for trial in tuned.trials[:SHOWN]:
        if trial.value is not None:
            table.add_row(str(trial.number), f"{trial.value:.4f}", *(_short(w.partition("=")[2]) for w in trial.values))
    if tuned.importances:
        table.add_section()
        table.add_row(
            "", "importance", *(f"{tuned.importances[k]:.0%}" if k in tuned.importances else "" for k in keys)
        )
    console.print(table)


def _short(word: str) -> str:
    try:
        return word if len(word) < 8 else f"{float(word):.4g}"
    except ValueError:
        return word

"""``crossrec sweep``: run what a study still lacks."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from crossrec.errors import CrossrecError

USAGE = """usage: crossrec sweep STUDY [-j N] [--threads N] [--gpus LIST] [--rows LIST] [--seeds LIST] [--retry-failed]
                      [--recorded DIR] [--dry-run] [--config-dir DIR] [hydra/launcher=NAME ...] [KEY=VALUE ...]

Trains every run of a study file that is not finished; the same line again goes on where it was broken off. Each run is
a process of its own; one that fails does not stop the others.

  crossrec sweep experiments/quickstart.yaml --dry-run      # list the runs and their states
  crossrec sweep experiments/quickstart.yaml -j 2           # two at a time on this machine (joblib)
  crossrec sweep STUDY -j 4 --gpus 0,1,2,3                  # one GPU each
  crossrec sweep STUDY hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
  crossrec sweep STUDY hydra/launcher=ray
  crossrec sweep STUDY trainer.max_epochs=1                 # an override of every run (give it to `table` as well)

  -j N             so many at a time: short for hydra/launcher=joblib hydra.launcher.n_jobs=N and cores/N threads each
  --threads N      threads of each run
  --gpus LIST      devices to share out, one for each run at a time
  --rows LIST      only these rows, separated by commas; may be repeated, for names that hold a comma
  --seeds LIST     only these seeds, separated by commas
  --recorded DIR   runs with a record in DIR/runs count as finished (`crossrec table STUDY -o DIR --with-runs`)
  --retry-failed   run again what has failed; without it a failed run is left alone"""


def main(arguments: list[str]) -> None:
    """Read the study, check it whole, run it and say how it went.

    Raises:
        CrossrecError: the study is wrong, or a run failed.
    """
    if not arguments or any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        if not arguments:
            sys.exit(2)
        return
    given = _parse(arguments)
    from rich.console import Console

    from crossrec.studies.engine import Engine
    from crossrec.studies.jobs import distinct
    from crossrec.studies.progress import jobs_table
    from crossrec.studies.selection import Selection, select
    from crossrec.studies.signals import interruptible
    from crossrec.studies.sweep import in_rounds, report

    console = Console() if sys.stdout.isatty() else Console(width=240)  # a pipe gets whole names
    words = [w for w in given.words if not is_hydra(w)]

    def selected() -> Selection:
        return select(
            given.study, words, given.config_dir, given.rows, given.seeds, given.recorded, trains=not given.dry_run
        )

    chosen = selected()
    if given.dry_run:
        console.print(jobs_table(distinct(chosen.jobs), f"{chosen.study.name}: {chosen.study.title}"))
        return
    engine = Engine(
        folder=chosen.folder,
        hydra=_hydra_words(given),
        threads=_threads(given),
        gpus=tuple(filter(None, given.gpus.split(","))),
        config_dirs=chosen.config_dirs,
    )
    with interruptible():
        outcome = in_rounds(chosen.jobs, lambda: selected().jobs, engine, console, retry_failed=given.retry_failed)
    report(outcome, engine, console)
    if outcome.failed:
        raise CrossrecError(
            f"{len(outcome.failed)} of {len(outcome.failed) + len(outcome.finished)} runs are not finished; "
            + (
                "the same line with --retry-failed runs the failed ones again"
                if any(p.run.state == "failed" for p in outcome.failed)
                else "the same line goes on"
            )
        )
    console.print(
        f"the table: {shlex.join(['crossrec', 'table', given.study, *_rest(given)])}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="crossrec sweep", usage=USAGE.partition("\n\n")[0][7:], allow_abbrev=False)
    parser.add_argument("study")
    parser.add_argument("words", nargs="*")
    parser.add_argument("-j", dest="jobs", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gpus", default="")
    parser.add_argument("--rows", action="append")
    parser.add_argument("--seeds", type=whole_numbers)
    parser.add_argument("--retry-failed", action="store_true")
    parser.add_argument("--recorded", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--config-dir", type=Path, action="append", default=[])
    given = parser.parse_intermixed_args(arguments)
    for word in given.words:
        if "=" not in word:
            raise CrossrecError(f"{word!r} is not an override: write key=value, as in trainer.max_epochs=3")
    if given.jobs < 1 or (given.threads or 1) < 1:
        raise CrossrecError("-j and --threads must be at least 1")
    if given.jobs > 1 and any(w.startswith("hydra/launcher=") for w in given.words):
        raise CrossrecError("-j chooses the joblib launcher: give either it or hydra/launcher=..., not both")
    return given


def whole_numbers(text: str) -> list[int]:
    """Numbers of a list such as ``0,1,2``."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def is_hydra(word: str) -> bool:
    """Whether an override is Hydra's own: a launcher or an option of it."""
    return word.lstrip("+").startswith(("hydra/", "hydra."))


def _hydra_words(given: argparse.Namespace) -> tuple[str, ...]:
    words = tuple(w for w in given.words if is_hydra(w))
    return words if given.jobs == 1 else ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={given.jobs}", *words)


def _threads(given: argparse.Namespace) -> int | None:
    threads: int | None = given.threads
    return threads if threads or given.jobs == 1 else max((os.cpu_count() or 1) // int(given.jobs), 1)


def _rest(given: argparse.Namespace) -> list[str]:
    folders = [w for d in given.config_dir for w in ("--config-dir", str(d))]
    folders += [word for rows in given.rows or [] for word in ("--rows", rows)]
    folders += ["--recorded", str(given.recorded)] if given.recorded else []
    folders += ["--seeds", ",".join(map(str, given.seeds))] if given.seeds else []
    return [*folders, *(w for w in given.words if not is_hydra(w))]

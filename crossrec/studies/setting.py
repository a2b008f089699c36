"""What `crossrec tune` searches by itself: one run of a row on one data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.evaluation.monitor import check_monitor
from crossrec.runs.config_check import check_target
from crossrec.studies.checks import tried
from crossrec.studies.jobs import Resolver, plan
from crossrec.studies.search_space import Dimension
from crossrec.studies.study import Row, Study


@dataclass(frozen=True)
class Setting:
    """What is tuned by itself: one run of a row on one data set.

    Attributes:
        study: its study.
        row: its row.
        data: name of its data set; empty where the study has one.
        part: which of the row's runs.
        more: overrides of the command line; they win over the study's.
    """

    study: Study
    row: Row
    data: str
    part: int
    more: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Row, data set and, of a row of several runs, which."""
        part = str(self.part + 1) if len(self.row.runs) > 1 else ""
        return " ".join(filter(None, (self.row.name, self.data, part)))

    @property
    def space(self) -> tuple[Dimension, ...]:
        """What is searched."""
        return self.row.search

    @property
    def name(self) -> str:
        """Good as the name of a file and of a config option: ``<study>_<row>[_<data>][_<run>]``."""
        return option_name(f"{self.study.name}_{self.label}")

    @property
    def own(self) -> tuple[str, ...]:
        """Overrides that the study file gives."""
        return (*self.study.base, *self.study.data[self.data], *self.row.overrides, *self.row.runs[self.part])

    @property
    def seed(self) -> int:
        """Seed of the trials' runs and of the sampler: the study's first."""
        return self.study.seeds[0]

    def words(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return all overrides of a trial's run."""
        return (*self.own, *self.more, *values, f"seed={self.seed}")

    def values(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides that set a trial's parameters."""
        return [d.word(params[d.key]) for d in self.space]


def option_name(text: str) -> str:
    """Return ``text`` with what does not suit a Hydra option replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_")


def settings(study: Study, rows: Sequence[str] = (), overrides: Sequence[str] = ()) -> list[Setting]:
    """List what a study has to tune, with its rows checked as a sweep of them would and every key by composing it.

    Args:
        study: with rows that have a ``search:``.
        rows: names of rows; empty for all that have a ``search:``.
        overrides: more words for every trial.

    Raises:
        CrossrecError: there is nothing to search, a range is wrong, a key does not compose or is set twice.
    """
    chosen = [study.row(name) for name in rows] or [row for row in study.rows if row.search]
    if not chosen:
        raise CrossrecError(
            f"{study.path}: no row has a search: mapping, such as search: {{dim: {{choice: [32, 64]}}}}"
        )
    set_here = [w.partition("=")[0].lstrip("+") for w in overrides]
    for row in chosen:
        where = f"{study.path}: rows.{row.name}"
        if not row.search:
            raise CrossrecError(f"{where} has no search: mapping")
        for key in (d.key.lstrip("+") for d in row.search):
            if key in set_here:
                raise CrossrecError(f"{where} searches {key}, so it cannot be set on the command line")
    plain_rows = tuple(replace(row, search=()) for row in chosen)
    resolve = Resolver(study.config_dirs)
    plan(replace(study, rows=plain_rows, seeds=study.seeds[:1]), overrides, resolve)

    def checked(words: Sequence[str]) -> None:
        config = resolve.compose(words)
        check_monitor(config)
        check_target(config, resolve.domain_names(config))

    made = []
    for row in chosen:
        for data in study.data:
            for part in range(len(row.runs)):
                setting = Setting(study, row, data, part, tuple(overrides))
                tried(study, row, setting.words([]), checked)
                made.append(setting)
    names = [s.name for s in made]
    for setting in made:
        if names.count(setting.name) > 1:
            raise CrossrecError(
                f"{study.path}: two rows would be written to {setting.name}.yaml; rename {setting.label!r}"
            )
    return made

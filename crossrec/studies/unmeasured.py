"""Which runs of a study still lack their domain gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from crossrec.runs.assemble import trained_domains
from crossrec.runs.corpus import recorded_corpus
from crossrec.runs.store import RunFolder
from crossrec.studies.jobs import Planned, distinct

if TYPE_CHECKING:
    from crossrec.data.schema import Corpus


class Standing(NamedTuple):
    """How the runs of a study stand.

    Attributes:
        missing: finished, trained on several domains, without a ``gap.json``.
        measured: with one.
        without: finished, but with no gap to measure: not trained, or on one domain.
        unfinished: the others.
    """

    missing: list[RunFolder]
    measured: list[RunFolder]
    without: list[RunFolder]
    unfinished: list[RunFolder]


def standing(jobs: Sequence[Planned]) -> Standing:
    """Sort the jobs' runs; a corpus is read once, and no model is built."""
    made = Standing([], [], [], [])
    corpora: dict[str, Corpus] = {}
    for planned in distinct(jobs):
        run = planned.run
        if not run.finished:
            made.unfinished.append(run)
        elif (run.path / "gap.json").is_file():
            made.measured.append(run)
        elif run.metrics.get("best_epoch") is None:
            made.without.append(run)
        else:
            fingerprint = run.fingerprint
            if fingerprint not in corpora:
                corpora[fingerprint] = recorded_corpus(run)
            several = len(trained_domains(run.config, corpora[fingerprint])) > 1
            (made.missing if several else made.without).append(run)
    return made

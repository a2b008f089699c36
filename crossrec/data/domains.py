"""The domains of a corpus that a run means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossrec.data.schema import Corpus
from crossrec.data.splits import VALID, Split, row_domains
from crossrec.errors import CrossrecError


def domain_indices(corpus: Corpus, names: Sequence[str] | None, default: Sequence[int]) -> list[int]:
    """Ascending indices of the domains called ``names``; ``default`` for None.

    Raises:
        CrossrecError: a name is no domain's, or there is none.
    """
    if names is None:
        return list(default)
    if isinstance(names, str) or not names:
        raise CrossrecError(f"domains are given as {names!r}: give a list of at least one name")
    return sorted({corpus.domain(name).index for name in names})


def domains_with_rows(corpus: Corpus, split: Split, indices: Sequence[int], stage: int) -> list[int]:
    """Those of the domains ``indices`` that have a row with the label ``stage``, validation or test.

    Raises:
        CrossrecError: none has.
    """
    found = np.unique(row_domains(corpus)[split.label == stage])
    kept = [i for i in indices if i in found]
    if not kept:
        names = ", ".join(corpus.domains[i].name for i in indices)
        what = "validation" if stage == VALID else "test"
        raise CrossrecError(f"split {split.name} holds no {what} row out in {names}: choose another split or domain")
    return kept

"""The queries of every stage of a run, made once: which users, and which candidates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from crossrec.data.candidates import Candidates, sample_queries
from crossrec.data.queries import Queries, stage_queries
from crossrec.data.ragged import Ids
from crossrec.data.randomness import numpy_generator, torch_generator
from crossrec.data.schema import Corpus
from crossrec.data.splits import TEST, VALID, Split
from crossrec.errors import CrossrecError

Stage = Literal["valid", "test"]
STAGES: dict[Stage, int] = {"valid": VALID, "test": TEST}


class QueryProtocol:
    """Make queries on demand and keep them.

    A query whose user has fewer new items than ``n_candidates`` is ranked against those it has, which is full ranking:
    :meth:`check` warns of such queries and refuses domains that have no other, and :attr:`short` counts them.

    Args:
        corpus: the corpus.
        split: its labels.
        history_domains: stage -> indices of the domains its histories are made of.
        history_length: most events of a history; 0 for none.
        n_candidates: sampled candidates of a query; 0 ranks the whole catalogue.
        candidate_sampling: distribution of the candidates.
        counts: (n_items,) popularity of each item, for ``candidate_sampling``.
        valid_queries: most validation queries of a domain, a random sample of all; None for all.
        seed: of the sample and the candidates.

    Attributes:
        short: ``<stage>/<domain>`` -> its queries with fewer candidates than asked, where :meth:`check` found some.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: Split,
        history_domains: Mapping[Stage, Sequence[int]],
        history_length: int,
        *,
        n_candidates: int,
        candidate_sampling: Literal["uniform", "popularity"],
        counts: Ids,
        valid_queries: int | None,
        seed: int,
    ) -> None:
        self._corpus, self._split, self._domains, self._length = corpus, split, history_domains, history_length
        self._n, self._valid_queries, self._seed = n_candidates, valid_queries, seed
        self._drawer = Candidates(corpus, candidate_sampling, counts) if n_candidates else None
        self._asked: dict[tuple[Stage, int], Queries] = {}
        self._made: dict[tuple[Stage, int], Queries] = {}
        self.short: dict[str, int] = {}

    def check(self, stage: Stage, domains: Sequence[int]) -> None:
        """Check that the queries of a stage have as many items to draw candidates from as are asked for.

        Args:
            stage: whose queries.
            domains: indices of the domains that it ranks.

        Raises:
            CrossrecError: no query of a domain has.
        """
        if self._drawer is None:
            return
        for domain in domains:
            d, users = self._corpus.domains[domain], self._without_candidates(stage, domain).users
            available = self._drawer.available(users, domain)
            short = int((available < self._n).sum())
            if not short:
                continue
            least, most = int(available.min()), int(available.max())
            mend = f"set evaluation.n_candidates to at most {least or most}, or choose evaluation=full"
            if short == len(users):
                raise CrossrecError(
                    f"evaluation.n_candidates={self._n} cannot be drawn for any {stage} query of domain {d.name!r}: at "
                    f"most {most} of its {d.n_items} items are new to a user; {mend}"
                )
            warnings.warn(
                f"{short:,} of {len(users):,} {stage} queries of domain {d.name!r} are ranked against fewer than "
                f"evaluation.n_candidates={self._n} candidates, as few as {least}, for their users have all others: "
                f"{mend}",
                stacklevel=2,
            )
            self.short[f"{stage}/{d.name}"] = short

    def queries(self, stage: Stage, domain: int) -> Queries:
        """All queries of a stage in the domain with index ``domain``."""
        key = (stage, domain)
        if key not in self._made:
            made = self._without_candidates(stage, domain)
            if self._drawer is not None:
                generator = torch_generator(self._seed, "candidates", stage, domain)
                made = made.with_candidates(self._drawer.draw(made.users, domain, self._n, generator))
            self._made[key] = made
        return self._made[key]

    def _without_candidates(self, stage: Stage, domain: int) -> Queries:
        key = (stage, domain)
        if key not in self._asked:
            made = stage_queries(self._corpus, self._split, STAGES[stage], domain, self._domains[stage], self._length)
            if stage == "valid":
                rng = numpy_generator(self._seed, "valid_queries", domain)
                made = made.take(sample_queries(len(made), self._valid_queries, rng))
            self._asked[key] = made
        return self._asked[key]

    def candidates(self, stage: Stage, domains: Sequence[int]) -> dict[str, Tensor]:
        """Sampled candidates: ``<domain>/users`` (q,) and ``<domain>/candidates`` (q, c); empty under full ranking."""
        if self._drawer is None:
            return {}
        made = {self._corpus.domains[d].name: self.queries(stage, d) for d in domains}
        return {f"{name}/users": q.users for name, q in made.items()} | {
            f"{name}/candidates": q.candidates for name, q in made.items()
        }

"""The torchmetrics class that collects the ranking metrics of one domain over batches and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from crossrec.data.batches import PAD, QueryBatch
from crossrec.errors import CrossrecError
from crossrec.evaluation import labels as label_metrics
from crossrec.evaluation import lists as list_metrics
from crossrec.evaluation.metrics import evaluate, names
from crossrec.evaluation.ranking import Ranks, distinct, rank

if TYPE_CHECKING:
    import polars

USER_GROUPS = ("", "warm_users", "cold_users")
ITEM_GROUPS = ("", "warm_items", "cold_items")
GROUPS = tuple("_".join(part for part in (u, i) if part) for i in ITEM_GROUPS for u in USER_GROUPS)
"""All queries, warm and cold users, relevant items with and without training rows, and their crossings."""


class RankingMetrics(Metric):
    """Ranking metrics of one domain, averaged over queries; the values of :mod:`crossrec.evaluation.metrics`.

    Seen items are no candidates (unless they are relevant again); under a sampled protocol the candidates are the
    batch's candidates and the relevant items. In ``warm_items`` and ``cold_items`` only the relevant items of that
    group count, the others stay candidates, and a query without any in the group is not averaged. Queries without a
    relevant item are left out everywhere. States are float64 sums: processes and batches add up to the same result.

    Where there are labelled negatives, the pairs of all queries together are classified as well, see
    :func:`crossrec.evaluation.labels.evaluate`: under a labelled split the relevant items and the disliked ones, else
    under a sampled protocol the relevant items and as many of the query's candidates.

    Args:
        n_items: size of the domain's catalogue.
        start: global id of its first item.
        ks: cutoffs.
        item_popularity: (n_items,) training rows of every item, for novelty in bits,
            mean -log2((count + 1) / (total + n_items)); None leaves novelty out.
        warm_items: (n_items,) bool, items with training rows; None makes no groups of items.
        keep_users: keep a row per query for :meth:`users_table`.
        lists: make top-k lists, for coverage, Gini, novelty and diversity.
        diversity: measure intra-list diversity; needs ``lists`` and :meth:`set_item_vectors`.
        logits: scores are log-odds of a positive, so that they have an accuracy.

    Raises:
        CrossrecError: a value is out of its range.
    """

    full_state_update = True
    higher_is_better = True
    is_differentiable = False
    sums: Tensor
    counts: Tensor
    list_sums: Tensor
    listed_counts: Tensor
    rows: list[Tensor]
    pairs: list[Tensor]
    popularity: Tensor | None
    warm: Tensor | None

    def __init__(
        self,
        n_items: int,
        start: int,
        ks: Sequence[int] = (10,),
        item_popularity: Tensor | None = None,
        warm_items: Tensor | None = None,
        keep_users: bool = False,
        lists: bool = True,
        diversity: bool = False,
        logits: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ks = _cutoffs(ks)
        self.n_items, self.start = n_items, start
        self.keep_users, self.lists, self.logits = keep_users, lists, logits
        self.wants_vectors = lists and diversity
        for name, values in (("popularity", item_popularity), ("warm", warm_items)):
            if values is not None and values.shape != (n_items,):
                raise CrossrecError(f"{name} of items has shape {tuple(values.shape)}, expected ({n_items},)")
            self.register_buffer(name, values, persistent=False)
        self._vectors: Tensor | None = None
        self.names = names(self.ks)
        self.pair_ks = tuple(k for k in self.ks if k > 1)  # a list of one has no pair to be diverse
        self.list_names = [f"novelty@{k}" for k in self.ks] if lists and item_popularity is not None else []
        self.list_names += [f"diversity@{k}" for k in self.pair_ks] if self.wants_vectors else []

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        self.add_state("sums", zeros(len(GROUPS), len(self.names)), dist_reduce_fx="sum")
        self.add_state("counts", zeros(len(GROUPS)), dist_reduce_fx="sum")
        self.add_state("list_sums", zeros(len(self.list_names)), dist_reduce_fx="sum")
        self.add_state("listed_counts", zeros(len(self.ks), n_items if lists else 0), dist_reduce_fx="sum")
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("pairs", [], dist_reduce_fx="cat")

    def set_item_vectors(self, vectors: Tensor) -> None:
        """Give the item vectors (n_items, f) that intra-list diversity compares, in any length."""
        if vectors.shape[0] != self.n_items or vectors.dim() != 2:
            raise CrossrecError(f"item vectors have shape {tuple(vectors.shape)}, expected ({self.n_items}, f)")
        self._vectors = torch.nn.functional.normalize(vectors.detach().float(), dim=1)

    def update(self, scores: Tensor, batch: QueryBatch) -> None:
        """Add the queries of a batch.

        Args:
            scores: (q, n_items) of the whole catalogue; not modified.
            batch: the queries.

        Raises:
            CrossrecError: a score is not finite, or ids and shapes do not fit the domain.
        """
        if scores.shape != (len(batch.users), self.n_items):
            expected = (len(batch.users), self.n_items)
            raise CrossrecError(f"scores have shape {tuple(scores.shape)}, expected {expected}: queries x catalogue")
        relevant = distinct(self._columns(batch.relevant, "relevant"))
        candidates = self._columns(batch.candidates, "candidates")
        self._add_pairs(scores, relevant, candidates, batch)
        asked = (relevant != PAD).any(1)
        if not bool(asked.all()):
            scores, relevant = scores[asked], relevant[asked]
        users, cold, seen, candidates = (
            t if len(t) == len(relevant) else t[asked] for t in (batch.users, batch.cold, batch.seen, candidates)
        )
        seen = self._columns(seen, "seen")
        ranks, lists = self._rank(scores, relevant, seen, candidates, users)
        values = evaluate(ranks, self.ks)
        list_values = self._add_lists(lists)
        warm_users = torch.stack([torch.ones_like(cold), ~cold, cold]).double()
        self._add(0, warm_users, values)
        if self.warm is not None:
            warm = self.warm[relevant.clamp_min(0)]
            for group, member in ((1, warm), (2, ~warm)):
                self._add_items(group, warm_users, ranks, member, values)
        if self.keep_users:
            about = torch.stack([users, ranks.n_relevant, (seen != PAD).sum(1), cold.long()], dim=1)
            self.rows.append(torch.cat([about.double(), values, list_values], dim=1))

    def compute(self) -> dict[str, Tensor]:
        """Means over all queries: ``metric@k``, ``group/metric@k``, ``n_queries`` and ``group/n_queries``.

        Groups without a query are absent; with no query at all only ``n_queries`` is there.
        """
        result: dict[str, Tensor] = {}
        for group, sums, count in zip(GROUPS, self.sums, self.counts):
            prefix = f"{group}/" if group else ""
            if count > 0:
                result |= {prefix + name: value for name, value in zip(self.names, sums / count)}
                if not group:
                    result |= self._of_lists(count)
            if count > 0 or not group:
                result[prefix + "n_queries"] = count
        pairs = _joined(self.pairs, 2, self.device)
        return result | (label_metrics.evaluate(pairs, self.logits) if len(pairs) else {})

    def users_table(self) -> polars.DataFrame:
        """One row per query, sorted by user: ``user, n_relevant, n_seen, cold`` and every metric.

        Collective: with several processes all of them must call it, and all get all rows.

        Raises:
            CrossrecError: the metric was made without ``keep_users``.
        """
        import polars

        if not self.keep_users:
            raise CrossrecError("per-user values were not kept: make RankingMetrics with keep_users=True")
        columns = ["user", "n_relevant", "n_seen", "cold", *self.names, *self.list_names]
        with self.sync_context():
            rows = _joined(self.rows, len(columns), self.device)
        frame = polars.DataFrame(rows.cpu().numpy(), schema=columns, orient="row")
        counts = polars.col("user", "n_relevant", "n_seen").cast(polars.Int64)
        return frame.with_columns(counts, polars.col("cold").cast(polars.Boolean)).sort("user")

    def _sync_dist(self, dist_sync_fn: Callable[..., Any] | None = None, process_group: Any = None) -> None:
        # A process without a query must send a matrix of no rows: an empty list cannot be gathered with matrices.
        if self.keep_users:
            self.rows = [_joined(self.rows, 4 + len(self.names) + len(self.list_names), self.device)]
        self.pairs = [_joined(self.pairs, 2, self.device)]
        options = {} if dist_sync_fn is None else {"dist_sync_fn": dist_sync_fn}
        super()._sync_dist(process_group=process_group, **options)

    def _columns(self, ids: Tensor, name: str) -> Tensor:
        columns = torch.where(ids == PAD, PAD, ids - self.start)
        wrong = (ids != PAD) & ((columns < 0) | (columns >= self.n_items))
        if bool(wrong.any()):
            raise CrossrecError(
                f"{name} holds item {int(ids[wrong][0])}, which is not in the domain's range"
                f" {self.start}..{self.start + self.n_items - 1}"
            )
        return columns

    def _rank(
        self, scores: Tensor, relevant: Tensor, seen: Tensor, candidates: Tensor, users: Tensor
    ) -> tuple[Ranks, Tensor]:
        k = max(self.ks) if self.lists else 0
        if candidates.shape[1] == 0:
            return rank(scores, relevant, seen=seen, k=k, users=users)
        columns = torch.cat([relevant, candidates], dim=1)
        allowed = columns != PAD
        place = torch.arange(relevant.shape[1], device=relevant.device).expand_as(relevant)
        place = place.masked_fill(relevant == PAD, PAD)
        ranks, lists = rank(scores.gather(1, columns.clamp_min(0)), place, allowed=allowed, k=k, users=users)
        return ranks, columns.gather(1, lists.clamp_min(0)).masked_fill(lists == PAD, PAD)

    def _add_pairs(self, scores: Tensor, relevant: Tensor, candidates: Tensor, batch: QueryBatch) -> None:
        """Add the labelled pairs of a batch; ``relevant`` (q, r) and ``candidates`` (q, c) are columns."""
        if batch.disliked is not None:
            negatives = self._columns(batch.disliked, "disliked")
        elif candidates.shape[1]:
            negatives = label_metrics.as_many(candidates, relevant)
        else:
            return
        self.pairs.append(label_metrics.labelled_pairs(scores, relevant, negatives))

    def _add(self, item_group: int, members: Tensor, values: Tensor) -> None:
        """Add per-query ``values`` (q, m) to an item group; ``members`` (3, q) says who is in which user group."""
        rows = slice(3 * item_group, 3 * item_group + 3)
        sums, counts = self.sums.double().clone(), self.counts.double().clone()
        sums[rows] += members @ values
        counts[rows] += members.sum(1)
        self.sums, self.counts = sums, counts

    def _add_items(self, group: int, users: Tensor, ranks: Ranks, member: Tensor, values: Tensor) -> None:
        kept = ranks.restrict(member)
        some = kept.n_relevant > 0
        if not bool(some.any()):
            return
        whole = bool((kept.valid == ranks.valid).all())
        self._add(group, users * some, values if whole else evaluate(kept, self.ks))

    def _add_lists(self, lists: Tensor) -> Tensor:
        """Add the lists (q, max k) to the counts; return the per-query list metrics (q, len(list_names))."""
        parts = [torch.zeros((len(lists), 0), dtype=torch.float64, device=lists.device)]
        if self.lists:
            self.listed_counts = self.listed_counts.double() + list_metrics.item_counts(lists, self.ks, self.n_items)
            if self.popularity is not None:
                parts.append(list_metrics.novelty(lists, list_metrics.self_information(self.popularity), self.ks))
            if self.wants_vectors and self.pair_ks:
                if self._vectors is None:
                    raise CrossrecError(
                        "diversity needs the item vectors: call set_item_vectors before the first batch"
                    )
                self._vectors = self._vectors.to(lists.device)
                parts.append(list_metrics.diversity(lists, self._vectors, self.pair_ks))
        values = torch.cat(parts, dim=1)
        self.list_sums = self.list_sums.double() + values.sum(0)
        return values

    def _of_lists(self, count: Tensor) -> dict[str, Tensor]:
        result = {name: value for name, value in zip(self.list_names, self.list_sums / count)}
        if self.lists:
            result |= {f"coverage@{k}": value for k, value in zip(self.ks, list_metrics.coverage(self.listed_counts))}
            result |= {f"gini@{k}": value for k, value in zip(self.ks, list_metrics.gini(self.listed_counts))}
        return result


def _joined(rows: list[Tensor] | Tensor, width: int, device: torch.device) -> Tensor:
    """All ``rows`` as one (n, width) float64 matrix; after a synchronisation they are one already."""
    kept = rows if isinstance(rows, list) else [rows]
    return torch.cat([torch.empty((0, width), dtype=torch.float64, device=device), *kept])


def _cutoffs(ks: Sequence[int]) -> tuple[int, ...]:
    found = tuple(sorted({int(k) for k in ks}))
    if not found or found[0] < 1:
        raise CrossrecError(f"evaluation.ks must be whole numbers from 1 on, not {list(ks)}")
    return found

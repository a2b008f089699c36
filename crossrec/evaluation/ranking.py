"""Exact ranks of held-out items in a catalogue, and top-k lists, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from crossrec.data.batches import PAD
from crossrec.errors import CrossrecError

CHUNK = {"cpu": 1 << 20}
"""Scores processed at once per device type: what fits a CPU's cache, where a pass costs a tenth of one over memory."""

DEFAULT_CHUNK = 1 << 26

BLOCK = 64
"""Columns of one block of the two-stage top-k."""

MAX_COUNTED = 128
"""Held-out items a row up to which two counting passes each are cheaper than one sort (measured on 27,637 columns:
a sort costs as much as 230 items; short catalogues sort faster)."""


@dataclass(frozen=True)
class Ranks:
    """Where the relevant items of every query stand among the query's candidates.

    Args:
        better: (q, r) int64, candidates that score strictly higher; 0 where not ``valid``.
        ties: (q, r) int64, candidates with the same score, the item itself included; 1 where not ``valid``.
        valid: (q, r) bool, slots that hold a relevant item.
        n_candidates: (q,) int64, candidates of the query, relevant ones included.
    """

    better: Tensor
    ties: Tensor
    valid: Tensor
    n_candidates: Tensor

    @cached_property
    def n_relevant(self) -> Tensor:
        """Relevant items a query, (q,) int64."""
        return self.valid.sum(1)

    @cached_property
    def relevant_better(self) -> Tensor:
        """Relevant items that score strictly higher than each relevant item, (q, r) int64."""
        return self._relevant_up_to(right=False)

    @cached_property
    def relevant_ties(self) -> Tensor:
        """Relevant items that tie with each relevant item, itself included, (q, r) int64; 1 where not valid."""
        if self.valid.shape[1] < 2:
            return torch.ones_like(self.better)
        tied = self._relevant_up_to(right=True) - self.relevant_better
        return torch.where(self.valid, tied, torch.ones_like(tied))

    def _relevant_up_to(self, *, right: bool) -> Tensor:
        if self.valid.shape[1] < 2:
            return torch.zeros_like(self.better)
        key = torch.where(self.valid, self.better, torch.full_like(self.better, torch.iinfo(torch.int64).max))
        place = torch.searchsorted(key.sort(dim=1).values, key, right=right)
        return torch.where(self.valid, place, torch.zeros_like(place))

    def restrict(self, kept: Tensor) -> Ranks:
        """Count only the relevant items where ``kept`` (q, r) is True; the others stay candidates."""
        return replace(self, valid=self.valid & kept)


def inner_products(users: Tensor, items: Tensor) -> Tensor:
    """Scores <U_i, V_j> of every one of ``users`` (q, f) for every one of ``items`` (n, f): (q, n)."""
    return users @ items.T


def rank_relevant(scores: Tensor, relevant: Tensor, allowed: Tensor | None = None) -> Ranks:
    """Rank each query's relevant items among its allowed candidates.

    Args:
        scores: (q, c) scores, higher is better.
        relevant: (q, r) columns of ``scores``, padded with PAD; a column named twice counts once.
        allowed: (q, c) bool, the candidates; None allows every column.

    Raises:
        CrossrecError: an allowed score is not finite, or a relevant item is not allowed.
    """
    relevant = distinct(relevant)
    if allowed is not None:
        inside = allowed.gather(1, relevant.clamp_min(0)) | (relevant == PAD)
        if not bool(inside.all()):
            row, slot = torch.nonzero(~inside)[0].tolist()
            raise CrossrecError(
                f"relevant column {int(relevant[row, slot])} of query {row} is not an allowed candidate"
            )
    return rank(scores, relevant, allowed=allowed)[0]


def top_k(scores: Tensor, allowed: Tensor | None, k: int) -> Tensor:
    """List the k best allowed columns, best first, equal scores in any order.

    Args:
        scores: (q, c).
        allowed: (q, c) bool or None.
        k: length of the lists; positive.

    Returns:
        (q, k) int64 columns; PAD where a query has fewer than k candidates.

    Raises:
        CrossrecError: an allowed score is not finite.
    """
    return rank(scores, scores.new_full((len(scores), 0), PAD, dtype=torch.int64), allowed=allowed, k=k)[1]


def rank(
    scores: Tensor,
    relevant: Tensor,
    *,
    allowed: Tensor | None = None,
    seen: Tensor | None = None,
    k: int = 0,
    users: Tensor | None = None,
) -> tuple[Ranks, Tensor]:
    """Do the work of :func:`rank_relevant` and :func:`top_k` in one pass.

    Args:
        scores: (q, c); not modified.
        relevant: (q, r) distinct columns, padded with PAD.
        allowed: (q, c) bool, or None for all columns.
        seen: (q, s) columns that are no candidates, padded with PAD; a relevant item is a candidate, seen or not.
        k: length of the lists, 0 for none.
        users: (q,) ids to name in an error message.

    Returns:
        the ranks and the lists (q, k).

    Raises:
        CrossrecError: a score is not finite (of the allowed ones, where ``allowed`` is given).
    """
    n_queries, n_columns = scores.shape
    better = torch.zeros(relevant.shape, dtype=torch.int64, device=scores.device)
    ties = torch.ones_like(better)
    n_candidates = torch.full((n_queries,), n_columns, dtype=torch.int64, device=scores.device)
    lists = torch.full((n_queries, k), PAD, dtype=torch.int64, device=scores.device)
    for rows, chunk, wanted in _masked_chunks(scores.detach(), relevant, allowed, seen, users):
        if slots := wanted.shape[1]:
            count = _count if slots <= MAX_COUNTED else _sort
            better[rows, :slots], ties[rows, :slots] = count(chunk, wanted)
        if allowed is not None or (seen is not None and seen.shape[1]):
            n_candidates[rows] = torch.gt(chunk, -torch.inf, out=torch.empty_like(chunk)).sum(1).long()
        if k:
            lists[rows] = _best(chunk, k)
    valid = relevant != PAD
    return Ranks(better.masked_fill_(~valid, 0), ties.masked_fill_(~valid, 1), valid, n_candidates), lists


def distinct(ids: Tensor) -> Tensor:
    """Replace repetitions of a value within a row of ``ids`` (q, r) by PAD."""
    if ids.shape[1] < 2:
        return ids
    ordered, order = ids.sort(dim=1, stable=True)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ids.masked_fill(torch.zeros_like(again).scatter_(1, order, again), PAD)


def _masked_chunks(
    scores: Tensor, relevant: Tensor, allowed: Tensor | None, seen: Tensor | None, users: Tensor | None
) -> Iterator[tuple[slice | Tensor, Tensor, Tensor]]:
    """Copies of some rows with -inf at what is no candidate, and the scores of their relevant items.

    A copy is at least one column wider than the scores: -inf fills the last ones, and PAD points there. Queries with
    as many relevant items come together, so that a few long ones do not make all wait.
    """
    n_queries, n_columns = scores.shape
    width = (n_columns // BLOCK + 1) * BLOCK
    step = max(CHUNK.get(scores.device.type, DEFAULT_CHUNK) // width, 1)
    exact = torch.float64 if scores.dtype == torch.float64 or n_columns >= 1 << 24 else torch.float32
    buffer = torch.empty((min(step, n_queries), width), dtype=exact, device=scores.device)
    buffer[:, n_columns:] = -torch.inf
    order = None if relevant.shape[1] < 2 else (relevant != PAD).sum(1).argsort()
    for start in range(0, n_queries, step):
        stop = min(start + step, n_queries)
        rows = slice(start, stop) if order is None else order[start:stop]
        chunk = buffer[: stop - start]
        inner = chunk[:, :n_columns]
        inner.copy_(scores[rows])
        if allowed is not None:
            inner.masked_fill_(~allowed[rows], 0.0)
        _check_finite(inner, rows, users)
        if allowed is not None:
            inner.masked_fill_(~allowed[rows], -torch.inf)
        held = relevant[rows]
        used = torch.nonzero((held != PAD).any(0)).flatten()[-1:] + 1  # slots after the last one in use cost nothing
        columns = _pad_to(held[:, : int(used) if len(used) else 0], n_columns)
        wanted = chunk.gather(1, columns)
        if seen is not None and seen.shape[1]:
            chunk.scatter_(1, _pad_to(seen[rows], n_columns), -torch.inf)
            chunk.scatter_(1, columns, wanted)
        yield rows, chunk, wanted


def _pad_to(columns: Tensor, pad: int) -> Tensor:
    return columns.masked_fill(columns == PAD, pad)


def _check_finite(scores: Tensor, rows: slice | Tensor, users: Tensor | None) -> None:
    if bool(torch.isfinite(scores.sum())):  # a sum may overflow, but it never hides a NaN or an infinity
        return
    wrong = ~torch.isfinite(scores)
    if bool(wrong.any()):
        row, column = torch.nonzero(wrong)[0].tolist()
        query = int(rows[row]) if isinstance(rows, Tensor) else rows.start + row
        who = "" if users is None else f" (user {int(users[query])})"
        raise CrossrecError(
            f"scores must be finite, but {int(wrong.sum())} of {wrong.numel()} are NaN or infinite, in"
            f" {int(wrong.any(1).sum())} of {len(scores)} queries, e.g. in query {query}{who} at column {column}:"
            " lower the learning rate or check the loss"
        )


def _count(scores: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    # Comparing into floats and summing them is several times faster on a CPU than summing booleans, and exact here.
    flags = torch.empty_like(scores)
    better, reached = torch.empty_like(wanted), torch.empty_like(wanted)
    for slot in range(wanted.shape[1]):
        better[:, slot] = torch.gt(scores, wanted[:, slot, None], out=flags).sum(1)
        reached[:, slot] = torch.ge(scores, wanted[:, slot, None], out=flags).sum(1)
    return better.long(), (reached - better).long()


def _sort(scores: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    ordered = scores.sort(dim=1).values
    upper = torch.searchsorted(ordered, wanted.contiguous(), right=True)
    lower = torch.searchsorted(ordered, wanted.contiguous(), right=False)
    return scores.shape[1] - upper, upper - lower


def _best(scores: Tensor, k: int) -> Tensor:
    """Top k of (q, width) in two stages: the k best columns lie in the k blocks with the highest maxima."""
    n_queries, width = scores.shape
    n_blocks = width // BLOCK
    columns = torch.full((n_queries, k), PAD, dtype=torch.int64, device=scores.device)
    if n_blocks > 4 * k:
        blocks = scores.view(n_queries, n_blocks, BLOCK)
        chosen = blocks.amax(2).topk(k, dim=1).indices
        inside = blocks.gather(1, chosen.unsqueeze(2).expand(-1, -1, BLOCK)).flatten(1)
        values, place = inside.topk(k, dim=1)
        found = chosen.gather(1, place // BLOCK) * BLOCK + place % BLOCK
    else:
        values, found = scores.topk(min(k, width), dim=1)
    columns[:, : found.shape[1]] = found.masked_fill(values == -torch.inf, PAD)
    return columns

"""Contrast of the same id's vectors in two domains with other ids' vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from crossrec.adaptation.base import PairedAdaptation
from crossrec.adaptation.numerics import unit_rows
from crossrec.adaptation.options import PairedOptions
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class InfoNCE(PairedAdaptation):
    """Cross-entropy of finding an id's vector in the other domain among the vectors of all k matched ids.

    With s_ij the similarity of a_i and b_j over the temperature t,

    - ``one_way``: 1/k sum_i [ log sum_j exp(s_ij) - s_ii ]: row i of the first domain, as the query, is to find its own
      row of the second; j runs over all k rows, i too;
    - ``symmetric``: the mean of that and of the same with rows and columns of s exchanged.

    log k where nothing is told apart; never negative. The first domain of a pair is the one named first in the log key:
    the source under ``pairs=target``.

    The k matched ids are those that the (global) batch shows in both domains of the pair. The negatives of the query
    a_i are the k - 1 vectors b_j, j != i, of the other matched ids in the second domain; of the query b_i, under
    ``symmetric``, the k - 1 vectors a_j in the first. No vector of the query's own domain is a negative, and none of an
    id that is shown in one of the two domains only. Rows have distinct ids, so no negative is the query's own id in
    another row. One matched row has no negatives: it counts as none.

    Source: van den Oord, Li and Vinyals, "Representation learning with contrastive predictive coding",
    arXiv:1807.03748 (2018), eq. (4); both directions as in Radford et al., "Learning transferable visual models from
    natural language supervision" (CLIP), ICML 2021. Deviations: the inner product, or its cosine, stands for the
    log-bilinear score; the temperature is fixed, where CLIP's is learnt.

    Args:
        temperature: t, positive; in units of the similarity.
        direction: ``one_way`` or ``symmetric``.
        similarity: ``cosine``, or ``dot``, the inner product. A row of length 1e-6 or less has cosine 0 with every row
            and gets no gradient.
        options: see :class:`PairedAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> eye = torch.eye(2)
        >>> round(InfoNCE(temperature=1.0).paired(eye, eye).item(), 4)  # log(e + 1) - 1
        0.3133
    """

    min_rows = 2

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        direction: Literal["one_way", "symmetric"] = "symmetric",
        similarity: Literal["cosine", "dot"] = "cosine",
        **options: Unpack[PairedOptions],
    ) -> None:
        super().__init__(**options)
        at_least(f"adaptation.{self.name}.temperature", temperature, 0, strictly=True)
        if direction not in ("one_way", "symmetric"):
            raise CrossrecError(f"adaptation.{self.name}.direction={direction!r} must be one_way or symmetric")
        if similarity not in ("cosine", "dot"):
            raise CrossrecError(f"adaptation.{self.name}.similarity={similarity!r} must be cosine or dot")
        self.temperature = float(temperature)
        self.direction = direction
        self.similarity = similarity

    def paired(self, a: Tensor, b: Tensor) -> Tensor:
        """Cross-entropy of a (k, f) and b (k, f), in nats."""
        if self.similarity == "cosine":
            a, b = unit_rows(a), unit_rows(b)
        logits = (a / self.temperature) @ b.T
        own = torch.arange(len(a), device=a.device)
        forth = F.cross_entropy(logits, own)
        return forth if self.direction == "one_way" else 0.5 * (forth + F.cross_entropy(logits.T, own))

"""Features of texts that are made anew while weights behind them train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError


class Tower(nn.Module):
    """Make the features of texts, by their place in a list of texts.

    At first they are the frozen model's. A checkpoint has what trains and the key of the model it trains on; a model
    with another key (other files, pooling, prefix or length) is refused when it is loaded.

    Args:
        model: the frozen model.
        learning_rate: of its parameters; None is the optimizer's.
        key: of the model, for the checkpoint.
    """

    def __init__(self, model: str, key: str, learning_rate: float | None) -> None:
        super().__init__()
        self.name = model
        self.key = key
        self.learning_rate = learning_rate

    def forward(self, rows: Tensor) -> Tensor:
        """Features (n, w), fp32, of the texts ``rows`` (n,), n >= 1."""
        raise NotImplementedError

    def get_extra_state(self) -> str:
        """Return the model's key."""
        return self.key

    def set_extra_state(self, state: str) -> None:
        """Compare the checkpoint's key with the model's.

        Raises:
            CrossrecError: they differ.
        """
        if state != self.key:
            raise CrossrecError(
                f"the checkpoint was trained on other files of item_encoder.model={self.name!r} than those that are "
                f"there now (key {state[:12]}, now {self.key[:12]}): bring them back, or train again"
            )


class Tokens(nn.Module):
    """Token ids of texts, each distinct text once; no part of a checkpoint.

    Args:
        texts: of the distinct texts.
        distinct: (n,) which of them each of the n texts is.
    """

    ids: Tensor
    starts: Tensor
    lengths: Tensor
    distinct: Tensor

    def __init__(self, texts: Sequence[Sequence[int]], distinct: Tensor) -> None:
        super().__init__()
        lengths = torch.tensor([len(text) for text in texts])
        joined = [token for text in texts for token in text]
        self.register_buffer("ids", torch.tensor([*joined, 0], dtype=torch.int32), persistent=False)  # 0 is the padding
        self.register_buffer("starts", lengths.cumsum(0) - lengths, persistent=False)
        self.register_buffer("lengths", lengths, persistent=False)
        self.register_buffer("distinct", distinct, persistent=False)

    @classmethod
    def of(cls, texts: Sequence[str], encoder: PretrainedText) -> Tokens:
        """Tokenise texts, repeats allowed."""
        known, distinct = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        return cls(encoder.tokens(known.tolist()), torch.from_numpy(distinct))

    def forward(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask (n, t) of the distinct texts ``texts`` (n,), padded on the right to the longest of them."""
        lengths = self.lengths[texts].unsqueeze(1)
        column = torch.arange(max(1, int(lengths.max())), device=texts.device)
        mask = column < lengths
        places = torch.where(mask, self.starts[texts].unsqueeze(1) + column, len(self.ids) - 1)
        return self.ids[places].long(), mask.long()


class TunedText(Tower):
    """A text model of which some weights train.

    Texts are tokenised once, at the start. A call reads each distinct text once, longest first, in batches of
    ``batch_size``, so that there is little padding.

    Args:
        encoder: whose texts, pooling and length these are.
        model: its network; parameters that do not need a gradient are no part of a checkpoint.
        tokens: of the texts.
        batch_size: texts that the model reads at once.
        learning_rate: of what trains; None is the optimizer's.

    Shape:
        rows (n,) -> (n, w), w of the model.
    """

    def __init__(
        self,
        encoder: PretrainedText,
        model: nn.Module,
        tokens: Tokens,
        batch_size: int,
        learning_rate: float | None = None,
    ) -> None:
        super().__init__(encoder.model, encoder.key, learning_rate)
        self.tokens = tokens
        self.batch_size = batch_size
        self.model = model
        self._read = encoder.read

    def forward(self, rows: Tensor) -> Tensor:
        """Read the texts ``rows`` (n,): (n, w), fp32."""
        texts, back = torch.unique(self.tokens.distinct[rows], return_inverse=True)
        order = self.tokens.lengths[texts].argsort(descending=True, stable=True)
        parts = [
            self._read(self.model, *self.tokens(part)).float() for part in torch.split(texts[order], self.batch_size)
        ]
        return torch.cat(parts)[order.argsort()[back]]

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """State of what trains, and the model's key."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", "")
        for name, _ in self._still():
            state.pop(prefix + name)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, value in self._still():  # the checkpoint lacks it: it stays
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _still(self) -> Iterator[tuple[str, Tensor]]:
        """What a state would have of the model that does not train, with its name."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        inner = nn.Module.state_dict(self.model, prefix="model.")
        return ((name, value) for name, value in inner.items() if name not in trained)

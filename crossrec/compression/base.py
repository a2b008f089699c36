"""What every compression is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.text_model import TextModel
from crossrec.errors import CrossrecError

Facts = Mapping[str, Any]
"""What a compression tells of its outcome: name -> plain value."""


@dataclass(frozen=True)
class Original:
    """A text model before it is compressed, and the texts that a compression may learn from.

    Args:
        model: it.
        texts: of the training items, n, repeats allowed; no other text may be learned from.
        read: gives the vectors (m, w) of m texts.
        batch_size: texts that the model reads at once.
    """

    model: TextModel
    texts: Sequence[str]
    read: Callable[[Sequence[str]], Tensor]
    batch_size: int

    @cached_property
    def vectors(self) -> Tensor:
        """Vectors (n, w) of :attr:`texts`, fp32."""
        return self.read(self.texts)

    def spread(self, count: int) -> Sequence[str]:
        """Some ``count`` of the texts, evenly spaced over all; fewer where there are fewer."""
        return self.texts[:: max(1, len(self.texts) // count)][:count]


class Compression(ABC):
    """A way to compress; its constructor takes the options.

    Attributes:
        name: the option of the config group.
    """

    name: str

    def resolved(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options by which the same compression is made on any machine; those that were left to it are decided."""
        return dict(options)


class NetworkCompression(Compression):
    """Base of those that change a network of `transformers`."""

    @abstractmethod
    def compress(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Change ``network`` in place.

        Args:
            network: a copy of the original's, in evaluation mode and without gradients, on the encoder's device.
            encoder: reads by ``network``.
            original: untouched.

        Raises:
            CrossrecError: the network has not what the compression works on.
        """


def linear_layers(network: nn.Module, method: str) -> list[tuple[str, nn.Linear]]:
    """The linear layers whose weights are fp32, with their names, those of BERT's pooler apart: no vector reads it.

    Raises:
        CrossrecError: there are none.
    """
    found = [
        (name, part)
        for name, part in network.named_modules()
        if isinstance(part, nn.Linear) and type(part.weight) is nn.Parameter and not name.startswith("pooler.")
    ]
    if not found:
        raise CrossrecError(
            f"method={method} works on linear layers in fp32, and {type(network).__name__} has none (GPT-2 has "
            "convolutions in their place; what is in int8 already cannot be compressed again)"
        )
    return found


@torch.no_grad()
def read_all(encoder: PretrainedText, texts: Sequence[str], batch_size: int) -> Tensor:
    """Vectors (n, w) of texts, each distinct text read once, longest first."""
    distinct = sorted(set(texts), key=lambda text: (-len(text), text))
    place = {text: row for row, text in enumerate(distinct)}
    rows = [encoder.encode(part) for part in batches(distinct, batch_size)]
    return torch.cat(rows)[[place[text] for text in texts]]


def batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut texts into batches."""
    return (texts[first : first + size] for first in range(0, len(texts), size))

"""An item encoder for corpora that a test plants: an item's vector is written in its text."""

import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import ItemEncoder

CONFIG = f"""# vectors that are written in the items' texts, through a linear map without bias
_target_: {__name__}.WrittenVectors
_partial_: true
"""


class WrittenVectors(ItemEncoder):
    """V = W x, x the numbers of the item's text."""

    features: Tensor

    def __init__(self, corpus: Corpus, dim: int, train_items: Tensor | None = None) -> None:
        super().__init__()
        self.dim = dim
        rows = [[float(x) for x in text.split()] for text in corpus.items["text"].to_list()]
        self.register_buffer("features", torch.tensor(rows), persistent=False)
        self.map = nn.Linear(self.features.shape[1], dim, bias=False)

    def forward(self, items: Tensor) -> Tensor:
        return self.map(self.features[items])

"""How much of a text model trains."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from crossrec.encoders.compressed import manifest
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.model_parts import (
    below,
    keep_less,
    keep_no_keys,
    layers,
    reached,
    still,
    switch_off_dropout,
    train_all,
)
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.text_model import TextModel
from crossrec.encoders.tuned_text import Tokens, Tower, TunedText
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least, rate


class Tuning(ABC):
    """A tuning regime: what, if anything, makes the vectors of texts anew in training.

    Attributes:
        name: the option of the config group.
        costly: whether a vector costs a pass through the text model in training, so that a whole catalogue of them is
            out of reach in a step.
    """

    name: str
    costly = False

    @abstractmethod
    def tower(self, model: TextModel, texts: Sequence[str], cache: FeatureCache) -> Tower | None:
        """Return what makes the texts' features while it trains, at first the frozen model's; None where nothing does.

        Args:
            model: the frozen model.
            texts: n texts, repeats allowed.
            cache: of its vectors.

        Raises:
            CrossrecError: the model cannot be tuned so.
        """


class Frozen(Tuning):
    """The model stays as it is: its vectors are computed once and cached."""

    name = "frozen"

    def tower(self, model: TextModel, texts: Sequence[str], cache: FeatureCache) -> None:
        """Nothing trains."""


FROZEN = Frozen()


class Trained(Tuning):
    """Base of the regimes in which the model itself is read, with gradient, in every step.

    Which weights train is decided from the graph of a text's vector: those that no vector depends on (the pooler of
    BERT) never do. All arithmetic is in fp32, or what ``trainer.precision`` makes of it.

    Args:
        lr: learning rate of what trains in the model, as a parameter group of the optimizer, whichever it is; None is
            the optimizer's. Everything else of the optimizer (weight decay too) holds for it as for all parameters.
        model_dropout: keep the model's own dropout in training. Off by default: a text then has one vector, in training
            and out of it, and the first step begins from the frozen vectors.
        gradient_checkpointing: keep no states inside a layer for the backward pass, and compute them again: less
            memory, more time, the same gradient.
    """

    costly = True

    def __init__(
        self, lr: float | None = None, model_dropout: bool = False, gradient_checkpointing: bool = False
    ) -> None:
        at_least("tuning.lr", lr, 0, strictly=True)
        self.lr = lr
        self.model_dropout = model_dropout
        self.gradient_checkpointing = gradient_checkpointing

    @abstractmethod
    def prepare(self, model: nn.Module, name: str) -> None:
        """Let those parameters of a frozen ``model`` need a gradient that train; ``name`` is for messages."""

    def tower(self, model: TextModel, texts: Sequence[str], cache: FeatureCache) -> TunedText:
        """Load the model and tokenise the texts; see :meth:`Tuning.tower`."""
        encoder = transformer(model)
        tokens = Tokens.of(texts, encoder)
        network = encoder.release().cpu()  # from here on it goes where the item encoder goes
        keep_no_keys(network)
        if not self.model_dropout:
            switch_off_dropout(network)
        self.prepare(network, encoder.model)
        if self.gradient_checkpointing:
            keep_less(network, encoder.model)
        return TunedText(encoder, network, tokens, cache.batch_size, self.lr)


def transformer(model: TextModel) -> PretrainedText:
    """Return the model, which must be one of `transformers`.

    Raises:
        CrossrecError: it is another.
    """
    if not isinstance(model, PretrainedText):
        raise CrossrecError(f"item_encoder.model={model.model!r} can be read only: set tuning=frozen")
    if (manifest(model.files.folder) or {}).get("int8"):
        raise CrossrecError(f"item_encoder.model={model.model!r} is in int8, which does not train: set tuning=frozen")
    return model


class Full(Trained):
    """All weights train."""

    name = "full"

    def prepare(self, model: nn.Module, name: str) -> None:
        """Train what vectors depend on."""
        train_all(model)


class LastK(Trained):
    """The last ``k`` layers train, with whatever else acts on their states alone, such as a last norm.

    The layers below and the embeddings stay, and no graph of them is kept. With all layers of the model that is
    :class:`Full`: nothing is below, and the embeddings train too.

    Source: Howard and Ruder, "Universal language model fine-tuning for text classification", ACL 2018, section 3.3,
    unfreeze from the last layer on; here their number is fixed.

    Args:
        k: number of layers.
        lr: see :class:`Trained`, and so ``model_dropout`` and ``gradient_checkpointing``.
        model_dropout: see there.
        gradient_checkpointing: see there.

    Raises:
        CrossrecError: ``k`` is not from 1 to the number of layers.
    """

    name = "last_k"

    def __init__(
        self, k: int = 2, lr: float | None = None, model_dropout: bool = False, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__(lr, model_dropout, gradient_checkpointing)
        self.k = k

    def prepare(self, model: nn.Module, name: str) -> None:
        """Train what vectors depend on and the state below the last ``k`` layers does not."""
        stack = layers(model, name)
        if not 1 <= self.k <= len(stack):
            raise CrossrecError(f"tuning.k={self.k} must be from 1 to the {len(stack)} layers of {name!r}")
        model.requires_grad_(True)
        fixed = below(model, stack[-self.k]) if self.k < len(stack) else set()
        still(model, but=reached(model) - fixed)


class LoRA(Trained):
    """Low-rank updates of weight matrices train: W + (alpha / rank) B A, with B zero at first.

    Source: Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022, section 4.1, as `peft` has it
    (A uniform as in ``nn.Linear``).

    Args:
        rank: r, of A (r, in) and B (out, r).
        alpha: see above.
        dropout: rate on what A reads, in training.
        modules: names of the layers whose matrices are updated, ``all-linear``, or None for those that `peft` chooses
            for the architecture (queries and values).
        lr: see :class:`Trained`, and so ``model_dropout`` and ``gradient_checkpointing``.
        model_dropout: see there.
        gradient_checkpointing: see there.

    Raises:
        CrossrecError: `peft` is not there, an option has none of its values, or the model has no such layers.
    """

    name = "lora"

    def __init__(
        self,
        rank: int = 8,
        alpha: int = 16,
        dropout: float = 0.0,
        modules: Sequence[str] | str | None = None,
        lr: float | None = None,
        model_dropout: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(lr, model_dropout, gradient_checkpointing)
        at_least("tuning.rank", rank, 1)
        rate("tuning.dropout", dropout)
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.modules = modules

    def prepare(self, model: nn.Module, name: str) -> None:
        """Put the updates into the model and train them."""
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise CrossrecError("tuning=lora needs peft: pip install 'crossrec[lora]'") from error
        modules = self.modules if self.modules is None or isinstance(self.modules, str) else list(self.modules)
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=modules)
        try:
            with warnings.catch_warnings():  # of GPT-2's matrices, which it turns by itself
                warnings.filterwarnings("ignore", message="fan_in_fan_out")
                inject_adapter_in_model(config, model)
        except ValueError as error:
            asked = "null" if modules is None else modules
            raise CrossrecError(
                f"tuning.modules={asked} fits no layer of {name!r}: name some, or all-linear ({error})"
            ) from error
        still(model, but=reached(model))

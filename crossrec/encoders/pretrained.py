"""Pretrained text models of `transformers`, run in inference mode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crossrec.encoders.compressed import cpu_only, manifest, read_network
from crossrec.encoders.int8 import int8_layers
from crossrec.encoders.model_files import ModelSize, find_model
from crossrec.encoders.pooling import POOLINGS, Pooling, pool
from crossrec.errors import CrossrecError

KEY_VERSION = 1
"""Part of every key: raise it when the way texts become vectors changes."""


class PretrainedText:
    """A frozen text model, encoder (BERT) or decoder (GPT, Llama): texts to pooled vectors of its last hidden layer.

    Texts are padded on the right, and a vector does not depend on the batch it is made in. A text's tokens are those of
    the model's tokenizer with the special ones that it adds by itself. With ``pooling=last`` a text must end in a
    special token, whose state is the vector: the tokenizer's end of text is appended where the tokenizer ends texts in
    none (``[SEP]`` of BERT and ``</s>`` of RoBERTa are one), after a long text was cut. A text without tokens has the
    zero vector.

    Nothing is loaded, and ``transformers`` not imported, before the first text is read; :attr:`key` reads files only.

    Args:
        model: see :func:`~crossrec.encoders.model_files.find_model`.
        pooling: see :func:`~crossrec.encoders.pooling.pool`.
        prefix: put before every text, e.g. ``"query: "``.
        max_length: in tokens, special ones included; longer texts are cut.
        device: where the model runs; None is the first GPU, or the CPU, and the CPU for what runs there alone.

    Raises:
        CrossrecError: an unknown pooling or one that the model has no use for, an impossible length, the model is not
            there, or not for that device.
    """

    def __init__(
        self,
        model: str,
        pooling: Pooling | None = "mean",
        prefix: str = "",
        max_length: int | None = 64,
        device: str | None = None,
    ) -> None:
        if pooling is None or pooling not in POOLINGS:
            raise CrossrecError(
                f"item_encoder.pooling={pooling!r} must be {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}"
            )
        if max_length is None or max_length < 3:
            raise CrossrecError(f"item_encoder.max_length={max_length} must be at least 3 tokens")
        self.model = model
        self.pooling = pooling
        self.prefix = prefix
        self.max_length = max_length
        self.files = find_model(model)
        only_cpu = cpu_only(self.files.folder)
        if only_cpu and device not in (None, "cpu"):
            raise CrossrecError(f"{model!r} was compressed by int8_dynamic, which is for the CPU alone, not {device!r}")
        self.device = device or ("cuda" if torch.cuda.is_available() and not only_cpu else "cpu")

    @cached_property
    def key(self) -> str:
        """64 hex digits that change whenever a text's vector could: files, pooling, prefix, max length."""
        facts = {
            "version": KEY_VERSION,
            "files": self.files.digest,
            "pooling": self.pooling,
            "prefix": self.prefix,
            "max_length": self.max_length,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the key stands for, for a reader."""
        return {
            "model": self.model,
            "pooling": self.pooling,
            "prefix": self.prefix,
            "max_length": self.max_length,
        }

    @cached_property
    def _loaded(self) -> tuple[Any, nn.Module]:
        tokenizer, model = load_text_model(self.model)
        longest = min(getattr(model.config, "max_position_embeddings", None) or 10**9, tokenizer.model_max_length)
        if self.max_length > longest:
            raise CrossrecError(
                f"item_encoder.max_length={self.max_length} is over the {longest} tokens of {self.model!r}"
            )
        if self.pooling == "cls" and _is_causal(model):
            raise CrossrecError(
                f"item_encoder.pooling=cls: {self.model!r} reads from left to right, so its first token has seen "
                "nothing of the text; choose last, weighted or mean"
            )
        return tokenizer, model.eval().requires_grad_(False).to(self.device)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of `transformers`."""
        return self._loaded[0]

    @property
    def network(self) -> nn.Module:
        """The network, in evaluation mode and without gradients."""
        return self._loaded[1]

    def holding(self, network: nn.Module) -> PretrainedText:
        """Return an object that reads as this one does, by another network of the same tokens; the key stays."""
        other = copy(self)
        other.__dict__["_loaded"] = (self.tokenizer, network.eval().requires_grad_(False).to(self.device))
        return other

    @cached_property
    def _end(self) -> list[int]:
        """What is appended to every text: the end of text, or nothing."""
        tokenizer, _ = self._loaded
        if self.pooling != "last" or tokenizer("a")["input_ids"][-1] in tokenizer.all_special_ids:
            return []
        if tokenizer.eos_token_id is None:
            raise CrossrecError(
                f"item_encoder.pooling=last: the tokenizer of {self.model!r} has no token that ends a text; choose "
                "weighted or mean"
            )
        return [tokenizer.eos_token_id]

    def _tokens(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        tokenizer, _ = self._loaded
        whole = [self.prefix + text for text in texts]
        found = tokenizer(whole, return_attention_mask=False, return_token_type_ids=False, verbose=False, **options)
        return [ids + self._end for ids in found["input_ids"]]

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokens of every text (n,) before it is cut; those over ``max_length`` will be."""
        return np.array([len(ids) for ids in self._tokens(texts)], dtype=np.int64)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text, cut to ``max_length``."""
        return self._tokens(texts, truncation=True, max_length=self.max_length - len(self._end))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode one batch of texts to (n, w), fp32 on the CPU."""
        return self.read(self._loaded[1], *self.padded(texts)).float().cpu()

    @torch.inference_mode()
    def states(self, texts: Sequence[str], every: int = 1) -> Tensor:
        """Pooled states of the layers, by which a text's vector comes about.

        Args:
            texts: one batch.
            every: the last layer and every so many-th before it; layer 0 is the embeddings.

        Returns:
            (n, m, w) of the m chosen layers, the last one last, fp32 on the CPU.
        """
        ids, mask = self.padded(texts)
        hidden = self._loaded[1](input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        chosen = [pool(layer, mask, self.pooling) for layer in hidden[::-1][::every][::-1]]
        return torch.stack(chosen, 1).float().cpu()

    def read(self, model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        """Vectors (n, w) of tokens ``ids`` with their ``mask``, both (n, t), by ``model``, with gradient if it has."""
        return pool(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask, self.pooling)

    @property
    def depth(self) -> int:
        """Number of layers, not counting the embeddings."""
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(**self.files.where).num_hidden_layers)

    @property
    def size(self) -> ModelSize:
        """Weights of the loaded network, without its own pooler, which is not read, and bytes of the files."""
        weights: dict[str, Tensor] = dict(self._loaded[1].named_parameters())
        for layer, part in int8_layers(self._loaded[1]):  # such weights are no parameters to torch
            weights |= {f"{layer}.{name}": made for name, made in part.tensors().items() if name != "scale"}
        read = sum(made.numel() for name, made in weights.items() if not name.startswith("pooler."))
        return ModelSize(read, sum(path.stat().st_size for path in self.files.paths))

    def release(self) -> nn.Module:
        """Give the network away, to be changed: the next text that this object reads loads it anew."""
        model = self._loaded[1]
        del self._loaded
        return model

    def padded(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (n, t) of texts, on the device."""
        ids, mask = pad_right(self.tokens(texts), self._loaded[0].pad_token_id)
        return ids.to(self.device), mask.to(self.device)


def load_text_model(name: str) -> tuple[Any, nn.Module]:
    """Load a text model's tokenizer and, in fp32 on the CPU, its network without a head.

    Raises:
        CrossrecError: it cannot be loaded, or its files lack weights, which would be random numbers.
    """
    files = find_model(name)
    if files.gguf is not None:
        _need_gguf(name)
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    if manifest(files.folder) is not None:
        return AutoTokenizer.from_pretrained(**files.where), read_network(files.folder)
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # ours counts texts
    weights = {} if files.gguf else {"use_safetensors": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**files.where)
        with torch.random.fork_rng(devices=[]):  # a pooler that the files lack is drawn
            model, found = AutoModel.from_pretrained(**files.where, **weights, output_loading_info=True)
    except Exception as error:  # the readers of the formats have no common base for what damaged files raise
        raise CrossrecError(f"cannot load the text model {name!r} from {files.folder}: {error}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))  # we pool ourselves
    if missing:
        raise CrossrecError(
            f"the files of the text model {name!r} in {files.folder} lack {len(missing)} weights ({missing[0]}, ...): "
            "fetch them again"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise CrossrecError(f"the text model {name!r} is an encoder with a decoder: choose a model that is one of them")
    return tokenizer, nn.Module.float(model)  # transformers' own refuses models that were quantised before, like GGUF


def pad_right(tokens: Sequence[Sequence[int]], pad: int | None) -> tuple[Tensor, Tensor]:
    """Pad texts on the right to ids and mask, both (n, t) with t >= 1.

    Args:
        tokens: of every text.
        pad: the id to pad with, which no state depends on; None takes 0.
    """
    width = max(1, *map(len, tokens))
    ids = torch.full((len(tokens), width), 0 if pad is None else pad)
    mask = torch.zeros(len(tokens), width, dtype=torch.long)
    for row, text in enumerate(tokens):
        ids[row, : len(text)] = torch.tensor(text, dtype=torch.long)
        mask[row, : len(text)] = 1
    return ids, mask


@torch.inference_mode()
def _is_causal(model: Any) -> bool:
    """Whether the first token's state is the same whatever follows."""
    last = model.config.vocab_size - 1
    pairs = torch.tensor([[last, last - 1], [last, last - 2]])
    first = model.eval()(input_ids=pairs).last_hidden_state[:, 0]
    return bool(torch.allclose(first[0], first[1], atol=1e-6))


def _need_gguf(name: str) -> None:
    from importlib.util import find_spec

    lacking = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if lacking:
        raise CrossrecError(
            f"item_encoder.model={name!r} is a GGUF file, which needs {' and '.join(lacking)}: "
            "pip install 'crossrec[gguf]'"
        )

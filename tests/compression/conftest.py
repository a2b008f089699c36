from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from crossrec.compression.base import NetworkCompression, Original, read_all
from crossrec.encoders.pretrained import PretrainedText


@dataclass(frozen=True)
class Compressed:
    """What a compression made of a model: its reader, network and facts, with the original."""

    encoder: PretrainedText
    network: nn.Module
    facts: dict
    original: Original

    def vectors(self):
        return read_all(self.encoder, self.original.texts, 16)


@pytest.fixture(scope="session")
def texts():
    """120 texts, some twice."""
    draw = torch.Generator().manual_seed(0)
    letters = torch.randint(97, 123, (100, 6), generator=draw).tolist()
    made = [" ".join("".join(map(chr, row[: 2 + i % 4])) for row in (letters[i], letters[-i])) for i in range(100)]
    return made + made[:20]


@pytest.fixture
def apply(tiny, texts):
    """Compress one of the tiny models."""

    def made(compression: NetworkCompression, name: str = "bert", device: str = "cpu") -> Compressed:
        model = PretrainedText(str(tiny[name]), device="cpu")
        original = Original(model, texts, lambda texts: read_all(model, texts, 16), 16)
        network = deepcopy(model.network)
        encoder = model.holding(network)
        encoder.device = device
        return Compressed(encoder, network, dict(compression.compress(network, encoder, original)), original)

    return made


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folders of small random models of four layers by name."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    root = tmp_path_factory.mktemp("small")
    letters = [chr(c) for c in range(97, 123)]
    words = {token: i for i, token in enumerate(["[PAD]", "[UNK]", *letters])}
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 32}
    sizes |= {"vocab_size": len(words), "initializer_range": 0.3, "max_position_embeddings": 64, "pad_token_id": 0}
    kinds = {
        "bert": (hf.BertModel, hf.BertConfig(**sizes)),
        "llama": (hf.LlamaModel, hf.LlamaConfig(**sizes, num_key_value_heads=2)),
        "gpt2": (hf.GPT2Model, hf.GPT2Config(vocab_size=len(words), n_embd=16, n_layer=4, n_head=4, n_positions=64)),
    }
    for name, (kind, config) in kinds.items():
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        options = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 64}
        hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options).save_pretrained(root / name)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = kind(config)
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.data += 0.1 * torch.randn_like(parameter)  # random biases count, too
            network.save_pretrained(root / name)
    return {name: root / name for name in kinds}

"""Every kind of text model against a loop over single texts, without padding."""

import shutil
import warnings

import numpy as np
import pytest
import torch

from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.pooling import POOLINGS
from crossrec.encoders.pretrained import PretrainedText, load_text_model
from crossrec.errors import CrossrecError

TEXTS = ["a b", "梳子和肥皂", "", "soap for hands and hair", "x", "naïve café 🙂"]
KINDS = ["bert", "roberta", "gpt2", "llama"]
ENDS_ALREADY = {"bert", "roberta"}


def by_hand(folder, text, pooling, append, max_length=64):
    tokenizer, model = load_text_model(str(folder))
    end = [tokenizer.eos_token_id] if append else []
    ids = tokenizer(text, truncation=True, max_length=max_length - len(end))["input_ids"] + end
    if not ids:
        return torch.zeros(8)
    states = model.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]
    weights = {
        "mean": torch.ones(len(ids)),
        "cls": torch.arange(len(ids)) == 0,
        "last": torch.arange(len(ids)) == len(ids) - 1,
        "weighted": torch.arange(1, len(ids) + 1),
    }[pooling].float()
    return (weights / weights.sum()) @ states


@pytest.mark.parametrize(
    ("kind", "pooling"), [(k, p) for k in KINDS for p in POOLINGS if p != "cls" or k in ENDS_ALREADY]
)
@torch.no_grad()
def test_batches_are_the_loop_over_texts(tiny, kind, pooling):
    encoder = PretrainedText(str(tiny[kind]), pooling)
    together = encoder.encode(TEXTS)
    alone = torch.cat([encoder.encode([text]) for text in TEXTS])
    append = pooling == "last" and kind not in ENDS_ALREADY
    loop = torch.stack([by_hand(tiny[kind], text, pooling, append) for text in TEXTS])
    assert together.dtype == torch.float32 and together.shape == (6, 8)
    assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(together, loop, atol=1e-5)
    assert len({tuple(row) for row in together.round(decimals=4).tolist()}) == 6


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
@torch.no_grad()
def test_a_cut_text_keeps_its_end(tiny, kind):
    encoder = PretrainedText(str(tiny[kind]), "last", max_length=6)
    whole = by_hand(tiny[kind], TEXTS[3], "last", kind not in ENDS_ALREADY, max_length=6)
    assert torch.allclose(encoder.encode([TEXTS[3]])[0], whole, atol=1e-5)
    assert not torch.allclose(encoder.encode([TEXTS[3]]), PretrainedText(str(tiny[kind]), "last").encode([TEXTS[3]]))


@pytest.mark.parametrize("kind", KINDS)
def test_prefix_is_part_of_the_text(tiny, kind):
    plain, prefixed = PretrainedText(str(tiny[kind]), "mean"), PretrainedText(str(tiny[kind]), "mean", "q: ")
    assert torch.allclose(prefixed.encode(["ab"]), plain.encode(["q: ab"]), atol=1e-6)
    assert not torch.allclose(prefixed.encode(["ab"]), plain.encode(["ab"]), atol=1e-2)


def test_lengths_count_every_token(tiny):
    assert PretrainedText(str(tiny["gpt2"])).lengths(["abc", "", "梳"]).tolist() == [3, 0, 3]
    assert PretrainedText(str(tiny["gpt2"]), "last").lengths(["abc", "", "梳"]).tolist() == [4, 1, 4]
    assert PretrainedText(str(tiny["llama"]), prefix="q").lengths(["abc", ""]).tolist() == [5, 2]
    assert PretrainedText(str(tiny["roberta"]), "last", max_length=4).lengths(["abc"]).tolist() == [5]


def test_the_cache_sorts_by_tokens_and_counts_cut_texts(tiny, tmp_path):
    seen = []

    class Noting(PretrainedText):
        def encode(self, texts):
            seen.append(self.lengths(texts))
            return super().encode(texts)

    texts = ["梳" * n for n in range(1, 16)] + ["a" * n for n in range(1, 36)]  # 3 tokens a character, and 1
    encoder = Noting(str(tiny["gpt2"]), max_length=40)
    with pytest.warns(UserWarning, match="2 of 50 texts were cut at 40 tokens"):
        FeatureCache(tmp_path, batch_size=5).encode(texts, encoder, show_progress=False)
    tokens = np.concatenate(seen)
    assert tokens.tolist() == sorted(tokens.tolist(), reverse=True) and tokens.max() == 45
    padded = sum(min(40, batch.max()) * len(batch) for batch in seen)
    assert padded / np.minimum(tokens, 40).sum() < 1.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FeatureCache(tmp_path).encode(texts, encoder, show_progress=False)


def test_decoders_have_no_first_token_that_knows_the_text(tiny):
    for kind in ("gpt2", "llama"):
        with pytest.raises(CrossrecError, match=r"reads from left to right.*last, weighted or mean"):
            PretrainedText(str(tiny[kind]), "cls").encode(["a"])


def test_last_needs_a_token_that_ends_a_text(tiny, tmp_path):
    import json

    folder = tmp_path / "endless"
    shutil.copytree(tiny["gpt2"], folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(CrossrecError, match="no token that ends a text; choose weighted or mean"):
        PretrainedText(str(folder), "last").encode(["a"])


def test_a_model_that_lacks_weights_is_refused(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(tiny["llama"], folder)
    weights = load_file(folder / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CrossrecError, match=r"lack 1 weights \(layers\.1\.mlp\.up_proj\.weight, \.\.\.\)"):
        PretrainedText(str(folder)).encode(["a"])


def test_an_encoder_with_a_decoder_is_refused(tiny, tmp_path):
    import transformers as hf

    shutil.copytree(tiny["llama"], tmp_path / "t5")
    config = hf.T5Config(vocab_size=300, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    hf.T5Model(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(CrossrecError, match="an encoder with a decoder"):
        PretrainedText(str(tmp_path / "t5")).encode(["a"])


def test_too_long_for_the_tokenizer_is_refused(tiny):
    with pytest.raises(CrossrecError, match="over the 64 tokens"):
        PretrainedText(str(tiny["roberta"]), max_length=65).encode(["a"])
    PretrainedText(str(tiny["roberta"]), max_length=64).encode(["a" * 100])

import polars as pl
import pytest
import torch

from crossrec.data.schema import INTERACTIONS, Corpus, Domain


@pytest.fixture
def make_corpus():
    """Corpus of two domains of n // 2 items with chosen columns of the item table."""

    def make(n_items=6, n_users=5, ordered=True, entity=None, **columns):
        half = n_items // 2
        items = pl.DataFrame(
            {
                "item": list(range(n_items)),
                "domain": [0] * half + [1] * (n_items - half),
                "name": [str(i) for i in range(n_items)],
                "entity": entity or list(range(n_items)),
                **columns,
            }
        )
        return Corpus(
            domains=(Domain("a", 0, 0, half), Domain("b", 1, half, n_items)),
            interactions=pl.DataFrame(schema=INTERACTIONS),
            items=items,
            users=pl.DataFrame({"user": list(range(n_users)), "name": [str(u) for u in range(n_users)]}),
            ordered=ordered,
        )

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a BERT of two layers with random weights and a vocabulary of letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokens),
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
            initializer_range=0.5,
        )
        BertModel(config).save_pretrained(folder)
    return folder

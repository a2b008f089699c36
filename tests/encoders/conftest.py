import polars as pl
import pytest

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


def byte_tokenizer(folder, template=None, special=("<s>", "</s>"), **names):
    """Tokenizer of bytes: every text has tokens, Chinese too; ``template`` is what it puts around a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if template:
        ids = [(token, vocabulary[token]) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture(scope="session")
def tiny(tiny_model, tmp_path_factory):
    """Folders of tiny random models by name: two encoders, two decoders."""
    import torch
    import transformers as hf

    root = tmp_path_factory.mktemp("tiny")
    size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    more = {"max_position_embeddings": 66, "initializer_range": 0.5}
    ends = {"bos_token": "<s>", "eos_token": "</s>"}

    def save(name, model, config, options, **tokens):
        words = byte_tokenizer(root / name, **ends, **tokens)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model(config(vocab_size=words, **options)).save_pretrained(root / name)
        return root / name

    rounded = {
        "template": "<s> $A </s>",
        "special": ("<s>", "<pad>", "</s>"),
        "pad_token": "<pad>",
        "model_max_length": 64,
    }
    named = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 66, "initializer_range": 0.5}
    grouped = {**size, **more, "num_key_value_heads": 1}
    return {
        "bert": tiny_model,
        "roberta": save("roberta", hf.RobertaModel, hf.RobertaConfig, {**size, **more, "pad_token_id": 1}, **rounded),
        "gpt2": save("gpt2", hf.GPT2Model, hf.GPT2Config, named),
        "llama": save("llama", hf.LlamaModel, hf.LlamaConfig, grouped, template="<s> $A"),
    }

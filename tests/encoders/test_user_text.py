from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from crossrec.data.schema import INTERACTIONS
from crossrec.encoders.history_mean import HistoryMeanEncoder
from crossrec.encoders.id import IdEncoder
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.side_by_side import ItemsSideBySide, UsersSideBySide
from crossrec.encoders.text import TextEncoder
from crossrec.encoders.user_id import UserIdEncoder
from crossrec.encoders.user_text import UserTextEncoder
from crossrec.encoders.user_texts import user_texts
from crossrec.errors import CrossrecError

TITLES = ["Tea", None, "Pan", "Jam", "Cup", "Pot"]
ROWS = [(0, 0, 1), (0, 2, 2), (0, 3, 3), (1, 4, 1), (1, 1, 2), (2, 5, 1), (3, 1, 1)]


@pytest.fixture
def corpus(make_corpus):
    """Five users: the third has a profile, the fourth only a text, the last nothing at all."""
    made = make_corpus(6, title=TITLES)
    rows = pl.DataFrame([(u, i, 1.0, t) for u, i, t in ROWS], schema=INTERACTIONS, orient="row")
    users = made.users.with_columns(
        age=pl.Series([None, None, "24", None, None], dtype=pl.String),
        gender=pl.Series([None, None, "male", None, None], dtype=pl.String),
        occupation=pl.Series([None, None, "writer", None, None], dtype=pl.String),
        text=pl.Series([None, None, "likes tea", "likes jam", None], dtype=pl.String),
    )
    return replace(made, interactions=rows, users=users)


EVERY = np.ones(len(ROWS), dtype=np.bool_)


def test_a_user_is_read_by_profile_text_or_titles_in_this_order(corpus):
    found = user_texts(corpus, EVERY).to_list()
    assert found == ["Tea, Pan, Jam", "Cup", "24 years old male writer", "likes jam", None]
    assert user_texts(corpus, EVERY, titles=2)[0] == "Pan, Jam"
    assert user_texts(corpus, EVERY, titles=0).to_list()[:2] == [None, None]
    assert user_texts(corpus, EVERY, profile=False).to_list() == ["Tea, Pan, Jam", "Cup", "Pot", None, None]
    assert user_texts(corpus, EVERY, template="{occupation}, {text}")[2] == "writer, likes tea"


def test_titles_are_of_training_rows_alone(corpus):
    trained = EVERY.copy()
    trained[[2, 3]] = False  # the last of the first user, the only named one of the second
    assert user_texts(corpus, trained).to_list()[:2] == ["Tea, Pan", None]


def test_parts_of_the_profile_that_are_missing_are_left_out(corpus):
    users = corpus.users.with_columns(age=pl.Series(["9", None, None, None, None]), gender=pl.lit("female"))
    some = replace(corpus, users=users.drop("occupation"))
    assert user_texts(some, EVERY).to_list()[:2] == ["9 years old female", "female"]


def test_mistakes_are_told(corpus, make_corpus):
    with pytest.raises(CrossrecError, match=r"no field {title}; fields are age, gender, occupation, text"):
        user_texts(corpus, EVERY, template="{title}")
    with pytest.raises(CrossrecError, match=r"user_encoder\.template=.* fits no user: .* have age, gender"):
        user_texts(replace(corpus, users=corpus.users.with_columns(text=None)), EVERY, template="{text}")
    with pytest.raises(CrossrecError, match=r"template has no use with user_encoder\.profile=false"):
        user_texts(corpus, EVERY, profile=False, template="{text}")
    with pytest.raises(CrossrecError, match="titles=-1"):
        user_texts(corpus, EVERY, titles=-1)
    with pytest.raises(CrossrecError, match="choose user_encoder=id"):
        user_texts(make_corpus(4), np.zeros(0, dtype=np.bool_))


@pytest.fixture
def make(corpus, tiny_model, tmp_path):
    def build(prepared=True, **options):
        torch.manual_seed(0)
        encoder = UserTextEncoder(corpus, 4, cache_dir=tmp_path, model=str(tiny_model), **options)
        if prepared:
            encoder.prepare(EVERY)
        return encoder

    return build


def test_features_are_the_models_pooled_vectors_at_one_scale(make, tiny_model):
    encoder = make(adapter="none")
    texts = ["Tea, Pan, Jam", "Cup", "24 years old male writer", "likes jam"]
    raw = PretrainedText(str(tiny_model), "mean", "", 64).encode(texts).clone()
    assert encoder.dim == raw.shape[1] and encoder.features[:4].square().mean().item() == pytest.approx(1, rel=1e-3)
    ratio = encoder(torch.arange(4)) / raw
    assert torch.allclose(ratio, ratio.mean().expand_as(ratio), rtol=2e-2)
    others = make(adapter="none", pooling="cls")(torch.arange(4)) / raw
    assert others.std() > 10 * ratio.std()


def test_a_user_without_text_has_the_missing_vector_and_only_that_one(make):
    for adapter in ("none", "linear", "mlp"):
        encoder = make(adapter=adapter)
        encoder.missing.data.fill_(3.0)
        vectors = encoder(torch.arange(5))
        assert vectors.shape == (5, encoder.dim) and (encoder.dim == 4) == (adapter != "none")
        assert (vectors[4] == 3.0).all() and (vectors[:4] != 3.0).any(1).all()
    vectors.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert not any("features" in key for key in encoder.state_dict())  # the cache holds them


def test_dropout_and_wrong_adapters(make):
    encoder = make(adapter="none", dropout=0.5).train()
    assert not torch.equal(encoder(torch.arange(4)), encoder(torch.arange(4)))
    assert torch.equal(encoder.eval()(torch.arange(4)), encoder(torch.arange(4)))
    with pytest.raises(CrossrecError, match=r"user_encoder\.dropout=-1 must be from 0 to below 1"):
        make(dropout=-1)
    with pytest.raises(CrossrecError, match=r"user_encoder\.batch_size=0 must be at least 1"):
        make(batch_size=0)
    with pytest.raises(CrossrecError, match=r"user_encoder\.adapter='moe'"):
        make(adapter="moe")


def test_what_stands_side_by_side_is_as_wide_as_all_of_it(corpus, make, tiny_model, tmp_path):
    users = UsersSideBySide(
        corpus, 4, encoders={"id": UserIdEncoder, "text": lambda **_: make(prepared=False, adapter="none")}
    )
    users.prepare(EVERY)
    parts = [encoder(torch.arange(5)) for encoder in users.encoders.values()]
    assert users.dim == sum(part.shape[1] for part in parts) == 12
    assert torch.equal(users(torch.arange(5)), torch.cat(parts, 1))

    def text(**given):
        return TextEncoder(**given, cache_dir=tmp_path, model=str(tiny_model), adapter="none")

    items = ItemsSideBySide(corpus, 4, encoders={"id": IdEncoder, "text": text})
    ids = torch.tensor([[0, 1], [4, 5]])
    assert items.dim == 12 and items(ids).shape == (2, 2, 12)
    assert torch.equal(items(ids)[..., 4:], items.encoders["text"](ids))
    assert torch.equal(items(ids)[..., :4], items.encoders["id"](ids))
    features = items.encoders["text"].features
    assert torch.equal(items(torch.tensor([0]))[0, 4:], features[0]) and not items(torch.tensor([1]))[0, 4:].any()


def test_histories_do_not_stand_beside_ids(corpus):
    with pytest.raises(CrossrecError, match=r"user_encoder\.encoders\.seen reads histories"):
        UsersSideBySide(corpus, 4, encoders={"id": UserIdEncoder, "seen": HistoryMeanEncoder})

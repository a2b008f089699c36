from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly, assemble, load_run
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.recommend import recommend_users


@pytest.fixture
def small(small: list[str], tiny_model: Path) -> list[str]:
    """The small run with a tiny text model for users and items."""
    texts = [f"{side}_encoder.encoders.text.model={tiny_model}" for side in ("item", "user")]
    return [*small, "strategy=bert_concat", *texts]


@pytest.fixture
def rated(small: list[str], tmp_path: Path) -> list[str]:
    """Ratings of 5 where user and item are of one kind and of 1 where not; half of all users and items are of each."""
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(80), 20), np.concatenate([rng.permutation(40)[:20] for _ in range(80)])
    rows = {"user": users, "item": items, "stars": np.where(users % 2 == items % 2, 5, 1)}
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    kinds = {"user": [("cook", "pilot")[u % 2] for u in range(80)], "item": [("tea", "jet")[i % 2] for i in range(40)]}
    for side, words in kinds.items():
        pl.DataFrame({side: range(len(words)), "word": words}).write_csv(tmp_path / f"{side}s.csv")
    own = [w for w in small if not w.startswith("data.source")]
    files = f"interactions: {tmp_path}/rows.csv, items: {tmp_path}/items.csv, users: {tmp_path}/users.csv"
    return [
        *own, "data=tabular", f"data.source.domains={{only: {{{files}}}}}", "target=only", "split=ratio",
        "data.source.columns={user: user, item: item, rating: stars, time: null}", "positive_rating=4",
        "objective.n_negatives=0",
        "data.source.item_columns={item: item, title: word}", "data.source.user_columns={user: user, occupation: word}",
        "optimizer.lr=0.01", "trainer.max_epochs=12", "evaluation.monitor=label_accuracy",
    ]  # fmt: skip


def built(words: list[str]) -> Assembly:
    config = composed(words)
    return assemble(config, prepare_corpus(config))


def label_accuracy(words: list[str]) -> tuple[float, float]:
    test = run(words).metrics["test"]
    return test["test/only/label_accuracy"], test["test/only/label_majority"]


def test_a_score_is_the_layer_on_ids_and_texts_of_both_sides(rated: list[str]) -> None:
    parts = built(rated)
    model, width = parts.model.eval(), 16
    users, items = (encoder.encoders for encoder in (model.user_encoder, model.item_encoder))
    (layer,) = model.network.layers
    assert layer.weight.shape == (1, 2 * (8 + users["text"].features.shape[1]))
    batch = parts.datamodule.queries("test", 0).batch()
    with torch.no_grad():
        scores = model.score(batch)
        side = [users["id"].table.weight[batch.users], users["text"].features[batch.users]]
        every = torch.arange(40)
        other = [items["id"](every), items["text"].features]
        for row, column in ((0, 0), (3, 7), (-1, -1)):
            x = torch.cat([*(part[row] for part in side), *(part[column] for part in other)])
            assert scores[row, column].item() == pytest.approx((layer.weight @ x + layer.bias).item(), abs=1e-5)
    assert scores.shape == (len(batch.users), 40) and len(x) == layer.weight.shape[1] > width


def test_the_loss_is_binary_cross_entropy_of_the_batchs_labels_and_trains_everything(rated: list[str]) -> None:
    parts = built([*rated, "strategy.hidden=[5]"])
    model = parts.model.eval()
    batch = next(iter(parts.datamodule.train_dataloader()))
    assert 0 < batch.labels.sum() < len(batch.labels)
    loss, views = model.recommendation_loss(batch)
    with torch.no_grad():
        logits = model.network(model.user_encoder(batch.users), model.item_encoder(batch.items))
    p = logits.sigmoid().double().numpy()
    expected = -np.where(batch.labels.numpy() > 0, np.log(p), np.log(1 - p)).mean()
    assert loss.item() == pytest.approx(expected, abs=1e-6) and views == {}
    loss.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all("missing" in name for name in still), still  # all users and items have a text here


def test_the_linear_layer_ranks_alike_for_all_and_knows_no_taste_and_a_hidden_layer_does(rated: list[str]) -> None:
    linear = run(rated)
    _, parts = load_run(linear.path)
    batch = parts.datamodule.queries("test", 0).batch()
    with torch.no_grad():
        orders = parts.model.score(batch).argsort(dim=1, stable=True)
    assert len(batch.users) > 50 and len(torch.unique(orders, dim=0)) == 1
    # what is liked depends on user and item together, so a sum of both cannot tell
    accuracy, majority = label_accuracy(rated)
    assert accuracy < majority + 0.05 < 0.65
    accuracy, _ = label_accuracy([*rated, "strategy.hidden=[16]"])
    assert accuracy > 0.9
    # the texts alone tell it, too: nothing is known of ids
    accuracy, _ = label_accuracy([*rated, "strategy.hidden=[16]", "dim=1", "optimizer.lr=0.03"])
    assert accuracy > 0.9


def test_evaluation_and_lists_work_on_it(rated: list[str]) -> None:
    made = run([*rated, "strategy.hidden=[16]"])
    lists = recommend_users(made.path, None, 5, None)
    same = lists["user"].cast(pl.Int64) % 2 == lists["item"].cast(pl.Int64) % 2
    assert lists.height == 80 * 5 and same.mean() > 0.9
    test = {k.rpartition("/")[2]: v for k, v in made.metrics["test"].items() if k.count("/") == 2 and "only" in k}
    assert test["coverage@10"] > 0.9 and test["label_auc"] > 0.9 and test["label_log_loss"] < 0.5
    assert 0 < test["diversity@10"] < 2


def test_ids_alone_have_no_text_and_their_own_widths(rated: list[str]) -> None:
    words = [w for w in rated if "encoder" not in w]
    parts = built([*words, "item_encoder=id", "user_encoder=id", "strategy.hidden=[4, 3]"])
    assert [tuple(layer.weight.shape) for layer in parts.model.network.layers] == [(4, 16), (3, 4), (1, 3)]
    assert label_accuracy([*words, "item_encoder=id", "user_encoder=id", "strategy.hidden=[16]"])[0] > 0.8


def test_without_ratings_negatives_are_sampled_and_candidates_are_classified(small: list[str]) -> None:
    made = run([*small, "evaluation=sampled_99", "evaluation.n_candidates=5"])
    test = made.metrics["test"]
    assert test["test/b/label_majority"] == 0.5 and 0 < test["test/b/label_accuracy"] < 1
    assert "test/b/label_accuracy" not in run(small).metrics["test"]  # nothing is labelled there


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adaptation=[mmd]"], r"remove mmd from adaptation"),
        (["objective=softmax"], r"FullSoftmax is no loss of: choose objective=bce"),
        (["objective=bpr"], r"choose objective=bce"),
        (["user_encoder=mean"], r"choose user_encoder=id_and_text or id"),
        (["objective.n_negatives=0"], r"n_negatives=0 leaves nothing to tell positives from"),
        (["positive_rating=1"], r"labels no row a negative"),
        (["strategy=merged"], r"strategy=merged scores by inner products, but users have vectors of width 8 and items"),
    ],
)
def test_what_it_does_not_go_with_is_refused_in_a_sentence(small: list[str], words: list[str], message: str) -> None:
    if words[0].startswith(("strategy", "user_encoder")):  # then the tiny user text model is of nothing
        small = [w for w in small if not w.startswith(("user_encoder", "strategy"))]
        words = [*words, "strategy=bert_concat" if "user" in words[0] else "item_encoder=id_and_text"]
    with pytest.raises(CrossrecError, match=message):
        built([*small, *words])


def test_text_without_an_adapter_is_not_mixed_with_vectors_of_another_width(small: list[str], tiny_model: Path) -> None:
    own = [w for w in small if not w.startswith(("user_encoder", "strategy"))]
    text = "item_encoder.encoders.text"
    with pytest.raises(CrossrecError, match=r"item_encoder\.encoders\.text gives vectors of width \d+"):
        built([*own, "item_encoder=id_text", f"{text}.adapter=none", f"{text}.whitening_dim=4"])

"""Training on the sources alone, and ranking a domain that no row of was learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.data.schema import Corpus
from crossrec.data.splits import TRAIN
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly, assemble, load_run
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.recommend import recommend_history, recommend_users
from crossrec.runs.summary import selecting
from crossrec.studies.transfer import transfer

TRANSFORMER = ["user_encoder=transformer", "objective=sampled_softmax", "history_length=8"]


@pytest.fixture
def text(small: list[str], tiny_model: Path) -> list[str]:
    """Words of a text encoder that takes no time."""
    return [
        *small, f"item_encoder.model={tiny_model}", "item_encoder.fields=[text]", "item_encoder.max_length=64",
        "item_encoder.whitening_dim=null", "item_encoder.whitening=zca", "logger=none",
    ]  # fmt: skip


@pytest.fixture
def words(text: list[str]) -> list[str]:
    return [*text, "strategy=zero_shot"]


def built(words: list[str]) -> Assembly:
    config = composed(words)
    return assemble(config, prepare_corpus(config))


def trained(words: list[str], corpus: Corpus, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights of the selected epoch of a run on ``corpus``."""
    monkeypatch.setattr("crossrec.runs.corpus.prepare_corpus", lambda config: corpus)
    made = run([*words, f"paths.runs={folder}"])
    state: dict[str, torch.Tensor] = torch.load(made.best, weights_only=True)["state_dict"]
    return state


def other_rows(parts: Assembly, index: int) -> Corpus:
    """The corpus with another item in every training row of a domain, and no user of it where they were."""
    corpus, d = parts.corpus, parts.corpus.domains[index]
    items = corpus.interactions["item"].to_numpy().copy()
    rows = (parts.datamodule.split.label == TRAIN) & (corpus.item_domain[items] == index)
    items[rows] = d.start + (items[rows] - d.start + 7) % d.n_items
    assert rows.sum() > 300
    return replace(corpus, interactions=corpus.interactions.with_columns(item=pl.Series(items)))


@pytest.mark.parametrize("more", [
    ["objective=bpr", "negatives=popularity"],
    ["objective=in_batch_softmax"],
    [*TRANSFORMER, "objective.n_negatives=16", "data.source.n_domains=3", "adaptation=[mmd]",
     "adaptation.mmd.rows=overlap"],
    ["item_encoder=id_text", "user_encoder=mixed_and_own", "user_encoder.encoders.own.n_layers=1"],
], ids=["bpr", "in-batch", "three-mmd", "id_text"])  # fmt: skip
def test_no_row_of_the_target_reaches_training(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    if "item_encoder=id_text" in more:
        words = [w.replace("item_encoder.", "item_encoder.encoders.text.") for w in words]
    words = [*words, *more]
    parts = built(words)
    other = other_rows(parts, 1)
    a, b = (trained(words, c, tmp_path / name, monkeypatch) for name, c in (("a", parts.corpus), ("b", other)))
    assert a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())
    start = parts.model.state_dict()
    assert any(not torch.equal(v, start[k]) for k, v in a.items())
    c = trained(words, other_rows(parts, 0), tmp_path / "c", monkeypatch)  # of a source
    assert any(not torch.equal(v, c[k]) for k, v in a.items())


def test_batches_histories_and_queries_are_of_their_domains(words: list[str]) -> None:
    parts = built([*words, "data.source.n_domains=3"])
    data, d = parts.datamodule, parts.corpus.domains[1]

    def inside(ids: torch.Tensor) -> torch.Tensor:
        return (ids >= d.start) & (ids < d.stop)

    for batch in data.train_dataloader():
        assert not inside(
            torch.cat([batch.history.flatten(), batch.targets.flatten(), batch.negatives.flatten()])
        ).any()
    assert data.valid_indices == [0, 2] and data.eval_indices == [1] and data.train_indices == [0, 2]
    for index in data.valid_indices:
        assert not inside(data.queries("valid", index).batch().history).any()
    test = data.queries("test", 1).batch()
    real = test.history >= 0
    assert inside(test.history).any(1).all() and (real & ~inside(test.history)).any()
    assert not data.train_item_mask()[d.start : d.stop].any() and data.item_popularity()[d.start : d.stop].any()
    assert not parts.model.membership[:, 1].any() and parts.model.membership[:, [0, 2]].any(0).all()
    assert not parts.model.entity_membership[:, 1].any()


def test_sampled_candidates_are_those_of_a_run_on_the_target(words: list[str]) -> None:
    sampled = ["evaluation=sampled_99", "evaluation.n_candidates=10", "evaluation.candidate_sampling=popularity"]
    ours, theirs = (
        built([*words, *sampled, *more]).datamodule.candidates("test")
        for more in ([], ["strategy=target_only", "item_encoder=text"])
    )
    assert ours.keys() == theirs.keys() == {"b/users", "b/candidates"}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_statistics_are_of_source_items_alone(words: list[str]) -> None:
    parts = built([*words, "item_encoder.whitening=centre"])
    encoder = parts.model.item_encoder
    raw, rows = encoder._raw.float(), parts.datamodule.train_item_mask()
    assert rows[: parts.corpus.domains[0].stop].all() and not rows[parts.corpus.domains[1].start :].any()
    np.testing.assert_allclose(encoder.whitening.mean.numpy(), raw[rows].mean(0).numpy(), atol=1e-5)
    assert (encoder.whitening.mean - raw.mean(0)).abs().max() > 1e-3


@pytest.mark.parametrize("more", [[], ["data.source.n_domains=3", *TRANSFORMER]], ids=["two", "three"])
def test_it_selects_by_the_sources_and_tests_the_target(words: list[str], more: list[str]) -> None:
    made = run([*words, *more])
    metrics = made.metrics
    sources = ("a",) if not more else ("a", "c")
    assert selecting(made) == sources
    each = [metrics["valid"][f"valid/{name}/ndcg@10"] for name in sources]
    assert metrics["best_score"] == pytest.approx(sum(each) / len(each), abs=1e-6)
    test = metrics["test"]
    assert {key.split("/")[1] for key in test} == {"b", "macro"}
    # every item is cold, so that group is all there is
    assert not any("/warm_items/" in key for key in test)
    for name in ("recall@10", "ndcg@10", "n_queries"):
        assert test[f"test/b/cold_items/{name}"] == test[f"test/b/{name}"]
    assert test["test/b/warm_users/n_queries"] == test["test/b/n_queries"] > 100


@pytest.mark.parametrize(("users", "objective"), [
    ("attention", "softmax"), ("attention", "bpr"), ("mean", "bce"), ("mixed_and_own", "in_batch_softmax"),
    ("transformer", "sampled_softmax"),
])  # fmt: skip
def test_it_trains_with_encoders_of_histories_and_objectives(words: list[str], users: str, objective: str) -> None:
    small = ["data.source.n_users=40", "data.source.n_items=30", "data.source.interactions_per_user=6"]
    made = run([*words, *small, f"user_encoder={users}", f"objective={objective}", "history_length=6"])
    test = {k: v for k, v in made.metrics["test"].items() if k.startswith("test/b/")}
    assert test["test/b/n_queries"] == 40 and all(map(np.isfinite, test.values()))


def test_novelty_knows_what_is_popular_in_the_target(words: list[str]) -> None:
    made = run(words)
    popular = run([*words, "strategy=popularity", "item_encoder=text"])
    values = [m.metrics["test"]["test/b/novelty@10"] for m in (popular, made)]
    assert values[0] < values[1] and values[1] != pytest.approx(np.log2(60), abs=1e-3)


def test_a_domain_that_never_trains_adds_nothing(words: list[str]) -> None:
    made = run([*words, *TRANSFORMER])
    _, parts = load_run(made.path)
    table = parts.model.user_encoder.domain.weight
    assert not table[1].any() and table[0].any()
    mean = built([*words, "user_encoder=mean", "user_encoder.domain_weights=true"])
    assert mean.model.user_encoder.log_weight[1] == 0
    pooled = built([*words, "user_encoder=attention"]).model.user_encoder.domain.weight
    assert not pooled[1].any() and pooled[0].any()
    both = built([*words, "user_encoder=mixed_and_own"]).model.user_encoder.encoders
    assert all(not e.domain.weight[1].any() and e.domain.weight[0].any() for e in both.values())


def test_random_ranking_is_beaten_without_a_label(words: list[str]) -> None:
    """The planted texts name the tastes, in words of all domains: what they mean is learnt in the sources."""
    planted = [
        *words, "data.source.n_users=250", "data.source.n_items=100", "data.source.overlap=0.3", "dim=16",
        "data.source.signal=6", "data.source.n_factors=4", "objective=softmax", "optimizer.lr=0.01", "target=b",
        "trainer.max_epochs=8", "batch_size=512", "data.source.interactions_per_user=12",
    ]  # fmt: skip
    cosine = run([*planted, "strategy=text_cosine"]).metrics["test"]
    for n in (2, 3):
        test = run([*planted, f"data.source.n_domains={n}"]).metrics["test"]
        # a random list of 10 of the 100 - 11 unseen items, and an AUC of 1/2
        assert test["test/b/recall@10"] > 1.5 * 10 / 89, n
        assert test["test/b/auc"] > 0.6
        assert test["test/b/auc"] > cosine["test/b/auc"] - 0.02


def test_lists_for_users_and_typed_histories_of_the_target(words: list[str]) -> None:
    made = run(words)
    _, parts = load_run(made.path)
    d, names = parts.corpus.domain("b"), parts.corpus.items["name"]
    everybody = recommend_users(made.path, None, 3, None)
    assert set(everybody["domain"]) == {"b"} and everybody["user"].n_unique() == parts.corpus.n_users
    only_b = next(u for u in range(parts.corpus.n_users) if list(parts.corpus.membership[u]) == [False, True])
    name = parts.corpus.users["name"][only_b]
    done = parts.corpus.interactions.filter(pl.col("user") == only_b)["item"].to_list()
    assert all(d.start <= i < d.stop for i in done)
    with torch.no_grad():
        vectors = parts.model.item_encoder(torch.arange(parts.corpus.n_items))
    scores = vectors[d.start : d.stop] @ vectors[done].mean(0)
    scores[torch.tensor(done) - d.start] = -torch.inf
    expected = [names[d.start + i] for i in scores.argsort(descending=True)[:5].tolist()]
    assert recommend_users(made.path, [name], 5, None)["item"].to_list() == expected
    typed = recommend_history(made.path, [names[i] for i in done], 5, None)
    assert typed["item"].to_list() == expected
    source = recommend_history(made.path, ["a00003"], 3, "a")
    assert set(source["domain"]) == {"a"}  # it trained there


def test_transfer_compares_it_with_the_target_alone(words: list[str]) -> None:
    made = run(words)
    run([*words, "strategy=target_only", "item_encoder=text", "user_encoder=mean"])
    report = transfer([made.path])
    (b,) = report.domains
    assert (b.domain, report.selected, report.missing) == ("b", ("a",), ())
    assert b.groups[0].users == made.metrics["test"]["test/b/n_queries"]
    assert min(g.least for g in b.groups if g.by == "activity") >= 1


@pytest.mark.parametrize(("more", "message"), [
    (["target=all"], "strategy=zero_shot holds one domain out of training: set target to one of a, b"),
    (["data.source.n_domains=1", "target=a"], "but the data have 'a' alone: choose data of two domains or more"),
    (["user_encoder=id"], "users in 'b' who never trained, and this user_encoder reads no histories: choose user"),
    (["item_encoder=id"], "items of 'b', none of which trains, and this item_encoder does not make their vectors from"),
    (["item_encoder=id_text", "item_encoder.encoders.id.untrained=learned"], "item_encoder.encoders.id.untrained=zero"),
    (["item_encoder.per_domain=true"], "^item_encoder.per_domain=true whitens .* has none in 'b': set it to false"),
    (["item_encoder=id_text", "item_encoder.encoders.text.per_domain=true"],
     "^item_encoder.encoders.text.per_domain=true whitens"),
    (["strategy.domain_weights={a: 1, b: 0.5}"], "domain_weights.b weighs rows of the domain that .* holds out: leave"),
    (["sampler=fixed_ratio", "sampler.ratios={a: 1, b: 1}"], "sampler.ratios names a, b: give a share to each of a"),
    (["data.source.n_domains=3", "adaptation=[mmd]", "adaptation.mmd.pairs=target"], "needs one target domain"),
], ids=lambda value: "-".join(value) if isinstance(value, list) else "")  # fmt: skip
@pytest.mark.filterwarnings("ignore:item_encoder.per_domain")
def test_what_cannot_be_zero_shot_is_refused(words: list[str], more: list[str], message: str) -> None:
    if "item_encoder=id" in more:
        words = [w for w in words if not w.startswith("item_encoder.")]
    if "item_encoder=id_text" in more:
        words = [w.replace("item_encoder.", "item_encoder.encoders.text.") for w in words]
    with pytest.raises(CrossrecError, match=message):
        run([*words, *more])


def test_a_target_without_texts_is_refused(words: list[str]) -> None:
    config = composed(words)
    corpus = prepare_corpus(config)
    known = [pl.when(pl.col("domain") == 0).then(pl.col(name)).alias(name) for name in ("title", "text")]
    corpus = replace(corpus, items=corpus.items.with_columns(known))
    with pytest.raises(CrossrecError, match=r"items of 'b', none of which trains, .* choose data with texts there"):
        assemble(config, corpus)


def test_weights_count_for_the_sources(words: list[str], tmp_path: Path) -> None:
    more = [*words, "data.source.n_domains=3"]
    a, b = (run([*more, *w]) for w in ([], ["strategy.domain_weights={c: 0.1}"]))
    first, second = (torch.load(r.best, weights_only=True)["state_dict"] for r in (a, b))
    assert any(not torch.equal(v, second[k]) for k, v in first.items())


def test_weights_that_learnt_from_the_target_are_not_handed_over(words: list[str]) -> None:
    text = [*words, "item_encoder=text", "user_encoder=transformer"]
    sources, everything = (run([*text, w]).path for w in ("strategy=zero_shot", "strategy=merged"))
    made = run([*text, f"init.from={sources}"])
    assert any(name.startswith("item_encoder.adapter") for name in made.metrics["init"]["taken"])
    handed_on = run([*text, "strategy=pretraining", "objective=in_batch_softmax", f"init.from={everything}"])
    assert handed_on.metrics["init"]["learnt"] == ["a", "b"]
    for path in (everything, handed_on.path):  # at first and at second hand
        with pytest.raises(CrossrecError, match=r"which learnt from 'b', the domain that strategy=zero_shot holds out"):
            run([*text, f"init.from={path}"])

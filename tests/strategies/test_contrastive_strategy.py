import csv
import math
import warnings

import pytest
import torch
from running import run

from crossrec.adaptation.contrastive import InfoNCE
from crossrec.adaptation.numerics import unit_rows
from crossrec.adaptation.pairs import DomainViews, distinct
from crossrec.data.batches import PairwiseBatch
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.runs.store import RunFolder
from crossrec.strategies.contrastive import Contrastive

OWN = "strategy=contrastive"
ENCODERS = {
    "id": [],
    "transformer": ["user_encoder=transformer", "objective=sampled_softmax", "history_length=8"],
}
every_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())


def of_pairs(users: torch.Tensor, domains: torch.Tensor) -> PairwiseBatch:
    """A batch of these rows, each with the first item of all."""
    first = torch.zeros_like(users)
    return PairwiseBatch(users, first, first.unsqueeze(1)[:, :0], domains)


def weights(made: RunFolder, path: str = "best") -> dict[str, torch.Tensor]:
    return torch.load(getattr(made, path), weights_only=True)["state_dict"]


@pytest.fixture
def model(small: list[str]) -> Contrastive:
    """A strategy of three domains, its maps far from zero; user 3 is in the first and last, user 5 in the second."""
    words = [*small, OWN, "data.source.n_domains=3", "trainer.max_epochs=1"]
    made = load_run(run(words).path)[1].model
    assert isinstance(made, Contrastive) and made.heads is not None
    made.heads.data = torch.randn(made.heads.shape, generator=torch.Generator().manual_seed(0))
    made.membership[3], made.membership[5] = torch.tensor([[True, False, True], [False, True, False]])
    return made


@every_encoder
def test_without_heads_weight_zero_is_merged_training_bit_for_bit(small: list[str], encoder: list[str]) -> None:
    merged = run([*small, *encoder])
    term = "mmd" if encoder == [] else "contrastive"
    words = [OWN, "strategy.heads=false", f"adaptation=[{term}]", f"adaptation.{term}.weight=0"]
    made = run([*small, *encoder, *words])
    assert merged.id != made.id and merged.metrics == made.metrics and "heads" not in weights(made)
    assert all(torch.equal(value, weights(made)[key]) for key, value in weights(merged).items())


@pytest.mark.parametrize("more", [[], ["optimizer.weight_decay=0.1"], ["trainer.precision=bf16-mixed"]])
@every_encoder
def test_weight_zero_is_merged_training_bit_for_bit(small: list[str], encoder: list[str], more: list[str]) -> None:
    merged = run([*small, *encoder, *more])
    terms = ["adaptation=[contrastive,mmd]", "adaptation.contrastive.weight=0", "adaptation.mmd.weight=0"]
    made = run([*small, *encoder, *more, OWN, *terms])
    assert merged.id != made.id and merged.metrics == made.metrics
    for path in ("best", "last"):
        assert all(torch.equal(value, weights(made, path)[key]) for key, value in weights(merged, path).items())
        assert weights(made, path)["heads"].shape == (2, 8, 8) and not weights(made, path)["heads"].any()
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        logged = next(row for row in csv.DictReader(file) if row["train/loss"])
    assert all(float(logged[f"train/adaptation/{name}/0-1"]) > 0 for name in ("contrastive", "mmd"))


def test_no_term_is_merged_training_and_a_weight_too_small_to_feel_is_the_heads_alone(small: list[str]) -> None:
    merged, none = run(small), run([*small, OWN, "adaptation=[]"])
    assert merged.metrics == none.metrics
    alone = run([*small, OWN, "adaptation.contrastive.weight=1e-12"])
    heads = weights(alone, "last")["heads"]
    assert heads.flatten(1).any(1).all() and alone.metrics["test"] != merged.metrics["test"]


def test_heads_that_no_term_reads_are_told_and_left_as_they_are(small: list[str]) -> None:
    words = [*small, OWN, "adaptation=[mmd]", "adaptation.mmd.space=items"]
    with pytest.warns(UserWarning, match=r"users are scored as in strategy=merged, because no adaptation term of"):
        made = run(words)
    assert not weights(made, "last")["heads"].any()
    assert made.metrics == run([w for w in words if w != OWN] + ["strategy=mmd"]).metrics


def test_a_user_in_a_domain_is_its_head(model: Contrastive) -> None:
    assert model.heads is not None
    users, domains = torch.tensor([3, 3, 5, 7]), torch.tensor([0, 2, 1, 1])
    with torch.no_grad():
        states = model.user_encoder(users)
        got = model.users_in(states, domains)
        expected = [h + model.heads[d] @ h for h, d in zip(states, domains.tolist())]
    assert torch.allclose(got, torch.stack(expected), atol=1e-6)
    items = torch.randn(4, 8)
    assert torch.equal(model.represent("items", items, domains)[0], items)


def test_first_scores_are_the_towers(model: Contrastive) -> None:
    model.heads.data.zero_()
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.users_in(states, torch.tensor([0, 1, 2, 0, 1])), states)


def test_terms_see_users_in_every_domain_of_theirs(model: Contrastive) -> None:
    ids, domains = torch.tensor([3, 5, 3]), torch.tensor([2, 1, 2])
    g = torch.Generator().manual_seed(2)
    states, items = torch.randn(3, 8, generator=g), torch.randn(3, 8, generator=g)
    users, layers = model.represent("users", states, domains)
    batch = {
        "users": DomainViews(users, domains, ids, layers={**layers, "partner": items}),
        "items": DomainViews(items, domains, torch.zeros(3, dtype=torch.long), layers={"partner": users}),
    }
    seen = distinct(model.adaptation_views(batch, of_pairs(ids, domains))["users"])
    rows = {(int(i), int(d)): k for k, (i, d) in enumerate(zip(seen.ids, seen.domains))}
    assert set(rows) == {(3, 0), (3, 2), (5, 1)} and torch.equal(seen.membership, model.membership[seen.ids])
    with torch.no_grad():
        elsewhere = model.users_in(states[2:], torch.tensor([0]))[0]
        expected = {(3, 2): (users[2], items[2]), (3, 0): (elsewhere, items[2]), (5, 1): (users[1], items[1])}
        for key, (vector, partner) in expected.items():
            assert torch.allclose(seen.vectors[rows[key]], vector, atol=1e-6)
            assert torch.equal(seen.layers["partner"][rows[key]], partner)
    empty = {space: view.take(torch.arange(0)) for space, view in batch.items()}
    assert len(model.adaptation_views(empty, of_pairs(ids[:0], domains[:0]))["users"]) == 0


def test_a_row_of_the_batch_counts_before_an_added_one(model: Contrastive) -> None:
    user, domains = torch.tensor([3, 3]), torch.tensor([0, 2])
    states = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    users, layers = model.represent("users", states, domains)
    view = DomainViews(users, domains, user, layers={**layers, "partner": states})
    seen = distinct(model.adaptation_views({"users": view, "items": view}, of_pairs(user, domains))["users"])
    assert torch.equal(seen.vectors, users) and torch.equal(seen.layers["input"], states)


def agreement(made: RunFolder) -> tuple[float, float]:
    """InfoNCE of the users of both domains, and the mean cosine of a user's two vectors."""
    model, both = load_run(made.path)[1].model, torch.tensor([True, True])
    users = torch.nonzero((model.membership == both).all(1)).flatten()
    with torch.no_grad():
        a, b = model.in_every_domain(model.user_encoder(users)).unbind(1)
        return InfoNCE().paired(a, b).item(), (unit_rows(a) * unit_rows(b)).sum(1).mean().item()


def test_a_weight_has_a_users_vectors_find_each_other(small: list[str]) -> None:
    words = [*small, OWN, "trainer.max_epochs=12", "callbacks=none", "optimizer.lr=0.05", "data.source.overlap=0.5"]
    off, on = (agreement(run([*words, f"adaptation.contrastive.weight={w}"])) for w in (1e-12, 1))
    assert on[0] < 0.5 * off[0] and on[1] > off[1] + 0.1


@pytest.mark.parametrize("overlap", [0.0, 1.0])
@pytest.mark.parametrize("n_domains", [2, 5])
def test_two_to_five_domains_of_any_overlap(small: list[str], overlap: float, n_domains: int) -> None:
    words = [f"data.source.overlap={overlap}", f"data.source.n_domains={n_domains}", "target=all", "batch_size=32"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = run([*small, *words, OWN, "trainer.max_epochs=1"])
    told = [str(w.message) for w in caught]
    assert any("compared nothing in the first epoch" in t for t in told) == (overlap == 0)
    assert all(math.isfinite(v) for v in made.metrics["test"].values())


@pytest.mark.parametrize("term", ["mmd", "joint_mmd", "mcc", "hsic"])
def test_other_terms_run_too(small: list[str], term: str) -> None:
    made = run([*small, OWN, f"adaptation=[{term},contrastive]", "trainer.max_epochs=1"])
    assert math.isfinite(made.metrics["best_score"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy.heads=2"], "strategy.heads=2 must be true or false"),
        (
            ["strategy.heads=false"],
            "adaptation.contrastive has no two vectors to compare: a user looked up by id has one vector",
        ),
        (
            ["strategy.heads=false", "adaptation=[mapping]", "adaptation.mapping.space=both"],
            "adaptation.mapping has no two vectors to compare: a user looked up by id has one vector",
        ),
    ],
)
def test_mistakes_are_told(small: list[str], words: list[str], told: str) -> None:
    with pytest.raises(CrossrecError, match=told):
        run([*small, OWN, *words])

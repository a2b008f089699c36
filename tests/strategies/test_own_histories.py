"""What terms compare where users are read one domain at a time: ``history=own``, and ``mixed_and_own``."""

from dataclasses import replace

import pytest
import torch
from gathering import gathered
from running import run

from crossrec.adaptation.pairs import DomainViews, distinct
from crossrec.commands.train import composed
from crossrec.data.batches import PAD, PairwiseBatch, SequenceBatch
from crossrec.runs.assemble import assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.store import RunFolder
from crossrec.strategies.base import Strategy
from crossrec.strategies.contrastive import Contrastive

SEQUENCES = ["objective=sampled_softmax", "history_length=8"]
READINGS = {
    "own": ["user_encoder=transformer", "user_encoder.history=own", *SEQUENCES],
    "both": ["user_encoder=mixed_and_own", *SEQUENCES],
}
readings = pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())


def built(words: list[str]) -> Strategy:
    config = composed(words)
    return assemble(config, prepare_corpus(config)).model


@pytest.fixture
def contrastive(small: list[str], reading: list[str]) -> Contrastive:
    """Of three domains, without dropout, its maps far from zero; users 0 to 4 are in all domains, 5 in the first."""
    model = built([*small, *reading, "strategy=contrastive", "data.source.n_domains=3", "target=all"]).eval()
    assert isinstance(model, Contrastive) and model.heads is not None
    model.heads.data = torch.randn(model.heads.shape, generator=torch.Generator().manual_seed(0))
    model.membership[:5], model.membership[5] = True, torch.tensor([True, False, False])
    return model


def batch_of(model: Strategy, users: list[int], domains: list[list[int]]) -> SequenceBatch:
    """Windows of ``users`` whose events are in ``domains``: the n-th event of all is the n-th item of its domain."""
    width, taken = max(map(len, domains)) - 1, [d.start for d in model.domains]
    history, targets, of = (torch.full((len(users), width), PAD) for _ in range(3))
    for row, window in enumerate(domains):
        items = []
        for d in window:
            items.append(taken[d])
            taken[d] += 1
        n = len(window) - 1
        history[row, :n], targets[row, :n] = torch.tensor(items[:-1]), torch.tensor(items[1:])
        of[row, :n] = torch.tensor(window[1:])
    negatives = torch.stack([torch.arange(d.start, d.start + 5) for d in model.domains])
    return SequenceBatch(torch.tensor(users), history, targets, negatives, of)


WINDOWS = {
    0: [0, 0, 1, 0],  # the one target of domain 1 has no event of that domain before, the last of domain 0 has
    1: [1, 0, 0],  # no target of domain 1, but an event
    2: [0, 0, 0],
    3: [1, 0, 2, 0, 1],  # a target of every domain; the one of domain 2 has none before
    5: [0, 1, 0, 0],  # a member of domain 0 alone
}


def seen_in(model: Contrastive, batch: SequenceBatch) -> DomainViews:
    return distinct(model.recommendation_loss(batch)[1]["users"])


def by_key(view: DomainViews) -> dict[tuple[int, int], tuple[torch.Tensor, ...]]:
    rows = zip(view.ids.tolist(), view.domains.tolist())
    return {key: (view.vectors[i], view.layers["input"][i], view.layers["partner"][i]) for i, key in enumerate(rows)}


@readings
@torch.no_grad()
def test_a_user_is_contrasted_as_scored_in_each_domain(contrastive: Contrastive, reading: list[str]) -> None:
    model, batch = contrastive, batch_of(contrastive, list(WINDOWS), list(WINDOWS.values()))
    seen = by_key(seen_in(model, batch))
    expected = {}
    for row, (user, events) in enumerate(WINDOWS.items()):
        for d in torch.nonzero(model.membership[user]).flatten().tolist():
            targets = [t for t, e in enumerate(events[1:]) if e == d]
            last = len(events) - 2  # all but the last event are read
            if targets and ("mixed_and_own" in reading[0] or d in events[: targets[-1] + 1]):
                last = targets[-1]
            history = batch.history[row : row + 1, : last + 1]
            state = model.encode_users(batch.users[row : row + 1], history, d)
            if state.any():
                vector = model.users_in(state, torch.tensor([d]))[0]
                expected[user, d] = (vector, state[0], model.item_encoder(batch.targets[row, last]))
    if "mixed_and_own" not in reading[0]:
        assert {(1, 1), (0, 1), (3, 2)} <= set(expected) and not {(0, 2), (2, 1)} & set(expected)
    # a row of the batch counts whether or not the user is a member, if it has a state
    assert ((5, 1) in seen) == ("mixed_and_own" in reading[0])
    assert {key for key in seen if key != (5, 1)} == set(expected)
    for key, rows in expected.items():
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(seen[key], rows)), key
    (of_0, of_1) = (model.encode_users(batch.users[:1], batch.history[:1, :3], d) for d in (0, 1))
    assert not torch.allclose(of_0, of_1, atol=1e-3)


@readings
@torch.no_grad()
def test_what_comes_after_the_rows_item_is_not_seen(contrastive: Contrastive, reading: list[str]) -> None:
    model, events = contrastive, [[0, 1, 0, 0, 1, 1]]
    whole = batch_of(model, [0], events)
    some = torch.tensor([[True, True, False, False, False]])  # the other events are inputs only
    cut = replace(whole, targets=whole.targets.where(some, PAD), domains=whole.domains.where(some, PAD))
    later = torch.where(torch.arange(5) > 1, whole.history + 7, whole.history)
    a, b = (by_key(seen_in(model, replace(cut, history=h))) for h in (whole.history, later))
    assert a.keys() == b.keys() and {(0, 0), (0, 1)} <= set(a)
    assert all(torch.equal(x, y) for key in a for x, y in zip(a[key][:2], b[key][:2]))


@readings
@torch.no_grad()
def test_rows_of_two_processes_are_those_of_one(contrastive: Contrastive, reading: list[str]) -> None:
    """User 0 has a window in both processes, and two in the first; the later ones say nothing of domain 1."""
    model = contrastive
    users, events = [0, 0, 0, 1, 2, 3], [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 2, 0], [1, 0, 1], [1, 0, 0]]
    batch = batch_of(model, users, events)

    def of(rank: int, n: int) -> DomainViews:
        part = replace(batch, **{k: getattr(batch, k)[rank::n] for k in ("users", "history", "targets", "domains")})
        rows = part.observations(rank, n)
        states = model.history_states(part.history, part.domains)[part.real]
        vectors, layers = model.represent("users", states, rows.domains)
        layers["partner"] = model.item_encoder(rows.items)
        known = states.any(1)
        view = DomainViews(vectors, rows.domains, rows.users, known, layers=layers, order=rows.places)
        return distinct(model.adaptation_views({"users": view, "items": view}, part)["users"])

    one, (a, b) = of(0, 1), (of(0, 2), of(1, 2))
    assert one.order is not None
    both = gathered(a, b)
    got, expected = by_key(distinct(both)), by_key(one)
    assert got.keys() == expected.keys() and (0, 1) in got
    assert all(torch.allclose(x, y, atol=1e-5) for key in got for x, y in zip(got[key], expected[key]))


@pytest.mark.parametrize("strategy", ["mmd", "shared_private", "contrastive", "contrastive strategy.heads=false"])
def test_users_without_an_event_in_the_domain_are_not_compared(small: list[str], strategy: str) -> None:
    model = built([*small, *READINGS["own"], *f"strategy={strategy}".split()]).eval()
    views = model.recommendation_loss(batch_of(model, [0, 1, 2], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]))[1]
    assert len(views["items"]) == len(distinct(views["items"])) == 6
    users = distinct(views["users"])
    assert users.vectors.any(1).all()
    assert {(0, 0), (1, 0), (2, 0)} <= set(zip(users.ids.tolist(), users.domains.tolist()))
    assert ((0, 1) in zip(users.ids.tolist(), users.domains.tolist())) == (strategy == "contrastive")


def weights(made: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(made.last, weights_only=True)["state_dict"]


@pytest.mark.parametrize("strategy", ["mmd", "adversarial", "shared_private", "contrastive"])
@readings
def test_weight_zero_is_merged_training_bit_for_bit(small: list[str], reading: list[str], strategy: str) -> None:
    words = [*small, *reading, "data.source.n_domains=3", "target=all", "trainer.max_epochs=1"]
    terms = {"mmd": ["mmd"], "adversarial": ["dann"], "shared_private": ["mmd", "difference", "simse"]}
    zero = [f"adaptation.{name}.weight=0" for name in terms.get(strategy, ["contrastive"])]
    merged, made = run(words), run([*words, f"strategy={strategy}", *zero])
    assert merged.id != made.id and merged.metrics == made.metrics
    assert all(torch.equal(value, weights(made)[key]) for key, value in weights(merged).items())


@pytest.mark.parametrize("users", ["transformer", "transformer user_encoder.history=own", "mixed_and_own", "id"])
@torch.no_grad()
def test_added_rows_are_as_the_objective_scores(small: list[str], users: str) -> None:
    words = [*f"user_encoder={users}".split(), "objective=in_batch_softmax", "history_length=8"]
    model = built([*small, *words, "strategy=contrastive", "data.source.overlap=1"]).eval()
    model.heads.data = torch.randn(model.heads.shape, generator=torch.Generator().manual_seed(0))
    batch = batch_of(model, [0, 1, 2], [[1, 0, 0], [0, 1, 1], [1, 1, 0, 0]])
    if users == "id":
        first = torch.tensor([0, 0, 0])
        batch = PairwiseBatch(batch.users, first, first.unsqueeze(1)[:, :0], first)
    seen = distinct(model.recommendation_loss(batch)[1]["users"])  # of unit length
    assert len(seen) == 6 and torch.allclose(seen.vectors.norm(dim=1), torch.ones(6), atol=1e-5)


PRIVATE = "shared_private strategy.private=history adaptation=[mmd,difference]"  # which needs both readings
ADAPTING = [(r, s) for r in READINGS for s in ("mmd", "adversarial", "shared_private", "contrastive")]


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("n_domains", [2, 3])
@pytest.mark.parametrize(("kind", "strategy"), [*ADAPTING, ("both", PRIVATE)])
def test_terms_compare_and_reach_the_encoders(
    small: list[str], kind: str, strategy: str, n_domains: int, overlap: int
) -> None:
    more = [f"data.source.overlap={overlap}", f"data.source.n_domains={n_domains}", "target=all"]
    config = composed([*small, *READINGS[kind], *more, *f"strategy={strategy}".split()])
    parts = assemble(config, prepare_corpus(config))
    model = parts.model.train()
    views = model.recommendation_loss(next(iter(parts.datamodule.train_dataloader())))[1]
    for name, term in model.adaptation.items():
        value, logged = term(views, progress=1.0)
        compared = {key.removeprefix(f"adaptation/{name}/") for key in logged}
        pairs = {"0-1"} if n_domains == 2 else {"0-1", "0-2", "1-2"}
        if name in ("mmd", "contrastive"):  # no user is in two domains without an overlap
            assert compared == (pairs if overlap or name == "mmd" else set())
        assert torch.isfinite(value)
        model.zero_grad()
        value.backward(retain_graph=True)
        gradients = [p.grad for p in model.user_encoder.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients)
        if name in ("mmd", "dann", "contrastive"):
            assert any(g.any() for g in gradients) == bool(compared)

import pytest
import torch

from crossrec.adaptation.base import DomainViews, PairedAdaptation, PairwiseAdaptation, PerDomainAdaptation
from crossrec.adaptation.by_space import by_space
from crossrec.adaptation.schedules import LinearRamp
from crossrec.errors import CrossrecError


class MeanGap(PairwiseAdaptation):
    def distance(self, a, b):
        self.seen = (a, b)
        return (a.mean(0) - b.mean(0)).square().sum()


class Match(PairedAdaptation):
    def paired(self, a, b):
        return (a - b).square().mean()


class Norm(PerDomainAdaptation):
    def single(self, view):
        return view.vectors.square().mean()


class Mapped(MeanGap):
    def __init__(self, **options):
        super().__init__(**options)
        self.map = torch.nn.Linear(1, 1)

    def distance(self, a, b):
        return super().distance(self.map(a), b)


def view(values, domains, ids=None, **more):
    vectors = torch.as_tensor(values, dtype=torch.float32).reshape(len(domains), -1)
    ids = torch.arange(len(domains)) if ids is None else torch.tensor(ids)
    return DomainViews(vectors, torch.tensor(domains), ids, **more)


THREE = view([0.0, 2.0, 3.0, 5.0, 9.0, 11.0], [0, 0, 1, 1, 2, 2])  # means 1, 4, 10


def test_all_pairs_by_hand_with_weight_and_keys():
    total, entries = MeanGap(weight=0.5)({"users": THREE})
    assert {k: v.item() for k, v in entries.items()} == {
        "adaptation/meangap/0-1": 9.0,
        "adaptation/meangap/0-2": 81.0,
        "adaptation/meangap/1-2": 36.0,
    }
    assert total.item() == pytest.approx(0.5 * (9 + 81 + 36) / 3)


def test_target_and_chain():
    _, entries = MeanGap(pairs="target", name="gap")({"users": THREE}, target=1)
    assert {k: v.item() for k, v in entries.items()} == {"adaptation/gap/0-1": 9.0, "adaptation/gap/2-1": 36.0}
    total, entries = MeanGap(pairs="chain")({"users": THREE})
    assert list(entries) == ["adaptation/meangap/0-1", "adaptation/meangap/1-2"] and total.item() == 22.5


def test_users_items_and_both():
    views = {"users": THREE, "items": view([0.0, 0.0, 2.0, 2.0], [0, 0, 1, 1])}
    assert MeanGap(space="items")(views)[0].item() == 4.0
    both = MeanGap(space="both")
    with pytest.raises(CrossrecError, match="make them with by_space"):
        both(views)
    users, items = by_space({"gap": both}).values()
    assert users(views)[0].item() == 42.0 and items(views)[0].item() == 4.0
    assert list(users(views)[1]) == [f"adaptation/gap/users/{pair}" for pair in ("0-1", "0-2", "1-2")]
    assert list(items(views)[1]) == ["adaptation/gap/items/0-1"]


def test_the_two_terms_of_both_share_nothing():
    terms = by_space({"map": Mapped(space="both"), "gap": MeanGap()})
    assert [(key, t.name) for key, t in terms.items()] == [("map/users", "map"), ("map/items", "map"), ("gap", "gap")]
    before = [p.clone() for p in terms["map/items"].parameters()]
    for p in terms["map/users"].parameters():
        p.data.add_(1.0)
    assert before and all(torch.equal(a, b) for a, b in zip(before, terms["map/items"].parameters()))


def test_schedule_multiplies_the_weight():
    loss = MeanGap(weight=2.0, schedule=LinearRamp())
    assert loss({"users": THREE}, progress=0.25)[0].item() == pytest.approx(42 * 0.5)


def test_at_weight_zero_it_is_logged_and_nothing_is_differentiated():
    vectors = THREE.vectors.clone().requires_grad_()
    loss = Mapped(schedule="linear")
    total, entries = loss({"users": DomainViews(vectors, THREE.domains, THREE.ids)}, progress=0.0)
    total.backward()
    assert total.item() == 0 and entries["adaptation/mapped/0-1"].item() != 0
    assert (vectors.grad == 0).all() and all((p.grad == 0).all() for p in loss.parameters())


@pytest.mark.parametrize("domains", [[], [0], [0, 0, 0], [0, 0, 1], [0, 1]])
@pytest.mark.parametrize("loss", [MeanGap(), Match(), Mapped()])
def test_too_few_rows_give_a_connected_zero(loss, domains):
    vectors = torch.ones(len(domains), 1, requires_grad=True)
    given = DomainViews(vectors, torch.tensor(domains, dtype=torch.long), torch.arange(len(domains)))
    total, entries = loss({"users": given})
    total.backward()
    assert total.item() == 0 and vectors.grad is not None and torch.isfinite(vectors.grad).all()
    assert all(v.item() == 0 for v in entries.values())
    assert all(p.grad is not None for p in loss.parameters())


def test_parts_without_rows_are_left_out_of_the_mean():
    total, entries = MeanGap()({"users": view([0.0, 2.0, 3.0, 5.0, 100.0], [0, 0, 1, 1, 2])})
    assert total.item() == 9.0 and list(entries) == ["adaptation/meangap/0-1"]  # 2 has one row


def test_unequal_sides_and_repeats():
    loss = MeanGap()
    loss({"users": view([1.0, 1.0, 1.0, 5.0, 4.0, 4.0, 7.0], [0, 0, 0, 0, 1, 1, 1], ids=[3, 3, 3, 8, 1, 2, 3])})
    assert loss.seen[0].tolist() == [[1.0], [5.0]] and loss.seen[1].tolist() == [[4.0], [4.0], [7.0]]


def test_rows_of_the_overlap_only():
    loss = MeanGap(rows="overlap")
    loss({"users": view([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0, 0, 0, 1, 1, 1], ids=[1, 2, 3, 2, 3, 4])})
    assert loss.seen[0].squeeze(1).tolist() == [2.0, 3.0] and loss.seen[1].squeeze(1).tolist() == [4.0, 5.0]


def test_paired_rows_are_matched():
    total, entries = Match()({"users": view([1.0, 2.0, 9.0, 2.0, 4.0], [0, 0, 0, 1, 1], ids=[5, 6, 7, 6, 5])})
    assert total.item() == pytest.approx((3**2 + 0) / 2) and list(entries) == ["adaptation/match/0-1"]


def test_per_domain():
    total, entries = Norm()({"users": view([1.0, 1.0, 3.0], [0, 0, 2])})
    assert {k: v.item() for k, v in entries.items()} == {"adaptation/norm/0": 1.0, "adaptation/norm/2": 9.0}
    assert total.item() == 5.0


def test_fp32_and_no_autocast_inside():
    class Product(MeanGap):
        def distance(self, a, b):
            self.kind = (a @ b.T).dtype
            return (a @ b.T).mean()

    loss = Product()
    half = view([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1])
    half = DomainViews(half.vectors.bfloat16(), half.domains, half.ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss({"users": half})
    assert loss.kind == torch.float32 and total.dtype == torch.float32


def test_mistakes_are_told():
    with pytest.raises(CrossrecError, match="users, items or both"):
        MeanGap(space="user")
    with pytest.raises(CrossrecError, match="all, target or chain"):
        Match(pairs="ring")
    with pytest.raises(CrossrecError, match="all, overlap or non_overlap"):
        MeanGap(rows="shared")
    with pytest.raises(CrossrecError, match=r"space=items, but the strategy only shows users"):
        MeanGap(space="items")({"users": THREE})

    class Vector(MeanGap):
        def distance(self, a, b):
            return a.mean(0)

    with pytest.raises(CrossrecError, match=r"shape \(1,\)"):
        Vector()({"users": THREE})


def test_weight_zero_is_zero_where_a_sum_of_all_would_overflow():
    vectors = torch.full((300, 64), 1200.0, dtype=torch.float16, requires_grad=True)
    total, _ = MeanGap(weight=0.0)({"users": DomainViews(vectors, torch.arange(300) % 2, torch.arange(300))})
    total.backward()
    assert total == 0 and not vectors.grad.any()


def test_rows_of_one_domain_are_those_known_in_two_or_in_one_alone():
    whole = view([1.0, 2.0, 3.0, 4.0, 5.0], [0, 0, 1, 1, 1], ids=[0, 1, 1, 2, 3])
    for chosen, expected in (("all", {"0": 2.5, "1": 50 / 3}), ("overlap", {"0": 4.0, "1": 9.0})):
        _, entries = Norm(rows=chosen)({"users": whole})
        assert {k.rpartition("/")[2]: v.item() for k, v in entries.items()} == pytest.approx(expected)
    _, entries = Norm(rows="non_overlap")({"users": whole})
    assert {k.rpartition("/")[2]: v.item() for k, v in entries.items()} == {"0": 1.0, "1": 20.5}
    with pytest.raises(CrossrecError, match="all, overlap or non_overlap"):
        Norm(rows="both")

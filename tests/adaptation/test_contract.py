"""What every registered loss must hold: a yaml in ``conf/adaptation/`` is enough to be tested here.

The tables say what only some losses hold (symmetry, zero at identity, scaling), and where a loss departs by design. A
loss that is in no table runs through all the rest; one that holds something without gradient says so in a table.
"""

import copy
import io
import re
from dataclasses import replace

import pytest
import torch
from registered import CASES, call, gradients, joined, leaves, loss, mapped, random_states, rows, value

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.adaptation.base import Adaptation

# Options under which the gradient is that of the value: by default these hold a scale that depends on the rows.
HOLD_NOTHING = {
    **{name: {"bandwidth": 1.3} for name in ("mmd", "joint_mmd", "hsic")},
    "sinkhorn": {"relative": False, "epsilon": 1.0, "gradient": "unrolled", "tolerance": 0.0, "iterations": 20},
    "cdan": {"entropy": False},
}
HELD_LAYERS = {"simse": ("input",), "cdan": ("partner",)}
NO_GRADIENT_OF_THE_VALUE = {
    "club": "its conditional gets the gradient of a likelihood without a value: see test_shared_private_losses",
    "mcc": "its weights of certainty are held, as in the authors' code: see test_closed_forms",
}
SYMMETRIC = (
    "barlow_twins", "cluster_entropy", "cmd", "contrastive", "coral", "difference", "frechet", "function",
    "gromov_wasserstein", "hsic", "joint_mmd", "mmd", "simse", "sinkhorn", "sliced_wasserstein", "vib",
)  # fmt: skip
ZERO_BETWEEN_EQUALS = [
    ("cmd", {}), ("coral", {}), ("frechet", {}), ("function", {}), ("gromov_wasserstein", {}), ("joint_mmd", {}),
    ("mapping", {"map": "identity"}), ("mmd", {}), ("sinkhorn", {}), ("sliced_wasserstein", {}),
    ("wasserstein_critic", {}),
]  # fmt: skip
# (loss, options) -> p: with all rows times c the value is c^p times as much
POWERS = [
    ("barlow_twins", {}, 0), ("club", {}, 0), ("cluster_entropy", {}, 0), ("contrastive", {}, 0), ("coral", {}, 4),
    ("difference", {}, 0), ("difference", {"kind": "centred"}, 4), ("frechet", {}, 2), ("function", {}, 2),
    ("gromov_wasserstein", {}, 2), ("gromov_wasserstein", {"within": "squared_euclidean"}, 4), ("hsic", {}, 0),
    ("hsic", {"kernel": "linear"}, 4), ("joint_mmd", {}, 0), ("mapping", {"map": "identity"}, 2), ("mapping", {}, 2),
    ("mapping", {"distance": "cosine"}, 0), ("mmd", {}, 0), ("mmd", {"kernel": "linear"}, 2), ("simse", {}, 2),
    ("sinkhorn", {}, 2), ("sinkhorn", {"p": 1}, 1), ("sliced_wasserstein", {}, 2), ("sliced_wasserstein", {"p": 1}, 1),
]  # fmt: skip
every_loss = pytest.mark.parametrize(("name", "more"), CASES, ids=lambda x: x if isinstance(x, str) else str(x or ""))


@every_loss
def test_value_is_a_finite_number_and_log_keys_are_the_terms(name, more):
    term = loss(name, **more)
    for mode in (True, False):
        total, entries = call(term.train(mode), rows(7, 5))
        assert total.shape == () and torch.isfinite(total) and total != 0
        assert entries and all(key.startswith(f"adaptation/{term.name}/") for key in entries)
        assert all(v.shape == () and torch.isfinite(v) and not v.requires_grad for v in entries.values())
    assert term.name == name


@every_loss
def test_gradcheck(name, more):
    if name in NO_GRADIENT_OF_THE_VALUE:
        pytest.skip(NO_GRADIENT_OF_THE_VALUE[name])
    term = loss(name, **{**more, **HOLD_NOTHING.get(name, {})}).eval()  # no new lines, no steps of a critic
    view = leaves(rows(4, 3, seed=1))
    layers = [layer for layer in term.needs if layer not in HELD_LAYERS.get(name, ())]
    learnt = [p for p in term.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in learnt:  # a layer that starts at zero hides those before it
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2), dtype=p.dtype))

    def of(vectors, *rest):
        return call(term, replace(view, vectors=vectors, layers={**view.layers, **dict(zip(layers, rest))}))[0]

    if not (isinstance(term, AdversarialAdaptation) and term.mode == "reversal"):
        assert torch.autograd.gradcheck(of, (view.vectors, *(view.layers[n] for n in layers), *learnt), fast_mode=True)
        return
    held = (view.vectors.detach(), *(view.layers[n].detach() for n in layers))
    assert torch.autograd.gradcheck(lambda *_: of(*held), tuple(learnt), fast_mode=True)
    (got,) = torch.autograd.grad(of(view.vectors, *held[1:]), view.vectors)
    strength = term.reversal * term.reversal_schedule(0.5)
    along = torch.randn(got.shape, generator=torch.Generator().manual_seed(3), dtype=got.dtype)
    up, down = (of(held[0] + step * along, *held[1:]).detach() for step in (1e-6, -1e-6))
    assert strength > 0 and torch.allclose((got * along).sum(), -strength * (up - down) / 2e-6, rtol=1e-5, atol=1e-8)


@every_loss
def test_order_repeats_and_masked_rows_do_not_count(name, more):
    view, others = rows(7, 5), rows(7, 5, seed=1)
    expected = value(loss(name, **more), view)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(value(loss(name, **more), view.take(order)), expected, rtol=0, atol=1e-10)
    earlier = others.take(torch.tensor([0, 3, 8, 8]))  # the same ids in the same domains
    assert torch.allclose(value(loss(name, **more), joined(earlier, view)), expected, rtol=0, atol=1e-12)
    masked = joined(view, others, mask=torch.arange(24) < 12)
    assert torch.allclose(value(loss(name, **more), masked), expected, rtol=0, atol=1e-12)


@every_loss
@pytest.mark.parametrize("kind", ["random", "equal", "zero"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_batches_are_finite_and_connected(name, more, kind, dtype):
    for sizes in ((0, 0), (0, 3), (1, 0), (1, 1), (2, 1), (1, 4), (2, 2), (2, 5), (9, 4)):
        change = {"random": lambda x: x, "equal": lambda x: x[:1].expand(len(x), -1), "zero": torch.zeros_like}[kind]
        view = leaves(mapped(rows(*sizes, dtype=dtype), change))
        term = loss(name, dtype=dtype, **more)
        total, entries = call(term.train(), view)
        assert torch.isfinite(total) and all(torch.isfinite(v) for v in entries.values())
        total.backward()
        grads = [x.grad for x in (*view.layers.values(), *term.parameters()) if x.grad is not None]
        assert all(torch.isfinite(g).all() for g in (view.vectors.grad, *grads)) and (sum(sizes) or total == 0)


@every_loss
def test_weight_is_a_factor_and_zero_is_none(name, more):
    view = leaves(rows(7, 5))
    assert torch.allclose(value(loss(name, weight=2.5, **more), view), 2.5 * value(loss(name, **more), view))
    before = random_states()
    off = loss(name, weight=0.0, **more)
    got = gradients(off, view)
    assert got[0] is not None and all(g is None or not g.any() for g in got)
    total, entries = call(off, view)
    assert total == 0 and random_states() == before and any(v != 0 for v in entries.values())


@every_loss
def test_the_global_random_state_is_untouched(name, more):
    view = leaves(rows(7, 5))
    before = random_states()
    term = loss(name, **more)
    gradients(term, view)
    value(term, view)
    assert random_states() == before
    first = call(loss(name, **more).train(), view)[0]
    torch.rand(1)  # nor does it decide anything
    assert torch.equal(call(loss(name, **more).train(), view)[0], first)


def train(term: Adaptation, steps: int) -> None:
    optimizer = torch.optim.Adam([p for p in term.parameters() if p.requires_grad] or [torch.zeros(1)], lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        call(term.train(), leaves(rows(7, 5, seed=10 + step)))[0].backward()
        optimizer.step()


@every_loss
def test_every_parameter_learns(name, more):
    term = loss(name, **more)
    first = copy.deepcopy(dict(term.named_parameters()))
    train(term, 3)
    still = [key for key, p in term.named_parameters() if torch.equal(p, first[key])]
    assert not still, f"never moved: {still}"


@every_loss
def test_a_saved_loss_goes_on_as_it_would_have(name, more):
    term, file = loss(name, **more), io.BytesIO()
    train(term, 3)
    torch.save(term.state_dict(), file)
    file.seek(0)
    again = loss(name, **more)
    again.load_state_dict(torch.load(file, weights_only=True))
    for seed in (1, 2):
        (total, entries), (same, others) = (call(t.train(), rows(7, 5, seed=seed)) for t in (term, again))
        assert torch.equal(total, same) and entries.keys() == others.keys()
        assert all(torch.equal(entries[key], others[key]) for key in entries)


@every_loss
def test_half_precision_far_from_the_origin(name, more):
    view = rows(9, 6)
    small = view.layers["log_variance"]  # exp(100) is no variance
    half = leaves(mapped(view, lambda x: (x + 100 * (x is not small)).bfloat16()))
    exact = value(loss(name, **more), mapped(half, lambda x: x.double()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = call(loss(name, dtype=torch.float32, **more).eval(), half)
    total.backward()
    assert total.dtype == torch.float32 and torch.isfinite(half.vectors.grad).all()
    assert torch.allclose(total.double(), exact, rtol=1e-4, atol=1e-6)


@every_loss
def test_three_domains_and_the_choice_of_pairs(name, more):
    term, view = loss(name, n_domains=3, **more), rows(7, 6, 5)
    assert torch.isfinite(call(term.train(), view)[0])
    if not hasattr(term, "pairs"):
        return
    for pairs, expected in (("all", "0-1 0-2 1-2"), ("target", "0-1 2-1"), ("chain", "0-1 1-2")):
        _, entries = call(loss(name, n_domains=3, pairs=pairs, **more), view)
        assert {k.rpartition("/")[2] for k in entries if re.fullmatch(r".*/\d+-\d+", k)} == set(expected.split())


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetry(name):
    view = rows(7, 5)
    swapped = replace(view, domains=1 - view.domains, membership=view.membership.flip(1))
    assert torch.allclose(value(loss(name), view), value(loss(name), swapped), rtol=1e-9)


@pytest.mark.parametrize(("name", "more"), ZERO_BETWEEN_EQUALS)
def test_zero_between_equal_domains(name, more):
    one = replace(rows(7), membership=torch.ones(7, 2, dtype=torch.bool))
    other = replace(one, domains=one.domains + 1)
    assert abs(value(loss(name, **more), joined(one, other))) < 1e-7 < abs(value(loss(name, **more), rows(7, 5)))


@pytest.mark.parametrize(("name", "more", "power"), POWERS)
def test_scaling(name, more, power):
    once, thrice = (value(loss(name, **more), mapped(rows(7, 5), lambda x, c=c: c * x)) for c in (1.0, 3.0))
    assert torch.allclose(thrice, 3.0**power * once, rtol=1e-6)

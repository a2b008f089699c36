"""What every registered loss must hold: a yaml in ``conf/adaptation/`` is enough to be tested here.

The tables say what only some losses hold (symmetry, zero at identity, scaling), and where a loss departs by design. A
loss that is in no table runs through all the rest; one that holds something without gradient says so in a table.
"""

import copy
import functools
import io
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.adaptation.base import Adaptation, DomainViews
from crossrec.config import build, compose, options, plain

F = 6
NAMES = sorted(options("adaptation"))
LAYERS = ("partner", "shared", "private", "input", "reconstruction", "mean", "log_variance")

# Options under which the gradient is that of the value: by default these hold a scale that depends on the rows.
HOLD_NOTHING = {
    **{name: {"bandwidth": 1.3} for name in ("mmd", "joint_mmd", "hsic")},
    "sinkhorn": {"relative": False, "epsilon": 1.0, "gradient": "unrolled", "tolerance": 0.0, "iterations": 20},
    "cdan": {"entropy": False},
}
HELD_LAYERS = {"simse": ("input",), "cdan": ("partner",)}
NO_GRADIENT_OF_THE_VALUE = {
    "club": "the vectors get the gradient of the bound, its conditional that of a likelihood without a value",
    "mcc": "the weights of certainty are held, as in the authors' code; see test_joint_losses",
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
VARIANTS = [
    ("cdan", {"map": "randomised", "width": 20}), ("cdan", {"mode": "alternating", "goal": "reverse"}),
    ("contrastive", {"direction": "one_way", "similarity": "dot"}), ("dann", {"mode": "alternating"}),
    ("joint_mmd", {"estimator": "unbiased"}), ("mapping", {"map": "mlp", "distance": "cosine"}),
    ("mcc", {"domains": "all"}), ("mmd", {"bandwidth": "ema"}), ("mmd", {"kernel": "linear", "estimator": "unbiased"}),
    ("sinkhorn", {"p": 1, "debiased": False}), ("sliced_wasserstein", {"root": True, "resample": False}),
]  # fmt: skip
CASES = [*((name, {}) for name in NAMES), *VARIANTS]
every_loss = pytest.mark.parametrize(("name", "more"), CASES, ids=lambda x: x if isinstance(x, str) else str(x or ""))


def mean_gap(a, b):
    """The function of conf/adaptation/function.yaml."""
    return (a.mean(0) - b.mean(0)).square().sum()


@functools.cache
def config(name: str) -> dict:
    given = [f"adaptation.function.function={__name__}.mean_gap"] if name == "function" else []
    return plain(compose([f"+dim={F}", "+seed=3", *given], f"adaptation/{name}").adaptation)[name]


def loss(name: str, n_domains: int = 2, dtype: torch.dtype = torch.float64, **more) -> Adaptation:
    """A new loss as its yaml builds it, ready for ``n_domains``."""
    if name == "gromov_wasserstein":
        pytest.importorskip("ot", reason="pip install 'crossrec[transport]'")
    term = build({**config(name), "weight": 1.0, **more})
    term.prepare(n_domains)
    return term.to(dtype)


def rows(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> DomainViews:
    """Rows of each domain with all layers; domain d knows the ids 2d, 2d + 1, ... so neighbours share some."""
    g = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    domains = torch.tensor([d for d, size in enumerate(sizes) for _ in range(size)], dtype=torch.long)
    ids = torch.tensor([2 * d + i for d, size in enumerate(sizes) for i in range(size)], dtype=torch.long)
    membership = torch.stack([torch.isin(ids, ids[domains == d]) for d in range(len(sizes))], 1)
    vectors, *layers = (
        (torch.randn(n, F, generator=g, dtype=torch.float64) + 0.3 * domains.unsqueeze(1)).to(dtype)
        for _ in range(1 + len(LAYERS))
    )
    return DomainViews(vectors, domains, ids, membership=membership, layers=dict(zip(LAYERS, layers)))


def mapped(view: DomainViews, function) -> DomainViews:
    """``view`` with the function of every vector and layer."""
    return replace(
        view, vectors=function(view.vectors), layers={name: function(layer) for name, layer in view.layers.items()}
    )


def joined(a: DomainViews, b: DomainViews, mask: torch.Tensor | None = None) -> DomainViews:
    layers = {name: torch.cat([a.layers[name], b.layers[name]]) for name in LAYERS}
    whole = {
        name: torch.cat([getattr(a, name), getattr(b, name)]) for name in ("vectors", "domains", "ids", "membership")
    }
    return DomainViews(**whole, layers=layers, mask=mask)


def call(term: Adaptation, view: DomainViews) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return term({"users": view, "items": view}, target=1, progress=0.5)


def value(term: Adaptation, view: DomainViews) -> torch.Tensor:
    return call(term.eval(), view)[0].detach()


def leaves(view: DomainViews) -> DomainViews:
    return mapped(view, lambda x: x.clone().requires_grad_())


def gradients(term: Adaptation, view: DomainViews) -> list[torch.Tensor | None]:
    """Of the vectors, the layers and the parameters, after a step in training."""
    tensors = [view.vectors, *view.layers.values(), *(p for p in term.parameters() if p.requires_grad)]
    return list(torch.autograd.grad(call(term.train(), view)[0], tensors, allow_unused=True))


def random_states() -> list:
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return [torch.random.get_rng_state().tolist(), legacy, random.getstate()]


@every_loss
def test_value_is_a_finite_number_and_log_keys_are_the_terms(name, more):
    term = loss(name, **more)
    for mode in (True, False):
        total, entries = call(term.train(mode), rows(7, 5))
        assert total.shape == () and torch.isfinite(total) and total != 0
        assert entries and all(key.startswith(f"adaptation/{term.name}/") for key in entries)
        assert all(v.shape == () and torch.isfinite(v) and not v.requires_grad for v in entries.values())
    assert term.name == (name if name != "function" else "mean_gap")


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

"""Every registered loss, as its yaml builds it, and batches that all of them can read."""

import functools
import inspect
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra.utils import get_class

from crossrec.adaptation.base import Adaptation, DomainViews
from crossrec.config import build, compose, options, plain

F = 6
NAMES = sorted(options("adaptation"))
LAYERS = ("partner", "shared", "private", "input", "reconstruction", "mean", "log_variance")

VARIANTS = [
    ("cdan", {"map": "randomised", "width": 20}), ("cdan", {"mode": "alternating", "goal": "reverse"}),
    ("contrastive", {"direction": "one_way", "similarity": "dot"}), ("dann", {"mode": "alternating"}),
    ("joint_mmd", {"estimator": "unbiased"}), ("mapping", {"map": "mlp", "distance": "cosine"}),
    ("mcc", {"domains": "all"}), ("mmd", {"bandwidth": "ema"}), ("mmd", {"kernel": "linear", "estimator": "unbiased"}),
    ("sinkhorn", {"p": 1, "debiased": False}), ("sliced_wasserstein", {"root": True, "resample": False}),
]  # fmt: skip
CASES = [*((name, {}) for name in NAMES), *VARIANTS]


def mean_gap(a, b, power=2):
    """The function of conf/adaptation/function.yaml."""
    return (a.mean(0) - b.mean(0)).abs().pow(power).sum()


@functools.cache
def config(name: str) -> dict:
    given = [f"adaptation.function.function={__name__}.mean_gap"] if name == "function" else []
    return plain(compose([f"+dim={F}", "+seed=3", *given], f"adaptation/{name}").adaptation)[name]


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """What the constructor takes: its own keywords, and those that the type of its ``**options`` names."""
    kind = get_class(config(name)["_target_"])
    own = inspect.signature(kind).parameters
    if "options" not in own:
        return dict(own)
    typed = own["options"].annotation.removeprefix("Unpack[").removesuffix("]")
    keys = getattr(sys.modules[kind.__init__.__module__], typed).__annotations__
    rest = {key: inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in keys}
    for base in reversed(kind.__mro__):
        found = inspect.signature(base.__init__).parameters if "__init__" in vars(base) else {}
        rest |= {key: p for key, p in found.items() if key in rest}
    return {**rest, **{key: p for key, p in own.items() if key != "options"}}


def loss(name: str, /, n_domains: int = 2, dtype: torch.dtype = torch.float64, **more) -> Adaptation:
    """A new loss as its yaml builds it, ready for ``n_domains``."""
    if name == "gromov_wasserstein":
        pytest.importorskip("ot", reason="pip install 'crossrec[transport]'")
    term = build({"name": name, **config(name), "weight": 1.0, **more})
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

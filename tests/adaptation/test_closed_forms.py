"""The value and the gradient of every registered loss, in float64, are those of its formula in numpy: see forms.py."""

from dataclasses import replace
from typing import Any

import forms
import numpy as np
import pytest
import torch
from registered import NAMES, call, loss

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.adaptation.base import Adaptation

CONVERGED = {"iterations": 2000, "tolerance": 1e-12}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "barlow_twins": [{}, {"redundancy": 0.3}],
    "cdan": [{}, {"entropy": False, "hidden": []}, {"map": "randomised", "width": 20, "mode": "alternating"}],
    "cluster_entropy": [{"clusters": 4, "temperature": 0.3, "diversity": d} for d in (0.0, 1.0, 2.5)],
    "cmd": [
        *({"moments": k} for k in (1, 2, 3, 5)),
        {"squash": "sigmoid"},
        {"squash": "none", "interval": [-3, 5]},
    ],
    "contrastive": [{}, {"temperature": 0.5, "direction": "one_way"}, {"similarity": "dot", "temperature": 2.0}],
    "coral": [{}, {"mean": True}],
    "dann": [
        {},
        {"activation": "leaky_relu", "hidden": [5, 4], "reversal": 0.3},
        {"mode": "alternating"},
        {"mode": "alternating", "goal": "reverse"},
    ],
    "difference": [{}, {"kind": "centred"}, {"kind": "raw"}],
    "frechet": [{}, {"mean": False}],
    "gromov_wasserstein": [{"max_rows": 5}, {"max_rows": 3, "within": "squared_euclidean"}],
    "hsic": [{}, {"bandwidth": 1.3}, {"kernel": "linear"}],
    "joint_mmd": [{}, {"estimator": "unbiased", "reduce": "sum"}, {"bandwidth": 1.3, "bandwidths": [0.7, 3.0]}],
    "mapping": [
        {},
        {"map": "mlp", "distance": "cosine"},
        {"map": "identity", "gradient": "first"},
        {"gradient": "none"},
    ],
    "mcc": [{}, {"domains": "all", "temperature": 2.5}],
    "mmd": [
        *({"kernel": k, "estimator": e} for k in ("linear", "gaussian") for e in ("biased", "unbiased", "linear")),
        {"bandwidth": 1.3, "bandwidths": [3.0, 0.7], "reduce": "sum"},
        {"bandwidth": "ema"},
    ],
    "prediction_entropy": [{}, {"domains": "all", "temperature": 2.5}],
    "simse": [{}, {"error": "mse"}],
    "sinkhorn": [
        {"epsilon": 0.5, **CONVERGED},
        {"p": 1, "epsilon": 0.5, **CONVERGED},
        {"debiased": False, "relative": False, "epsilon": 4.0, **CONVERGED},
    ],
    "sliced_wasserstein": [{"n_projections": 20, **more} for more in ({}, {"p": 1}, {"root": True})],
}
CASES = [(name, more) for name in NAMES for more in OPTIONS.get(name, [{}])]


def made(name: str, more: dict[str, Any]) -> Adaptation:
    """The loss in evaluation, its learnt values moved: some start at zero."""
    term = loss(name, **more).eval()
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in term.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return term


def derivative(formula: Any, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Of ``formula`` by one of its arrays: central differences."""
    result, step = np.zeros_like(arrays[name]), 1e-5
    for at in np.ndindex(result.shape):
        up, down = arrays[name].copy(), arrays[name].copy()
        up[at] += step
        down[at] -= step
        result[at] = (formula({**arrays, name: up}) - formula({**arrays, name: down})) / (2 * step)
    return result


@pytest.mark.parametrize(("name", "more"), CASES, ids=lambda x: x if isinstance(x, str) else str(x or ""))
def test_value_and_gradient_are_those_of_the_formula(name: str, more: dict[str, Any]) -> None:
    assert name in forms.FORMULAS, f"write the formula of {name} into forms.py"
    term = made(name, more)
    reads = ("vectors", *term.needs)
    tensors = {"vectors": forms.BATCH.vectors, **{n: forms.BATCH.layers[n] for n in term.needs}}
    arrays = {n: x.numpy() for n, x in tensors.items()}
    leaves = {n: x.clone().requires_grad_() for n, x in tensors.items()}
    total, entries = call(
        term, replace(forms.BATCH, vectors=leaves["vectors"], layers={n: leaves[n] for n in term.needs})
    )
    got = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)

    parts = forms.FORMULAS[name](arrays, arrays, term)
    expected = parts.pop("total") if "total" in parts else np.mean(list(parts.values()))
    assert total.item() == pytest.approx(expected, rel=1e-8, abs=1e-12)
    logged = {key.removeprefix(f"adaptation/{term.name}/"): v.item() for key, v in entries.items()}
    assert {key: logged[key] for key in parts} == pytest.approx(parts, rel=1e-8, abs=1e-12)

    def formula(at: dict[str, np.ndarray]) -> float:
        parts = forms.FORMULAS[name](at, arrays, term)
        return parts["total"] if "total" in parts else np.mean(list(parts.values()))

    turned = isinstance(term, AdversarialAdaptation) and term.mode == "reversal"
    factor = -term.reversal * term.reversal_schedule(0.5) if turned else 1.0
    for n, gradient in zip(reads, got):
        expected = factor * derivative(formula, arrays, n)
        gradient = np.zeros_like(expected) if gradient is None else gradient.numpy()
        assert np.linalg.norm(gradient) == pytest.approx(np.linalg.norm(expected), rel=1e-5, abs=1e-9)
        assert np.allclose(gradient, expected, rtol=1e-4, atol=1e-5 * max(np.abs(expected).max(), 1e-4))

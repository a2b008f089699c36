"""Every argument of every registered loss has an effect, and its yaml names it with its default.

The arguments are those that the constructors and the types of their ``**options`` name: a new one without a case here
fails. A case is two values and what differs first between two losses that have them, in the order of ``DIFFERENCES``;
what comes before is then the same.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from registered import NAMES, F, config, leaves, loss, parameters, rows

from crossrec.adaptation.by_space import by_space
from crossrec.errors import CrossrecError

DIFFERENCES = ("refusal", "log", "value", "gradient", "later")
"""One is refused; they log under other names; at the first step; at the first step; at the third step of training."""
YAML = "as in the yaml"
OF_THE_RUN = {"name", "dim", "seed", "function", "weight"}
"""Arguments whose value in the yaml is not the constructor's default."""


@dataclass(frozen=True)
class Case:
    differs: str
    second: Any
    first: Any = YAML
    given: dict[str, Any] = field(default_factory=dict)


def to(second: Any, differs: str = "value", *, first: Any = YAML, **given: Any) -> Case:
    """From the value of the yaml, or ``first``, to ``second``, both with what is ``given``."""
    return Case(differs, second, first, given)


COMMON = {
    "name": [to("other", "log")],
    "weight": [to(2.0)],  # here losses have a weight of 1
    "schedule": [to("linear"), to({"_target_": "crossrec.adaptation.schedules.LinearRamp", "until": 0.8})],
    "space": [to("items"), to("both", "log")],
    "pairs": [to("target", "log"), to("chain", "log")],
    "rows": [to("overlap"), to("non_overlap")],
    "dim": [to(F + 1, "refusal")],
    "seed": [to(4)],
}
DANN = {
    "mode": [to("alternating", "log")],
    "reversal": [to(0.5, "gradient"), to(0.5, "refusal", mode="alternating")],
    "reversal_schedule": [to("linear", "gradient"), to("linear", "refusal", mode="alternating")],
    "critic_steps": [to(3, mode="alternating"), to(3, "refusal")],
    "critic_lr": [to(0.1, mode="alternating"), to(0.1, "refusal")],
    "hidden": [to([4]), to([])],
    "activation": [to("leaky_relu")],
    "goal": [to("reverse", mode="alternating"), to("reverse", "refusal")],
}
ESTIMATED = {
    "bandwidths": [to([1.0])],
    "bandwidth": [to(1.3)],
    "estimator": [to("unbiased")],
    "reduce": [to("sum")],
}
OF_EACH_DOMAIN = [to("overlap"), to("non_overlap", "log")]  # all ids of the second domain are in another
PREDICTED = {
    "temperature": [to(2.0)],
    "domains": [to("all", "log")],
    "rows": [to("overlap", domains="all"), to("non_overlap", "log")],
}
OWN: dict[str, dict[str, list[Case]]] = {
    "barlow_twins": {"redundancy": [to(0.5)], "eps": [to(2.0)]},
    "cdan": {
        **DANN,
        "map": [to("randomised")],
        "width": [to(20, map="randomised"), to(20, "refusal")],
        "entropy": [to(False)],
    },
    "club": {  # its conditional starts as one that is told nothing, and the bound is 0
        "weight": [to(2.0, "later")],
        "schedule": [to("linear", "later")],
        "space": [to("items", "later"), to("both", "log")],
        "rows": [to("overlap", "later"), to("non_overlap", "log")],
        "hidden": [to(5, "later")],
        "seed": [to(4, "later")],
    },
    "cluster_entropy": {"rows": OF_EACH_DOMAIN, "clusters": [to(5)], "temperature": [to(1.0)], "diversity": [to(0.5)]},
    "cmd": {
        "moments": [to(2)],
        "squash": [to("sigmoid"), to("none", "refusal")],
        "interval": [to([-1, 1], first=[-3, 5], squash="none"), to([-1, 1], "refusal")],
    },
    "contrastive": {"temperature": [to(1.0)], "direction": [to("one_way")], "similarity": [to("dot")]},
    "coral": {"mean": [to(True)]},
    "dann": DANN,
    "difference": {"rows": OF_EACH_DOMAIN, "kind": [to("centred"), to("raw")]},
    "frechet": {"mean": [to(False)]},
    "function": {"function": [to("torch.dist")], "arguments": [to({"power": 3})]},
    "gromov_wasserstein": {
        "within": [to("squared_euclidean")],
        "max_rows": [to(5)],
        "iterations": [to(1, within="squared_euclidean")],
        "tolerance": [to(0.9, within="squared_euclidean")],
    },
    "hsic": {"kernel": [to("linear")], "bandwidth": [to(0.5)]},
    "joint_mmd": ESTIMATED,
    "mapping": {
        "map": [to("mlp"), to("identity")],
        "hidden": [to(5, map="mlp"), to(5, "refusal")],
        "distance": [to("cosine")],
        "gradient": [to("first", "gradient"), to("none", "gradient")],
    },
    "mcc": PREDICTED,
    "mmd": {
        **ESTIMATED,
        "kernel": [to("linear")],
        "bandwidth": [to(1.3), to("ema")],
        "momentum": [to(0.5, bandwidth="ema")],
        "estimator": [to("unbiased"), to("linear")],
    },
    "prediction_entropy": PREDICTED,
    "simse": {"rows": OF_EACH_DOMAIN, "error": [to("mse")]},
    "sinkhorn": {
        "p": [to(1)],
        "epsilon": [to(0.2)],
        "relative": [to(False)],
        "debiased": [to(False)],
        "scaling": [to(0.9, iterations=6)],
        "iterations": [to(9)],
        "tolerance": [to(0.1)],
        "gradient": [to("unrolled", "gradient")],
    },
    "sliced_wasserstein": {
        "p": [to(1)],
        "root": [to(True)],
        "n_projections": [to(127)],
        "resample": [to(False)],
    },
    "vib": {"rows": OF_EACH_DOMAIN},
    "wasserstein_critic": {
        "hidden": DANN["hidden"],
        "rows": [to("overlap", "refusal"), to("non_overlap", "refusal")],  # of three domains; test_critics has two
        "activation": [to("relu")],
        "critic_steps": [to(3)],
        "critic_lr": [to(0.1)],
        "penalty": [to(1.0)],
    },
}
ARGUMENTS = [(name, argument) for name in NAMES for argument in parameters(name)]


@functools.cache
def as_it_is(name: str) -> dict[str, Any]:
    return observed(name, {})


def observed(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a loss of three domains does, by the names of ``DIFFERENCES``."""
    users, items = (leaves(rows(12, 12, 12, seed=seed)) for seed in (0, 1))
    inputs = [t for view in (users, items) for t in (view.vectors, *view.layers.values())]
    seen: list[dict[str, Any]] = []
    try:
        terms = by_space({given.get("name", name): loss(name, n_domains=3, **given)}).values()
        learnt = [p for term in terms for p in term.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learnt or [torch.zeros(1)], lr=0.01)
        for _ in range(3):
            made = [term({"users": users, "items": items}, target=1, progress=0.5) for term in terms]
            total, entries = sum(value for value, _ in made), [key for _, logged in made for key in logged]
            gradients = torch.autograd.grad(total, [*inputs, *learnt], allow_unused=True)
            for p, g in zip(learnt, gradients[len(inputs) :]):
                p.grad = g
            optimizer.step()
            kept = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients)]
            seen.append(
                {"log": sorted(entries), "value": total.detach(), "gradient": torch.cat([g.flatten() for g in kept])}
            )
    except CrossrecError as error:
        return {"refusal": str(error)}
    return {"refusal": None, **seen[0], "later": seen[2]["value"]}


def first_difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    for what in DIFFERENCES:
        a, b = one.get(what), other.get(what)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            if (a - b).abs().max() > 1e-6 * (1 + a.abs().max()):
                return what
        elif a != b:
            return what
    return None


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS, ids=["-".join(case) for case in ARGUMENTS])
def test_every_argument_has_an_effect(name: str, argument: str) -> None:
    cases = OWN.get(name, {}).get(argument) or COMMON.get(argument)
    assert cases, f"say in OWN what {argument} of {name} changes"
    for case in cases:
        given = case.given if case.first is YAML else {**case.given, argument: case.first}
        one, other = (
            observed(name, given) if given else as_it_is(name),
            observed(name, {**given, argument: case.second}),
        )
        assert one["refusal"] is None, one["refusal"]
        assert first_difference(one, other) == case.differs, case
        if case.differs == "refusal":
            assert argument in other["refusal"]


@pytest.mark.parametrize("name", NAMES)
def test_no_case_is_of_an_argument_that_is_gone(name: str) -> None:
    assert set(OWN.get(name, {})) <= set(parameters(name))


@pytest.mark.parametrize("name", NAMES)
def test_its_yaml_names_every_argument_with_its_default(name: str) -> None:
    node = {key: value for key, value in config(name).items() if key != "_target_"}
    taken = parameters(name)
    assert {*node, "name"} == set(taken)  # which its key is
    as_lists = {key: list(p.default) if isinstance(p.default, tuple) else p.default for key, p in taken.items()}
    assert {k: v for k, v in node.items() if k not in OF_THE_RUN} == {
        k: v for k, v in as_lists.items() if k not in OF_THE_RUN
    }
    assert node["weight"] > 0 and node["space"] == "users"
    assert (node.get("dim", F), node.get("seed", 3)) == (F, 3)  # the run's

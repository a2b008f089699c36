import pytest
import torch
from torch import nn

from crossrec.encoders.side_network import Ladder
from crossrec.strategies.parameter_groups import parameter_groups


def model(*rates: float | None) -> nn.ModuleDict:
    towers = [Ladder(torch.zeros(2, 2, 3), 2, "m", "k", rate) for rate in rates]
    return nn.ModuleDict({"towers": nn.ModuleList(towers), "rest": nn.Linear(3, 3)})


def test_without_a_rate_of_its_own_there_is_one_list() -> None:
    made = model(None)
    made["rest"].bias.requires_grad_(False)
    assert parameter_groups(made) == [p for p in made.parameters() if p is not made["rest"].bias]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_towers_have_their_rates_under_every_optimizer_and_a_scheduler_keeps_the_ratio(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    made = model(0.5, None, 0.25)
    made["towers"][0].gates.requires_grad_(False)
    built = optimizer(parameter_groups(made), lr=1.0, weight_decay=0.1)
    assert [group["lr"] for group in built.param_groups] == [1.0, 0.5, 0.25]
    assert {group["weight_decay"] for group in built.param_groups} == {0.1}
    placed = [p for group in built.param_groups for p in group["params"]]
    assert len(placed) == len(set(placed)) and set(placed) == {p for p in made.parameters() if p.requires_grad}
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(built, T_max=4)
    built.step()
    scheduler.step()
    first, second, third = (group["lr"] for group in built.param_groups)
    assert first < 1.0 and (second / first, third / first) == pytest.approx((0.5, 0.25))

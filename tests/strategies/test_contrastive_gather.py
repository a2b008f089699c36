"""Rows that strategy=contrastive adds in several processes are those of one."""

import pytest
import torch
from gathering import gathered
from test_contrastive_strategy import of_pairs

from crossrec.adaptation.pairs import DomainViews, distinct
from crossrec.commands.train import composed
from crossrec.runs.assemble import assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.strategies.contrastive import Contrastive


@pytest.fixture
def model(small: list[str]) -> Contrastive:
    """Of three domains, with maps far from zero; user 3 is in the first and the last, 5 in the second, 7 in all."""
    config = composed([*small, "strategy=contrastive", "data.source.n_domains=3"])
    made = assemble(config, prepare_corpus(config)).model
    assert isinstance(made, Contrastive) and made.heads is not None
    made.heads.data = torch.randn(made.heads.shape, generator=torch.Generator().manual_seed(0))
    members = [[True, False, True], [False, True, False], [True, True, True]]
    made.membership[torch.tensor([3, 5, 7])] = torch.tensor(members)
    return made


@pytest.mark.parametrize("domains", [[0, 2, 1, 0], [2, 0, 0, 1], [0, 0, 2, 1], [2, 2, 2, 1]], ids=str)
def test_rows_that_another_process_adds_do_not_count_before_a_batchs_own(
    model: Contrastive, domains: list[int]
) -> None:
    """User 3 has rows in both processes, which take the batch's rows in turns; with one of user 5 and one of user 7."""
    ids, places = torch.tensor([3, 3, 3, 5 if domains[3] else 7]), torch.arange(4)
    states, items = (torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3))

    def shown(rows: torch.Tensor) -> DomainViews:
        of = torch.tensor(domains)[rows]
        users, layers = model.represent("users", states[rows], of)
        own = DomainViews(users, of, ids[rows], layers={**layers, "partner": items[rows]}, order=places[rows])
        return distinct(model.adaptation_views({"users": own, "items": own}, of_pairs(ids[rows], of))["users"])

    def by_key(view: DomainViews) -> dict[tuple[int, int], list[float]]:
        rows = torch.cat([view.vectors, view.layers["input"], view.layers["partner"]], 1)
        return {(int(i), int(d)): row.tolist() for i, d, row in zip(view.ids, view.domains, rows)}

    one, two = (shown(places[rank::2]) for rank in range(2))
    both = gathered(one, two)
    got, expected = by_key(distinct(both)), by_key(shown(places))
    assert got.keys() == expected.keys()
    assert all(row == pytest.approx(expected[key], abs=1e-5) for key, row in got.items())

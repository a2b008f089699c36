"""A corpus in which only one direction of the items differs between the domains, and it misleads in the target.

An item is a vector [t, z] of four tastes and a nuisance. In the source ``a`` z is N(0, 1) and everybody likes it:
choices follow <p, t> + z. In the target ``b`` z is N(4, 3^2) and nobody looks at it: choices follow <p, t>. A model
that takes what it learnt of z from the source to the target ranks by noise there.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from written_vectors import CONFIG

from crossrec.strategies.base import Strategy

TASTES = 4


@torch.no_grad()
def use_of_nuisance(model: Strategy, domain: int, layer: str | None = None) -> float:
    """How far a unit of z moves the items of a domain, over how far a unit of a taste moves them; means over items.

    With ``layer`` that layer of the items, otherwise what is scored.
    """
    encoder, d = model.item_encoder, model.domains[domain]

    def items() -> Tensor:
        vectors = encoder(torch.arange(d.start, d.stop))
        scored, layers = model.represent("items", vectors, torch.full((d.n_items,), domain))
        return layers[layer] if layer else scored

    before, moves = items(), []
    for column in range(TASTES + 1):
        encoder.features[:, column] += 1
        moves.append((items() - before).norm(dim=1).mean())
        encoder.features[:, column] -= 1
    return float(moves[-1] / torch.stack(moves[:-1]).mean())


def write(folder: Path, *, n_users: int = 250, n_items: int = 120, rows: tuple[int, int] = (14, 5)) -> list[str]:
    """Write the files of both domains and an item encoder's config; the words that read them."""
    rng = np.random.default_rng(0)
    domains = []
    for name, events, mean, deviation, liking in (("a", rows[0], 0, 1, 1.0), ("b", rows[1], 4, 3, 0.0)):
        tastes, z = rng.standard_normal((n_items, TASTES)), mean + deviation * rng.standard_normal(n_items)
        scores = 1.5 * rng.standard_normal((n_users, TASTES)) @ tastes.T + liking * z
        chosen = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)[:, :events]
        chosen = rng.permuted(chosen, axis=1)
        interactions = pl.DataFrame(
            {
                "user": np.repeat([f"{name}{u}" for u in range(n_users)], events),
                "item": [f"{name}{i}" for i in chosen.ravel()],
                "time": np.tile(np.arange(events), n_users),
            }
        )
        texts = [" ".join(f"{x:.6f}" for x in row) for row in np.column_stack([tastes, z])]
        items = pl.DataFrame({"item": [f"{name}{i}" for i in range(n_items)], "text": texts})
        interactions.write_csv(folder / f"{name}.csv")
        items.write_csv(folder / f"{name}_items.csv")
        domains.append(f"{name}: {{interactions: {folder / name}.csv, items: {folder / name}_items.csv}}")
    (folder / "conf" / "item_encoder").mkdir(parents=True)
    (folder / "conf" / "item_encoder" / "planted.yaml").write_text(CONFIG)
    columns = "{item: item, text: text, title: null, image: null, audio: null, entity: null}"
    return [
        "data=tabular", f"data.source.domains={{{', '.join(domains)}}}", f"data.source.item_columns={columns}",
        "target=b", "item_encoder=planted",
    ]  # fmt: skip

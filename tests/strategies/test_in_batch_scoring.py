"""The in-batch softmax inside a strategy: what it is given, what is ranked, what weights do."""

import math

import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.data.batches import PAD, SequenceBatch
from crossrec.runs.assemble import Assembly, assemble
from crossrec.runs.corpus import prepare_corpus

USERS = {"id": ["user_encoder=id"], "transformer": ["user_encoder=transformer", "user_encoder.dropout=0"]}


def built(words: list[str]) -> Assembly:
    config = composed([*words, "objective=in_batch_softmax", "batch_size=16", "history_length=6"])
    return assemble(config, prepare_corpus(config))


@pytest.mark.parametrize("mask", ["false", "true"])
@pytest.mark.parametrize("users", USERS.values(), ids=USERS.keys())
def test_a_batch_costs_what_the_formula_says(small: list[str], users: list[str], mask: str) -> None:
    options = [f"objective.mask_history={mask}", "objective.temperature=0.5", "strategy.domain_weights={a: 0.25}"]
    parts = built([*small, *users, *options])
    model, batch = parts.model, next(iter(parts.datamodule.train_dataloader()))
    model.entities = model.entities.clone()
    model.entities[60:65] = torch.arange(5)  # five items are in both domains
    rows, known = batch.observations(), set[tuple[int, int]]()
    with torch.no_grad():
        if isinstance(batch, SequenceBatch):
            states = model.history_states(batch.history, batch.domains)[batch.real]
            for user, items in zip(batch.users.tolist(), torch.cat([batch.history, batch.targets], 1).tolist()):
                known |= {(user, int(model.entities[i])) for i in items if i != PAD}
        else:
            states = model.user_encoder(batch.users)
            known |= {(int(u), int(model.entities[i])) for u, i in zip(batch.users, rows.items)}
        cosines = torch.cosine_similarity(states.unsqueeze(1), model.item_encoder(rows.items).unsqueeze(0), dim=2)
        got = model.recommendation_loss(batch)[0].item()
    counts = parts.datamodule.train_item_counts()
    logits = (cosines / 0.5 - (counts[rows.items] / counts.sum()).log()).tolist()
    entities, total, mass = model.entities[rows.items].tolist(), 0.0, 0.0
    for i, line in enumerate(logits):
        negatives = [
            math.exp(x)
            for j, x in enumerate(line)
            if entities[j] != entities[i] and not (mask == "true" and (int(rows.users[i]), entities[j]) in known)
        ]
        weight = 0.25 if rows.domains[i] == 0 else 1.0
        total += weight * (math.log(math.exp(line[i]) + sum(negatives)) - line[i])
        mass += weight
    assert 0 < rows.domains.sum() < len(rows.domains) and len(set(entities)) < len(entities)
    assert got == pytest.approx(total / mass, rel=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_it_ranks_by_what_it_trains(small: list[str], normalize: bool) -> None:
    parts = built([*small, "user_encoder=mean", f"objective.normalize={normalize}"])
    model = parts.model.eval()
    query = next(iter(parts.datamodule.test_dataloader()[0]))
    d = model.domains[0]
    with torch.no_grad():
        users, items = model.users_for(query), model.catalogue(0)
        assert torch.allclose(items.norm(dim=1), torch.ones(d.n_items), atol=1e-5) == normalize
        raw = model.encode_users(query.users, query.history, 0), model.item_encoder(torch.arange(d.start, d.stop))
        cosines = torch.cosine_similarity(raw[0].unsqueeze(1), raw[1].unsqueeze(0), dim=2)
        assert torch.allclose(model.score(query), cosines if normalize else raw[0] @ raw[1].T, atol=1e-5)
    assert users.shape == raw[0].shape


def test_every_option_makes_another_run(small: list[str]) -> None:
    words = [*small, "objective=in_batch_softmax", "user_encoder=mean", "trainer.max_epochs=1", "logger=none"]
    changes = ("temperature=0.5", "normalize=false", "logq=false", "mask_history=true")
    made = [run(words), *(run([*words, f"objective.{change}"]) for change in changes)]
    assert len({m.id for m in made}) == len({str(m.metrics["valid"]) for m in made}) == len(made)

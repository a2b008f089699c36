"""Which weights a run takes of another's."""

import shutil
from pathlib import Path

import pytest
import torch
from handing import after, taken
from running import run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.handover import hand_over
from crossrec.runs.store import RunFolder

TEXT = "item_encoder"
FUSED = "item_encoder.encoders.text"


def test_a_transformer_and_a_text_encoder_are_handed_over_whole(text: list[str], source: RunFolder) -> None:
    model, before, found = taken([*text, "strategy=target_only", "target=b"], source)
    given, state = after(source), model.state_dict()
    for name, value in state.items():
        if name == "user_encoder.domain.weight":
            assert torch.equal(value[0], given[name][0]) and torch.equal(value[1:], before[name][1:])
        elif name.startswith(("user_encoder.", "item_encoder.")):
            assert torch.equal(value, given[name]), name
    assert not torch.equal(before["item_encoder.whitening.matrix"], given["item_encoder.whitening.matrix"])
    assert (found.run, found.sha256) == (source.id, found.sha256) and len(found.sha256) == 64
    assert "user_encoder.domain.weight[a]" in found.taken
    reason = "that run did not train on this domain"
    assert found.left == {f"user_encoder.domain.weight[{d}]": reason for d in "bc"}


def test_rows_that_were_not_handed_over_are_zero_in_what_stays_as_it_is(
    text: list[str], id_text: list[str], source: RunFolder
) -> None:
    kept = "zero, as init.freeze keeps it"
    model, _, found = taken([*text, "strategy=target_only", "target=b"], source, freeze=["user_encoder"])
    table = model.get_parameter("user_encoder.domain.weight")
    assert torch.equal(table[0], after(source)["user_encoder.domain.weight"][0]) and not table[1:].any()
    assert len(found.left) == 2 and all(why.endswith(kept) for why in found.left.values())
    assert all(line.endswith(kept) for line in found.lines()[1:])
    line = [*id_text, "strategy=target_only", "target=b"]
    model, _, found = taken(line, source, freeze=["item_encoder"])
    assert not model.get_parameter("item_encoder.encoders.id.weight").any()
    assert found.left["item_encoder.encoders.id"] == f"that run has no such encoder: {kept}"
    assert not found.left["user_encoder.domain.weight[b]"].endswith(kept)
    with pytest.raises(CrossrecError, match=r"would keep item_encoder\.mixing\.map\.weight at its random start"):
        taken([*line, "item_encoder.mode=concat"], source, freeze=["item_encoder"])


def test_what_only_that_run_has_is_told(text: list[str], source: RunFolder) -> None:
    words = [*text, "strategy=target_only", "target=b", "user_encoder.position_embedding=false"]
    _, _, found = taken([*words, "user_encoder.domain_embedding=false"], source)
    assert found.left == dict.fromkeys(["user_encoder.position", "user_encoder.domain.weight"], "this run has none")


def test_the_features_are_whitened_as_they_were_there(text: list[str], source: RunFolder) -> None:
    model, _, _ = taken([*text, "strategy=target_only", "target=b"], source)
    parts = assemble(source.config, prepare_corpus(source.config))
    parts.model.load_state_dict(after(source))
    items = torch.arange(90)
    with torch.no_grad():
        assert torch.equal(model.eval().item_encoder(items), parts.model.eval().item_encoder(items))


def test_a_text_part_goes_to_wherever_there_is_one_and_back(
    text: list[str], id_text: list[str], source: RunFolder
) -> None:
    model, before, found = taken([*id_text, "strategy=target_only", "target=b"], source)
    given, state = after(source), model.state_dict()
    for name in ("adapter.1.weight", "adapter.1.bias", "whitening.mean", "whitening.matrix", "scale", "missing"):
        assert torch.equal(state[f"{FUSED}.{name}"], given[f"{TEXT}.{name}"])
    ids = "item_encoder.encoders.id.weight"
    assert torch.equal(state[ids], before[ids])
    assert found.left["item_encoder.encoders.id"] == "that run has no such encoder"
    back = run([*id_text, "strategy=target_only", "target=b", "item_encoder.mode=concat"])
    model, _, found = taken([*text, "strategy=target_only", "target=c"], back)
    name = "adapter.1.weight"
    assert torch.equal(model.state_dict()[f"{TEXT}.{name}"], after(back)[f"{FUSED}.{name}"])
    assert found.left["item_encoder.encoders.id"] == "this run has no such encoder"
    assert found.left["item_encoder.mixing.map.weight"] == "this run has none"


def test_tables_of_ids_are_taken_on_the_same_corpus_alone(words: list[str]) -> None:
    plain = [w for w in words if not w.startswith("user_encoder")]
    made = run([*plain, "strategy=merged", "target=all"])
    model, _, found = taken([*plain, "strategy=target_only", "target=b"], made)
    state = model.state_dict()
    assert found.taken == ["user_encoder.table.weight", "item_encoder.weight"]
    assert all(torch.equal(state[name], after(made)[name]) for name in found.taken)
    with pytest.raises(CrossrecError, match=r"nothing for this run .*ids of another corpus"):
        taken([*plain, "data.source.seed=5"], made)


def test_tables_of_trained_items_are_taken_where_the_same_items_are_trained(id_text: list[str]) -> None:
    name = "item_encoder.encoders.id.weight"
    made = run([*id_text, "strategy=target_only", "target=a"])
    model, before, found = taken([*id_text, "strategy=target_only", "target=b"], made)
    assert torch.equal(model.state_dict()[name], before[name])  # as many items, and others
    assert found.left[name] == "its rows are items with training rows, and other items have some"
    model, _, found = taken([*id_text, "strategy=target_only", "target=a", "seed=3"], made)
    assert torch.equal(model.state_dict()[name], after(made)[name])


def test_a_mixing_map_goes_to_a_fusion_of_the_same_encoders(id_text: list[str]) -> None:
    line = [*id_text, "strategy=target_only", "item_encoder.mode=concat"]
    made = run([*line, "target=a"])
    model, _, found = taken([*line, "target=b"], made)
    name = "item_encoder.mixing.map.weight"
    assert name in found.taken and torch.equal(model.state_dict()[name], after(made)[name])
    _, _, found = taken([*line, "target=b", "item_encoder.mode=gate"], made)
    assert found.left[name] == "that run mixes other encoders"


def test_vectors_of_domains_go_by_name(words: list[str], text: list[str]) -> None:
    """The corpus of two domains has them at the places of a and b, and the other run knows a and c."""
    line = [*text, "strategy=merged", "target=all"]
    made = run(line)
    config = composed([*line, "data.source.n_domains=2"])
    config["init"] = {"from": str(made.path), "freeze": []}
    corpus = prepare_corpus(config)
    renamed = [*corpus.domains]
    object.__setattr__(renamed[0], "name", "c")
    model = assemble(config, corpus).model
    before = model.user_encoder.domain.weight.clone()
    found = hand_over(model, config, corpus)
    given = after(made)["user_encoder.domain.weight"]
    assert torch.equal(model.user_encoder.domain.weight, torch.stack([given[2], given[1]]))
    assert not torch.equal(before, given[:2])
    assert {n for n in found.taken if "[" in n} == {"user_encoder.domain.weight[c]", "user_encoder.domain.weight[b]"}
    assert found.left == {"user_encoder.domain.weight[a]": "this run has none"}


def test_each_domains_own_whitening_goes_by_name(text: list[str]) -> None:
    line = [*text, "item_encoder.per_domain=true", "item_encoder.whitening_dim=null"]
    made = run([*line, "item_encoder.whitening=zca", "strategy=target_only", "target=a"])
    model, before, found = taken([*line, "item_encoder.whitening=zca", "strategy=target_only", "target=b"], made)
    a, b = (f"item_encoder.whitening.each.{i}.matrix" for i in range(2))
    assert torch.equal(model.state_dict()[a], after(made)[a]) and torch.equal(model.state_dict()[b], before[b])
    assert found.left[b] == "that run did not train on 'b'"
    axes = run([*line, "strategy=target_only", "target=a"])
    with pytest.raises(CrossrecError, match=r"per_domain=true with whitening=pca .* did not train on 'b'"):
        taken([*line, "strategy=target_only", "target=b"], axes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["dim=4"], r"dim is 4 here and was 8 in .*: set it to 8, or init\.from=null"),
        (["item_encoder.pooling=cls"], r"item_encoder\.pooling is 'cls' here and was 'mean' in"),
        (["item_encoder.max_length=9"], "item_encoder.max_length is 9 here and was 16"),
        (["item_encoder.prefix=q"], "item_encoder.prefix is 'q' here and was ''"),
        (['item_encoder.template="a {title}"'], r"item_encoder\.template is 'a {title}' here and was None"),
        (["item_encoder.fields=[text]"], r"item_encoder\.fields is \['text'\] here and was \['title'\]"),
        (["item_encoder.whitening=zca", "item_encoder.whitening_dim=null"], "is 'zca' here and was 'pca'"),
        (["item_encoder.whitening_dim=3"], "whitening_dim is 3 here and was 4"),
        (["item_encoder.adapter=mlp"], "adapter is 'mlp' here and was 'linear'"),
        (["user_encoder.n_heads=4"], "user_encoder.n_heads is 4 here and was 2"),
        (["history_length=4"], "user_encoder.max_length is 4 here and was 5"),
    ],
)
def test_what_would_mean_nothing_is_refused(
    text: list[str], source: RunFolder, change: list[str], message: str
) -> None:
    with pytest.raises(CrossrecError, match=message):
        taken([*text, "strategy=target_only", "target=b", *change], source)


def test_another_text_model_is_refused_and_a_copy_is_the_same(
    text: list[str], source: RunFolder, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    line = [*text, "strategy=target_only", "target=b", f"item_encoder.model={tmp_path / 'copy'}"]
    assert "item_encoder.adapter.1.weight" in taken(line, source)[2].taken
    (tmp_path / "copy" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na")
    with pytest.raises(CrossrecError, match=r"item_encoder\.model is '.*copy' here and was '.*tiny-bert"):
        taken(line, source)


def test_a_tuned_model_is_handed_over_to_the_same_regime_and_a_frozen_one_to_any(
    text: list[str], source: RunFolder
) -> None:
    line = [*text, "strategy=target_only", "tuning=last_k", "tuning.k=1", "tuning.lr=0.01"]
    _, _, found = taken([*line, "target=b"], source)
    assert found.left["item_encoder.tower"] == "that run has none"
    made = run([*line, "target=a", "trainer.max_epochs=1"])
    model, before, found = taken([*line, "target=b", "tuning.lr=0.1"], made)
    names = [n for n in found.taken if ".tower.model.encoder.layer.1." in n]
    assert names and all(torch.equal(model.state_dict()[n], after(made)[n]) for n in names)
    assert any(not torch.equal(before[n], after(made)[n]) for n in names)
    with pytest.raises(CrossrecError, match="tuning is 'Frozen' here and was 'LastK'"):
        taken([*text, "strategy=target_only", "target=b"], made)
    with pytest.raises(CrossrecError, match=r"tuning\.k is 2 here and was 1"):
        taken([*line, "target=b", "tuning.k=2"], made)

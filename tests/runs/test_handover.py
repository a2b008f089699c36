"""A run that begins with the weights of another."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from running import run

from crossrec.cli import main
from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.handover import HandOver, hand_over
from crossrec.runs.recommend import recommend_users
from crossrec.runs.record import check_record, write_record
from crossrec.runs.store import RunFolder
from crossrec.runs.train import train
from crossrec.strategies.base import Strategy

TEXT = "item_encoder"
FUSED = "item_encoder.encoders.text"


def words_of(text: str, model: Path) -> list[str]:
    return [f"{text}.model={model}", f"{text}.whitening_dim=4", f"{text}.max_length=16"]


@pytest.fixture
def words(small: list[str]) -> list[str]:
    """Three domains, two epochs, no encoder of items."""
    return [
        *small, "data.source.n_domains=3", "data.source.n_users=40", "data.source.n_items=30", "logger=none",
        "data.source.interactions_per_user=6", "batch_size=32", "history_length=5", "user_encoder=transformer",
        "objective=sampled_softmax", "objective.n_negatives=8",
    ]  # fmt: skip


@pytest.fixture
def text(words: list[str], tiny_model: Path) -> list[str]:
    return [*words, "item_encoder=text", *words_of(TEXT, tiny_model)]


@pytest.fixture
def id_text(words: list[str], tiny_model: Path) -> list[str]:
    return [*words, "item_encoder=id_text", *words_of(FUSED, tiny_model)]


@pytest.fixture
def source(text: list[str], cache: Path, tmp_path: Path) -> RunFolder:
    """Trained, once, on domain a alone, so its vector of b and its whitening are what they were made."""
    made = run([*text, "strategy=target_only", "target=a", f"paths.runs={cache / 'handover'}"])
    return RunFolder(Path(shutil.copytree(made.path, tmp_path / "runs" / made.id)))


def after(made: RunFolder, what: str = "best") -> dict[str, Any]:
    state: dict[str, Any] = torch.load(getattr(made, what), weights_only=True)["state_dict"]
    return state


def taken(words: list[str], source: RunFolder, **init: Any) -> tuple[Strategy, dict[str, Any], HandOver]:
    """The model that the words make, before and after the hand-over."""
    config = composed(words)
    config["init"] = {"from": str(source.path), "freeze": [], **init}
    corpus = prepare_corpus(config)
    model = assemble(config, corpus).model
    before = {name: v.clone() for name, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    return model, before, hand_over(model, config, corpus)


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


def test_a_frozen_part_is_the_same_to_the_last_bit_after_training_and_the_rest_moves(
    text: list[str], source: RunFolder
) -> None:
    line = [*text, "strategy=target_only", "target=b", f"init.from={source.path}", "optimizer.weight_decay=0.1"]
    given = after(source)
    made = run([*line, "init.freeze=[user_encoder]"])
    state = after(made, "last")
    users = [n for n in state if n.startswith("user_encoder.") and n != "user_encoder.domain.weight"]
    assert len(users) > 10 and all(torch.equal(state[n], given[n]) for n in users)
    assert not torch.equal(state["item_encoder.adapter.1.weight"], given["item_encoder.adapter.1.weight"])
    inner = after(run([*line, "init.freeze=[user_encoder.layers]"]), "last")
    layers = [n for n in state if n.startswith("user_encoder.layers.")]
    assert all(torch.equal(inner[n], given[n]) for n in layers)
    assert not torch.equal(inner["user_encoder.position"], given["user_encoder.position"])


def test_it_is_on_record_and_printed(text: list[str], source: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    made = run([*text, "strategy=target_only", "target=b", f"init.from={source.path}", "init.freeze=[user_encoder]"])
    record = made.metrics["init"]
    assert (record["run"], record["freeze"]) == (source.id, ["user_encoder"])
    assert record["taken"] and set(record["left"]) == {f"user_encoder.domain.weight[{d}]" for d in "bc"}
    said = capsys.readouterr().out
    assert f"begins with weights of {source.id}: user_encoder (" in said and "did not train on this domain" in said
    assert "init" not in source.metrics


def test_the_id_is_of_the_content_handed_over_and_not_of_its_place(
    text: list[str], source: RunFolder, tmp_path: Path
) -> None:
    def name(*more: str) -> str:
        config = composed([*text, "strategy=target_only", "target=b", *more])
        return RunFolder.of(config, prepare_corpus(config).fingerprint).id

    anew, begun = name(), name(f"init.from={source.path}")
    moved = Path(shutil.copytree(source.path, tmp_path / "elsewhere" / source.id))
    assert begun == name(f"init.from={moved}") != anew
    assert name(f"init.from={moved}", "init.freeze=[user_encoder]") not in (anew, begun)
    two = ["init.freeze=[user_encoder,item_encoder]", "init.freeze=[item_encoder,user_encoder]"]
    assert name(f"init.from={moved}", two[0]) == name(f"init.from={moved}", two[1])
    state = torch.load(moved / "checkpoints" / "best.ckpt", weights_only=True)
    state["global_step"] += 1
    torch.save(state, moved / "checkpoints" / "best.ckpt")
    assert name(f"init.from={moved}") == begun
    state["state_dict"]["user_encoder.position"][0, 0] += 1e-3
    torch.save(state, moved / "checkpoints" / "best.ckpt")
    assert name(f"init.from={moved}") != begun
    config = composed(text)
    del config["init"]  # as the configs of older records
    assert RunFolder.of(config, "abc").id == RunFolder.of(composed(text), "abc").id


def test_killed_and_resumed_is_uninterrupted_and_does_not_begin_again(
    text: list[str], source: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [
        *text, "strategy=target_only", "target=b", f"init.from={source.path}", "init.freeze=[user_encoder.layers]",
        "trainer.max_epochs=3", "checkpoint_every_n_steps=1", "batch_size=8",
    ]  # fmt: skip
    whole = run([*line, f"paths.runs={tmp_path / 'whole'}"])
    start = Strategy.on_train_batch_start

    def fail(self: Strategy, batch: Any, batch_idx: int) -> None:
        if self.global_step == 7:
            raise ZeroDivisionError
        start(self, batch, batch_idx)

    broken = [*line, f"paths.runs={tmp_path / 'broken'}"]
    with monkeypatch.context() as patch:
        patch.setattr(Strategy, "on_train_batch_start", fail)
        with pytest.raises(ZeroDivisionError):
            run(broken)
    with monkeypatch.context() as patch:
        patch.setattr("crossrec.runs.handover.hand_over", lambda *_: pytest.fail("handed over again"))
        resumed = run(broken)
    assert resumed.id == whole.id and resumed.metrics == whole.metrics and "init" in resumed.metrics
    ours, theirs = after(whole, "last"), after(resumed, "last")
    assert all(torch.equal(v, theirs[n]) for n, v in ours.items() if isinstance(v, torch.Tensor))


def test_the_run_is_of_use_when_the_other_is_gone(text: list[str], source: RunFolder, tmp_path: Path) -> None:
    line = [*text, "strategy=target_only", "target=b", f"init.from={source.path}"]
    made = run(line)
    shutil.rmtree(source.path)
    main(["evaluate", str(made.path)])
    (found,) = (made.path / "evaluations").glob("*.json")
    assert json.loads(found.read_text())["test"] == made.metrics["test"]
    assert set(recommend_users(made.path, None, 2, "b")["domain"]) == {"b"}
    record = write_record(made, tmp_path / "records", [], ["a", "b", "c"])
    check_record(record)
    shown = json.loads((record.path / "identity.json").read_text())
    assert shown["outside"][f"weights of {source.id}"] == made.metrics["init"]["sha256"]
    assert str(tmp_path) not in record.config_path.read_text() and "init.from" not in shown["lost"]
    with pytest.raises(CrossrecError, match="is not a run folder"):
        run(line)


def test_a_run_without_weights_is_told(text: list[str], source: RunFolder, tmp_path: Path) -> None:
    def begin(folder: Path) -> None:
        config = composed([*text, "target=b", f"init.from={folder}"])
        train(config, [])

    with pytest.raises(CrossrecError, match=r"init\.from=.*nowhere is not a run folder"):
        begin(tmp_path / "nowhere")
    record = write_record(source, tmp_path / "records", [], ["a", "b", "c"])
    with pytest.raises(CrossrecError, match="is the record of a run and has no weights; this line trains it again"):
        begin(record.path)
    free = run([*text, "strategy=popularity"])
    with pytest.raises(CrossrecError, match="strategy=popularity, which trains nothing"):
        begin(free.path)
    status = json.loads((source.path / "status.json").read_text())
    (source.path / "status.json").write_text(json.dumps({**status, "state": "failed"}))
    with pytest.raises(CrossrecError, match=r"is failed, not finished; this line trains it to its end: crossrec train"):
        begin(source.path)
    (source.path / "status.json").write_text(json.dumps(status))
    source.best.unlink()
    with pytest.raises(CrossrecError, match="has lost"):
        begin(source.path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["init.freeze=[users]"], r"init\.freeze names 'users'.*nothing of it was handed over"),
        (["init.freeze=user_encoder"], "must be a list of parts"),
        (["init.freeze=[user_encoder,item_encoder]"], "leaves nothing to train"),
        (["init.from=null", "init.freeze=[user_encoder]"], "init.from is null"),
        (["init.freeze=[user_encoder]", "user_encoder=mean"], "'user_encoder', but nothing of it was handed over"),
        (["item_encoder=id", "user_encoder=mean"], r"has nothing for this run \(user_encoder: that run has no such"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_told(
    words: list[str], source: RunFolder, text: list[str], more: list[str], message: str
) -> None:
    line = words if "item_encoder=id" in more else text
    with pytest.raises(CrossrecError, match=message):
        run([*line, "strategy=target_only", "target=b", f"init.from={source.path}", *more])

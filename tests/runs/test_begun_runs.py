"""Runs that begin with the weights of another: trained, frozen, broken off, used, refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from handing import after
from running import break_off, run

from crossrec.cli import main
from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.recommend import recommend_users
from crossrec.runs.record import check_record, write_record
from crossrec.runs.store import RunFolder
from crossrec.runs.train import train


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
    broken = [*line, f"paths.runs={tmp_path / 'broken'}"]
    break_off(broken, 7)
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

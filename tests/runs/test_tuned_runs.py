"""Runs that train a text model: end to end, broken off, evaluated, recommended from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from running import break_off, minilm, run
from safetensors.torch import load_file, save_file

from crossrec.cli import main
from crossrec.config import compose, plain
from crossrec.encoders.tuned_text import TunedText
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import assemble, load_run
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.identity import run_id
from crossrec.runs.recommend import recommend_history, recommend_users

TRAINED = {
    "side_network": ("down.", "gates", "blocks.", "up."),
    "last_k": ("model.encoder.layer.1.",),
    "lora": ("model.encoder.layer.",),
    "full": ("model.embeddings.", "model.encoder.layer."),
}
"""How the names of the weights that a checkpoint has of the tower begin."""


@pytest.fixture
def words(small: list[str], tiny_model: Path) -> list[str]:
    return [
        *small, "data.source.n_users=40", "data.source.n_items=30", "data.source.interactions_per_user=6",
        "batch_size=32", "history_length=5", "logger=none", "item_encoder=text", f"item_encoder.model={tiny_model}",
        "item_encoder.max_length=30", "item_encoder.batch_size=16", "item_encoder.whitening_dim=4", "user_encoder=mean",
        "objective=sampled_softmax", "objective.n_negatives=8", "strategy=mmd", "target=all",
    ]  # fmt: skip


def tuned(words: list[str], regime: str, *more: str) -> list[str]:
    k = ["tuning.k=1"] if regime == "last_k" else []
    return [*words, f"tuning={regime}", "tuning.lr=0.01", *k, *more]


@pytest.mark.parametrize("regime", TRAINED)
def test_a_run_trains_is_stored_evaluated_and_recommended_from(words: list[str], regime: str) -> None:
    made = run(tuned(words, regime, "trainer.max_epochs=1"))
    state = torch.load(made.best, weights_only=True)["state_dict"]
    tower = {n.removeprefix("item_encoder.tower.") for n in state if n.startswith("item_encoder.tower.")}
    assert tower - {"_extra_state"} and all(n.startswith(TRAINED[regime]) for n in tower - {"_extra_state"})
    assert regime != "lora" or all("lora_" in n for n in tower - {"_extra_state"})
    main(["evaluate", str(made.path)])
    (record,) = (made.path / "evaluations").glob("*.json")
    assert json.loads(record.read_text())["test"] == made.metrics["test"]
    _, parts = load_run(made.path)
    name, title = parts.corpus.users["name"][0], parts.corpus.items["title"][0]
    assert recommend_users(made.path, [name], 3, "b").height == 3
    assert recommend_history(made.path, [title], 3, "a")["item"].n_unique() == 3


def test_regimes_and_their_learning_rates_make_different_runs(words: list[str]) -> None:
    lines = [words, tuned(words, "lora"), tuned(words, "lora", "tuning.lr=null")]
    values = [json.dumps(run([*line, "trainer.max_epochs=1"]).metrics["valid"]) for line in lines]
    assert len(set(values)) == len(values)


def test_a_text_model_in_a_fusion_trains_too(words: list[str]) -> None:
    swapped = [w.replace("item_encoder.", "item_encoder.encoders.text.") for w in words if w != "item_encoder=text"]
    made = run(tuned(swapped, "last_k", "item_encoder=id_text", "trainer.max_epochs=1"))
    state = torch.load(made.best, weights_only=True)["state_dict"]
    assert any(n.startswith("item_encoder.encoders.text.tower.model.encoder.layer.1.") for n in state)


def test_a_run_that_was_broken_off_ends_as_if_it_had_not_been(words: list[str], tmp_path: Path) -> None:
    # all that draws numbers in training: the model's dropout, LoRA's, the adapter's and the gate's noise
    more = (
        "tuning.model_dropout=true", "tuning.dropout=0.1", "item_encoder.adapter=moe", "item_encoder.gate_noise=true",
        "item_encoder.dropout=0.1", "checkpoint_every_n_steps=2", "scheduler=cosine",
    )  # fmt: skip
    line = tuned(words, "lora", *more)
    whole = run([*line, f"paths.runs={tmp_path / 'whole'}"])
    broken = [*line, f"paths.runs={tmp_path / 'broken'}"]
    break_off(broken, 5)
    resumed = run(broken)
    assert resumed.id == whole.id
    assert (resumed.path / "metrics.json").read_bytes() == (whole.path / "metrics.json").read_bytes()
    states = [torch.load(r.last, weights_only=True)["state_dict"] for r in (whole, resumed)]
    assert all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(*(s.values() for s in states))
    )


@pytest.mark.parametrize("regime", TRAINED)
def test_adaptation_alone_reaches_the_tower(words: list[str], regime: str) -> None:
    config = plain(compose(tuned(words, regime, "adaptation.mmd.weight=1", "adaptation.mmd.space=items")))
    parts = assemble(config, prepare_corpus(config))
    model = parts.model.train()
    if regime == "side_network":
        model.item_encoder.tower.up.weight.data.normal_()
    batch = next(iter(parts.datamodule.train_dataloader()))
    loss, views = model.recommendation_loss(batch)
    value, _ = model.adaptation["mmd"](views, target=None, progress=0.0)
    (0.0 * loss + value).backward()
    grads = {n: p.grad for n, p in model.item_encoder.tower.named_parameters() if p.requires_grad}
    reached = {n for n, g in grads.items() if g is not None and g.abs().sum() > 0}
    # A of an update has none while B is zero, and a key's bias changes no attention
    assert reached >= {n for n in grads if "lora_A" not in n and "key.bias" not in n}


def test_an_evaluation_reads_the_catalogue_once(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    forward = TunedText.forward

    def counted(self: TunedText, places: torch.Tensor) -> torch.Tensor:
        if not self.training:
            rows.append(len(places))
        return forward(self, places)

    monkeypatch.setattr(TunedText, "forward", counted)
    run(tuned(words, "lora", "evaluation.query_batch_size=8"))
    assert sum(rows) == 3 * 60  # two validations, and the selected epoch's weights for validation and test together


def test_the_model_on_disk_and_the_regime_make_the_runs_id(words: list[str], tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)

    def name(*more: str, regime: str = "lora") -> str:
        line = [w for w in words if not w.startswith("item_encoder.model")]
        return run_id(plain(compose([*line, f"item_encoder.model={copy}", f"tuning={regime}", *more])), "abc")

    first = name()
    assert name("tuning.gradient_checkpointing=true") == first == name("item_encoder.batch_size=7")
    others = [name("tuning.rank=4"), name("tuning.lr=0.1"), name("tuning.model_dropout=true"), name(regime="full")]
    weights = load_file(copy / "model.safetensors")
    save_file({n: w + 1e-3 for n, w in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    assert len({first, *others, name()}) == 6


def test_weights_that_were_swapped_under_a_run_are_noticed(words: list[str], tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    made = run(tuned(words, "last_k", f"item_encoder.model={copy}", "trainer.max_epochs=1"))
    weights = load_file(copy / "model.safetensors")
    save_file({n: w * 1.01 for n, w in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CrossrecError, match="trained on other files"):
        load_run(made.path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["objective=softmax"], r"objective=softmax with tuning=lora .* choose objective=sampled_softmax or bpr"),
        (["item_encoder=id"], r"tuning=lora is of a text model, and this item_encoder has none"),
        (["strategy=text_cosine", "adaptation=[]"], r"strategy=text_cosine trains nothing: set tuning=frozen"),
    ],
)
def test_what_makes_no_sense_is_refused(small: list[str], more: list[str], message: str) -> None:
    with pytest.raises(CrossrecError, match=message):
        run([*small, "item_encoder=text", "tuning=lora", *more])


def test_the_whole_softmax_trains_a_side_network(words: list[str]) -> None:
    line = [w for w in words if not w.startswith("objective")]
    assert run(tuned(line, "side_network", "objective=softmax", "trainer.max_epochs=1")).finished


def test_bf16_and_checkpointing_train(words: list[str]) -> None:
    more = ("trainer.precision=bf16-mixed", "tuning.gradient_checkpointing=true", "trainer.max_epochs=1")
    made = run(tuned(words, "full", *more))
    state = torch.load(made.best, weights_only=True)["state_dict"]
    assert all(v.dtype == torch.float32 for n, v in state.items() if "tower.model" in n)


def test_minilm_is_tuned_by_lora(words: list[str]) -> None:
    minilm()
    line = [w for w in words if not w.startswith(("item_encoder.model", "trainer.max_epochs"))]
    line += ["trainer.max_epochs=1", "+trainer.limit_train_batches=4", "tuning.rank=4"]
    made = run(tuned(line, "lora"))
    state = torch.load(made.best, weights_only=True)["state_dict"]
    updates = {n: v for n, v in state.items() if "lora_B" in n}
    assert len(updates) == 12 and all(v.abs().sum() > 0 for v in updates.values())
    assert made.best.stat().st_size < 2_000_000  # the model has 91 MB
    minilm()  # its files are as they were

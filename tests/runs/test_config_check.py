from pathlib import Path

import pytest
import torch
from running import break_off, crossrec, run

from crossrec.cli import main
from crossrec.commands.encode import main as encode
from crossrec.commands.train import composed
from crossrec.config import GROUPS, options
from crossrec.errors import CrossrecError
from crossrec.runs.config_check import check, check_target
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.effects import without_effect

WRONG: dict[tuple[str, ...], str] = {
    # whole numbers, which other values are made from
    ("history_length=x", "user_encoder=transformer"): "history_length='x' must be a whole number from 1 on",
    ("dim=0",): "dim=0 must be a whole number from 1 on",
    ("seed=-1",): "seed=-1 must be a whole number from 0 on",
    ("batch_size=many",): "batch_size='many' must be a whole number from 1 on",
    # types
    ("optimizer.lr=abc",): r"optimizer\.lr='abc' must be a number",
    ("trainer.max_epochs=abc", "scheduler=cosine"): r"trainer\.max_epochs='abc' must be a whole number or null",
    ("trainer.gradient_clip_val=abc",): r"trainer\.gradient_clip_val='abc' must be a number or null",
    ("trainer.precision=half",): r"trainer\.precision=half must be 32-true, .*bf16-mixed",
    ("callbacks.early_stopping.patience=x",): r"callbacks\.early_stopping\.patience='x' must be a whole number",
    ("user_encoder=transformer", "user_encoder.dropout=abc"): r"user_encoder\.dropout='abc' must be a number",
    ("user_encoder=transformer", "user_encoder.n_layers=1.5"): r"user_encoder\.n_layers=1\.5 must be a whole number",
    ("objective.n_negatives=x",): r"objective\.n_negatives='x' must be a whole number",
    ("split=ratio", "split.train=x"): r"split\.train='x' must be a number",
    ("strategy=mmd", "adaptation.mmd.bandwidths=x"): r"adaptation\.mmd\.bandwidths='x' must be a list \[a number, ",
    ("item_encoder=id_text", "item_encoder.encoders.text.max_length=x"):
        r"item_encoder\.encoders\.text\.max_length='x' must be a whole number or null",
    ("item_encoder=text", "tuning=last_k", "tuning.k=x"): r"^tuning\.k='x' must be a whole number",
    ("strategy.domain_weights={a: x}",): r"strategy\.domain_weights\.a='x' must be a number or a list",
    # names
    ("+optimizer.foo=1",): r"optimizer\.foo=1 is no option of AdamW; valid names are .*weight_decay",
    ("+optimizer.weight_deca=1",): r"optimizer\.weight_deca=1 is no option of AdamW; did you mean weight_decay",
    ("+trainer.max_epoch=1",): r"trainer\.max_epoch=1 is no option of Trainer; did you mean max_epochs",
    ("+user_encoder.foo=1",): r"user_encoder\.foo=1 is no option of UserIdEncoder; valid names are init, std",
    ("strategy=mmd", "+adaptation.mmd.bandwith=1"): r"adaptation\.mmd\.bandwith=1 is no option of MMD; .*bandwidth",
    ("strategy=cmf", "item_encoder=text"):
        r"item_encoder\.share_entities=True, which strategy=cmf sets, is no option of TextEncoder: "
        "choose item_encoder=id, or another strategy",
    ("experiment=movielens", "item_encoder=text"):
        r"item_encoder\.share_entities=True, which experiment=movielens sets, is no option of TextEncoder: "
        "choose item_encoder=id, or another experiment",
    ("+callbacks.mine={_target_: nonesuch.Mine}",):
        r"callbacks\.mine\._target_=nonesuch\.Mine cannot be imported \(No module named 'nonesuch'\): .*PYTHONPATH",
    ("trainer.check_val_every_n_epoch=0",): r"trainer\.check_val_every_n_epoch=0 must be at least 1",
    ("trainer.gradient_clip_val=-2",): r"trainer\.gradient_clip_val=-2 must be at least 0",
    ("trainer.max_epochs=0",): r"trainer\.max_epochs=0 must be at least 1, or -1 for as many as callbacks let it run",
    ("callbacks.early_stopping.patience=-3",): r"callbacks\.early_stopping\.patience=-3 must be at least 0",
    # what nothing trains from
    ("strategy=popularity", "init.from=runs/x"):
        r"init\.from=runs/x has no effect, because strategy=popularity trains nothing: leave it out",
    # the metric that selects, and what callbacks watch
    ("callbacks.early_stopping.monitor=foo",):
        r"callbacks\.early_stopping\.monitor=foo is nothing that validation logs: set valid/monitor, .*macro/recall@1",
    ("callbacks.early_stopping.monitor=valid/b/ndgc@10",): r"is nothing that validation logs: .* such as valid/b/ndcg@",
    ("evaluation.monitor=ndgc@10",): r"evaluation\.monitor=ndgc@10 is not computed .*; did you mean ndcg@10",
    ("evaluation.monitor=ndcg@7",): r"evaluation\.monitor=ndcg@7 is not computed in validation with evaluation\.ks=",
    ("evaluation.monitor=label_auc",): r"evaluation\.monitor=label_auc is not computed in validation",
    ("evaluation.monitor=cold_user/ndcg@10",): r"no group 'cold_user'; did you mean cold_users",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_value_is_one_sentence_with_the_key_and_the_mend(words: tuple[str, ...]) -> None:
    with pytest.raises(CrossrecError, match=WRONG[words]) as caught:
        check(composed(list(words)), words)
    assert "\n" not in str(caught.value)


WRONG_DATA = {
    "data.filter.min_rating=abc": r"data\.filter\.min_rating='abc' must be a number or null",
    "data.filter.user_core=abc": r"data\.filter\.user_core='abc' must be a whole number",
    "data.filter.item_core=1.5": r"data\.filter\.item_core=1\.5 must be a whole number",
    "data.filter.duplicates=all": r"data\.filter\.duplicates='all' must be first, last or keep",
    "+data.filter.foo=1": r"data\.filter\.foo=1 is no option of data\.filter; valid names are .*user_core",
    "+data.filter.cache_dir=x": r"data\.filter\.cache_dir=x is no option of data\.filter",
    "data.source.n_users=x": r"data\.source\.n_users='x' must be a whole number or a list \[a whole number, \.\.\.\]",
    "+data.source.n_user=9": r"data\.source\.n_user=9 is no option of Synthetic; did you mean n_users",
}


@pytest.mark.parametrize("word", WRONG_DATA)
def test_a_wrong_value_of_the_data_is_told_before_anything_is_read(word: str) -> None:
    with pytest.raises(CrossrecError, match=WRONG_DATA[word]):
        prepare_corpus(composed([word]))


def test_a_file_where_a_tabular_domain_is_expected() -> None:
    with pytest.raises(CrossrecError, match=r"data\.source\.domains\.films='films\.csv' must be a mapping \{name: "):
        prepare_corpus(composed(["data=tabular", "data.source.domains={films: films.csv}"]))


def passing() -> list[list[str]]:
    """Words of runs in which every option of ours occurs, several to a run."""
    alone = ("data", "experiment", "strategy", "adaptation")
    columns = [[f"{group}={name}" for name in options(group)] for group in GROUPS if group not in alone]
    columns += [
        [f"strategy={name}" for name in options("strategy")],
        [f"adaptation=[{','.join(options('adaptation'))}]"],
    ]
    needed = ["sampler.ratios={a: 1}", "adaptation.function.function=a.b"]
    rows = [[column[i % len(column)] for column in columns] for i in range(max(map(len, columns)))]
    for row in rows:
        row += needed if "sampler=fixed_ratio" in row else needed[1:]
    return [[word for word in row if word != "strategy=cmf"] for row in rows]


@pytest.mark.parametrize("words", passing(), ids=str)
def test_every_option_of_ours_passes(words: list[str]) -> None:
    check(composed(words))


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=1", "trainer.gradient_clip_val=1", "trainer.max_epochs=null", "strategy=cmf"],
        ["evaluation=sampled_99", "evaluation.monitor=label_auc"],
        ["trainer.precision=32", "trainer.devices=auto", "+trainer.limit_train_batches=0.5", "data=amazon"],
        ["callbacks.early_stopping.monitor=valid/a/ndcg@5", "callbacks.early_stopping.patience=0"],
        ["callbacks.early_stopping.monitor=train/loss", "trainer.max_epochs=-1"],
        ["+optimizer.betas=[0.8,0.9]", "trainer.deterministic=warn", "experiment=food_kitchen"],
    ],
)
def test_values_of_another_form_of_the_same_type_pass(words: list[str]) -> None:
    check(composed(words))


def test_a_class_of_the_users_own_is_checked_by_its_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_gap_class.py").write_text(
        "from __future__ import annotations\n"
        "from crossrec.adaptation.base import PairwiseAdaptation\n"
        "class OwnGap(PairwiseAdaptation):\n"
        "    def __init__(self, power: int = 2, names: Unknown = None, **options):\n"
        "        super().__init__(**options)\n"
    )
    (tmp_path / "adaptation").mkdir()
    (tmp_path / "adaptation" / "own_gap.yaml").write_text(
        "# @package adaptation.own_gap\n_target_: own_gap_class.OwnGap\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["strategy=mmd", "adaptation=[own_gap]", "+adaptation.own_gap.power=3"]
    check(composed([*words, "+adaptation.own_gap.names=5", "+adaptation.own_gap.weight=2"], [tmp_path]))
    with pytest.raises(CrossrecError, match=r"adaptation\.own_gap\.power='x' must be a whole number"):
        check(composed([*words[:2], "+adaptation.own_gap.power=x"], [tmp_path]))


def test_a_target_that_the_data_have_not_is_told() -> None:
    config = composed(["data.source.n_domains=1"])
    with pytest.raises(CrossrecError, match=r"target=b: the data have no such domain; .*a, all"):
        check_target(config, ["a"])


@pytest.mark.parametrize("word", ["item_encoder.batch_size=x", "+item_encoder.foo=1"])
def test_options_are_checked_before_texts_are_encoded(word: str) -> None:
    with pytest.raises(CrossrecError, match=r"item_encoder\.(batch_size='x' must be a whole|foo=1 is no option)"):
        encode(["item_encoder=text", word])


@pytest.mark.parametrize("key", ["paths.runs", "paths.prepared"])
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    places = {f"paths.{name}": tmp_path / name for name in ("runs", "prepared")} | {key: tmp_path / "file" / "folder"}
    with pytest.raises(SystemExit) as end:
        main(["train", *(f"{name}={place}" for name, place in places.items())])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert f"error: {key}={tmp_path / 'file' / 'folder'} cannot be used (Not a directory: " in said
    assert "Traceback" not in said


REFUSED = {
    "evaluation.monitor=ndgc@10": "ndgc@10 is not computed",  # by the config
    "target=zz": "target=zz: the data have no such domain",  # by the data
    "callbacks.early_stopping.monitor=valid/a/ndcg@5": r"set valid/monitor, .* such as valid/b/ndcg@5",
    "trainer.accelerator=cuda": "CUDAAccelerator",  # by the machine
    "evaluation.n_candidates=5": "has no meaning under full ranking",  # by what is built
    "+callbacks.early_stopping.stopping_threshold=x": "stopping_threshold",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_is_refused_leaves_no_run(small: list[str], tmp_path: Path, word: str) -> None:
    if word == "trainer.accelerator=cuda" and torch.cuda.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(CrossrecError, match=REFUSED[word]):
        run([*small, word])
    assert not list((tmp_path / "runs").glob("*"))


def test_a_refusal_leaves_what_a_run_has_trained(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*small, "optimizer.lr=0.02"]
    break_off(words, 2)
    (folder,) = (Path(small[0].partition("=")[2])).iterdir()
    before = (folder / "status.json").read_bytes()
    if not torch.cuda.is_available():
        with pytest.raises(CrossrecError, match="CUDAAccelerator"):
            run([*words, "trainer.accelerator=cuda"])
        assert (folder / "status.json").read_bytes() == before
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"half a file")
    with pytest.raises(CrossrecError, match=r"last\.ckpt is no whole checkpoint \(.*\): delete it, and the run begins"):
        run(words)
    assert (folder / "checkpoints" / "last.ckpt").is_file()


WITHOUT_EFFECT = {
    ("history_length=9",): "because user_encoder=user_id reads no histories: choose user_encoder=mean",
    ("strategy=popularity", "history_length=9"): "because strategy=popularity reads no histories",
    ("strategy=popularity", "optimizer=sgd"): "optimizer=sgd has no effect, because strategy=popularity trains nothing",
    ("strategy=text_cosine", "optimizer.lr=1"): "optimizer.lr=1 has no effect, because strategy=text_cosine trains",
    ("strategy=popularity", "trainer.max_epochs=3"): "trainer.max_epochs=3 has no effect",
    ("strategy=popularity", "adaptation=[mmd]"): "adaptation=[mmd] has no effect",
}


@pytest.mark.parametrize("words", WITHOUT_EFFECT, ids=str)
def test_words_that_the_one_run_never_reads_are_told(words: tuple[str, ...]) -> None:
    (sentence,) = without_effect(composed(list(words)), words)
    assert WITHOUT_EFFECT[words] in sentence


def test_the_command_line_tells_them_and_trains(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*small, "strategy=popularity", "optimizer.lr=0.5"]  # a line that a study's trace prints
    main(["train", *words])
    told = capsys.readouterr().err.splitlines()
    assert "optimizer.lr=0.5 has no effect, because strategy=popularity trains nothing" in told


def test_words_that_are_read_or_shared_by_many_runs_pass() -> None:
    for words in (
        ["history_length=9", "user_encoder=mean", "optimizer.lr=1"],
        ["history_length=9", "strategy=text_cosine"],
        ["strategy=popularity", "seed=3", "trainer.accelerator=cpu", "evaluation.valid_queries=9"],
    ):
        assert not list(without_effect(composed(words), words))
    base = ["experiment=movielens", "strategy=popularity"]  # what the experiment sets is of no word
    assert not list(without_effect(composed(base), base))


def test_the_command_line_says_it_without_a_traceback(tmp_path: Path) -> None:
    done = crossrec("train", "optimizer.lr=abc", f"paths.runs={tmp_path / 'runs'}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "crossrec train: error: optimizer.lr='abc' must be a number"
    assert "Traceback" not in done.stderr

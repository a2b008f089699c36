import time
from pathlib import Path

import pytest
import yaml

from crossrec.commands.train import composed
from crossrec.config import GROUPS, build, compose, conf_dir, options
from crossrec.errors import CrossrecError
from crossrec.keys import TYPES

WRONG = {
    # an option that is empty or cannot be read
    "strategy=": r"strategy= names no option; valid names are .*merged",
    "data=": r"data= names no option; valid names are .*synthetic",
    "data=null": r"data=null names no option; valid names are .*synthetic",
    "experiment=": r"experiment= names no option; leave it out for none",
    "adaptation=null": r"adaptation=null names no option; adaptation=\[\] is none",
    "adaptation=[mmd": r"'adaptation=\[mmd' cannot be read .*: close every bracket and quote",
    "optimizer.lr='x": r"\"optimizer\.lr='x\" cannot be read .*: close every bracket and quote",
    # several of what a run has one of
    "strategy=[mmd,merged]": r"strategy=\[mmd,merged\] chooses several of what .*: name one, as in strategy=mmd",
    # a choice that is missing
    "~strategy": r"a run needs strategy=\.\.\.; valid names are .*merged",
    "~evaluation.ks": r"evaluation\.ks is missing: set evaluation\.ks=",
    "~optimizer._target_": r"optimizer names no class: its yaml needs a line `_target_: module\.Class`",
    # a key that nothing reads
    "+foo=1": r"nothing reads the config key 'foo'; valid names are .*seed",
    "+seeds=1": r"nothing reads the config key 'seeds'; did you mean seed",
    "+data.foo=1": r"nothing reads the config key 'data\.foo'; valid names are default_target, filter, source",
    "+evaluation.foo=1": r"nothing reads the config key 'evaluation\.foo'; valid names are .*monitor",
    "+evaluation.k=[1]": r"nothing reads the config key 'evaluation\.k'; .*ks",
    "+paths.run=x": r"nothing reads the config key 'paths\.run'; did you mean runs",
    "+scheduler.T_max=3": r"scheduler\.T_max has no effect, because nothing is built here: choose another scheduler",
    "adaptation.mmd.weight=2": r"adaptation\.mmd\.weight is of a loss that is not chosen: .*'adaptation=\[mmd\]'",
    "+adaptation.mmd.weight=2": r"adaptation\.mmd\.weight is of a loss that is not chosen: .*'adaptation=\[mmd\]'",
    "+adaptation.mdm.weight=2": r"adaptation\.mdm\.weight is of no loss; did you mean .*mmd",
    "+callbacks.stop.patience=3": r"callbacks\.stop names no class: choose callbacks=default",
    # a value of another type
    "evaluation.ks=[a]": r"evaluation\.ks=\['a'\] must be a list \[a whole number, \.\.\.\]",
    "evaluation.ks=5": r"evaluation\.ks=5 must be a list \[a whole number, \.\.\.\]",
    "evaluation.ks=[]": r"evaluation\.ks=\[\] must be a list of lengths from 1 on, such as \[1, 5, 10, 20\]",
    "evaluation.ks=[0,5]": r"evaluation\.ks=\[0, 5\] must be a list of lengths from 1 on",
    "evaluation.diversity=x": r"evaluation\.diversity='x' must be true or false",
    "evaluation.valid_queries=x": r"evaluation\.valid_queries='x' must be a whole number or null",
    "checkpoint_every_n_steps=x": r"checkpoint_every_n_steps='x' must be a whole number or null",
    "paths.runs=null": r"paths\.runs=None must be a text",
    "positive_rating=abc": r"positive_rating='abc' must be a number or null",
    "negatives=[popularity]": r"negatives=\['popularity'\] must be a text",
    "init.from=[runs]": r"init\.from=\['runs'\] must be a text or null",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_word_is_one_sentence_with_the_key_and_the_mend(word: str) -> None:
    began = time.process_time()
    with pytest.raises(CrossrecError, match=WRONG[word]) as caught:
        composed([word, "seed=3"])
    assert "\n" not in str(caught.value) and "seed=3" not in str(caught.value)
    assert time.process_time() - began < 3  # an explanation composes once, whatever is wrong


def test_losses_that_are_chosen_stay_in_the_advice() -> None:
    with pytest.raises(CrossrecError, match=r"'adaptation=\[mmd,coral\]'"):
        compose(["strategy=mmd", "adaptation.coral.weight=2"])


def test_a_key_that_another_value_is_made_from_is_read() -> None:
    config = compose(["strategy=mmd", "+w=0.25", "adaptation.mmd.weight=${w}", "+own.lr=0.5", "optimizer.lr=${own.lr}"])
    assert (config.adaptation.mmd.weight, config.optimizer.lr) == (0.25, 0.5)


def test_an_experiment_that_is_not_global_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("dim: 5\n")
    with pytest.raises(CrossrecError, match="the first line of its yaml must be `# @package _global_`"):
        compose(["experiment=mine"], config_dirs=[tmp_path])


@pytest.mark.parametrize("group", ["data", "evaluation"])
def test_our_own_files_have_known_keys(group: str) -> None:
    kinds = {frozenset(yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text())) for name in options(group)}
    assert len(kinds) == 1


def test_every_value_of_the_evaluation_has_a_type() -> None:
    keys = yaml.safe_load((conf_dir() / "evaluation" / "full.yaml").read_text())
    assert {f"evaluation.{key}" for key in keys} == {key for key in TYPES if key.startswith("evaluation.")}
    train = yaml.safe_load((conf_dir() / "train.yaml").read_text())
    assert {*GROUPS, *train} >= {key.partition(".")[0] for key in TYPES}


def test_what_crossrec_hands_over_is_no_option() -> None:
    node = {"_target_": "collections.OrderedDict", "width": 3}
    assert build({"_target_": "collections.OrderedDict"}, width=4) == {"width": 4}
    with pytest.raises(CrossrecError, match=r"width=3 has no effect: collections\.OrderedDict gets its width from"):
        build(node, width=4)


def test_what_torch_and_lightning_refuse_is_one_sentence() -> None:
    with pytest.raises(CrossrecError, match=r"cannot build pytorch_lightning\.Trainer: .*'nonesuch'"):
        build({"_target_": "pytorch_lightning.Trainer", "accelerator": "nonesuch"}, logger=False)
    with pytest.raises(CrossrecError, match=r"cannot build torch\.nn\.Dropout: dropout probability .* between 0 and 1"):
        build({"_target_": "torch.nn.Dropout", "p": 2})

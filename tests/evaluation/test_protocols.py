import pytest
import torch

from crossrec.config import compose, plain
from crossrec.errors import CrossrecError
from crossrec.evaluation.protocols import Full, Sampled, candidate_hash, load_candidates, protocol, save_candidates


def candidates():
    return {"food": torch.arange(6).reshape(2, 3), "books": torch.tensor([[7]])}


def test_candidates_come_back_as_they_were_saved(tmp_path):
    path = tmp_path / "deeper" / "candidates.safetensors"
    save_candidates(path, candidates())
    loaded = load_candidates(path)
    assert loaded.keys() == candidates().keys()
    assert candidate_hash(loaded) == candidate_hash(candidates())
    assert [p.name for p in path.parent.iterdir()] == ["candidates.safetensors"]


def test_the_hash_depends_on_values_shapes_and_names_only():
    first = candidate_hash(candidates())
    assert len(first) == 64
    assert candidate_hash(dict(reversed(candidates().items()))) == first
    assert candidate_hash({k: v.T.contiguous().T for k, v in candidates().items()}) == first
    assert candidate_hash({**candidates(), "food": torch.arange(6).reshape(3, 2)}) != first
    assert candidate_hash({**candidates(), "books": torch.tensor([[8]])}) != first
    assert candidate_hash({"food": candidates()["food"], "book": torch.tensor([[7]])}) != first


def test_missing_and_broken_files_are_told(tmp_path):
    with pytest.raises(CrossrecError, match="no candidates at"):
        load_candidates(tmp_path / "none")
    (tmp_path / "broken").write_bytes(b"half a file")
    with pytest.raises(CrossrecError, match="no safetensors file"):
        load_candidates(tmp_path / "broken")


def test_protocols_refuse_what_they_would_ignore():
    assert protocol("full") == protocol("full", None, "uniform") == Full()
    assert protocol("sampled", 99) == Sampled(99, "uniform")
    assert str(protocol("sampled", 999, "popularity")) == "999 popularity candidates"
    for wrong in (
        ("ful",),
        ("full", 99),
        ("sampled",),
        ("sampled", 0),
        ("sampled", 99, "random"),
        ("full", None, "popularity"),
    ):
        with pytest.raises(CrossrecError, match=r"evaluation\."):
            protocol(*wrong)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("full", Full()), ("sampled_99", Sampled(99)), ("sampled_999", Sampled(999))],
)
def test_the_configs_are_these_protocols(name, expected):
    config = plain(compose([f"evaluation={name}"])["evaluation"])
    assert protocol(config["protocol"], config["n_candidates"], config["candidate_sampling"]) == expected
    assert config["ks"] == [1, 5, 10, 20]
    assert config["monitor"] == "ndcg@10"

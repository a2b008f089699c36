import csv
import math
import warnings
from pathlib import Path

import pytest
import torch
from running import crossrec, run

from crossrec.adaptation.mmd import MMD
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs
from crossrec.strategies.private_towers import FUSIONS, PrivateTowers

OWN = "strategy=shared_private"
ENCODERS = {
    "id": [],
    "transformer": ["user_encoder=transformer", "objective=sampled_softmax", "history_length=8"],
}
TERMS = ("mmd", "difference", "simse", "club", "vib")
every_encoder = pytest.mark.parametrize("more", ENCODERS.values(), ids=ENCODERS.keys())
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


def weights(made: RunFolder, path: str = "best") -> dict[str, torch.Tensor]:
    return torch.load(getattr(made, path), weights_only=True)["state_dict"]


def rows(n: int = 9, f: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, f, generator=g), torch.randint(0, 3, (n,), generator=g)


def moved(**options) -> PrivateTowers:
    """Towers of three domains away from their first values."""
    towers, g = PrivateTowers(5, 3, **options), torch.Generator().manual_seed(1)
    for parameter in towers.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=g)
    return towers


@every_fusion
@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_towers_start_as_the_identity(fusion: str, variational: bool, dim: int) -> None:
    before = torch.random.get_rng_state()
    towers = PrivateTowers(dim, 3, fusion=fusion, variational=variational).eval()
    vectors, domains = rows(f=dim)
    fused, layers = towers(vectors, domains)
    assert torch.equal(fused, vectors) and torch.equal(layers["reconstruction"], vectors)
    assert torch.equal(layers["input"], vectors) and (layers["shared"] * layers["private"]).abs().max() == 0
    assert torch.equal(layers["private"], torch.zeros_like(vectors)) or fusion != "shared"
    assert torch.equal(before, torch.random.get_rng_state())


@every_fusion
def test_towers_are_their_formulas(fusion: str) -> None:
    towers, (vectors, domains) = moved(fusion=fusion), rows()
    fused, layers = towers(vectors, domains)
    scale, even = (2 if fusion == "gate" else 1), torch.tensor([1.0, 0, 1, 0, 1])
    even = torch.ones(5) if fusion == "shared" else even
    for i, (h, d) in enumerate(zip(vectors, domains.tolist())):
        s = scale * even * h + towers.shared.weight @ h / 5
        p = scale * (1 - even) * h + towers.private[d] @ h / 5
        change = towers.fuse.weight @ torch.cat([s, p]) if fusion in ("gate", "concat-linear") else 0
        expected = s if fusion == "shared" else s + p + change / 5
        if fusion == "gate":
            gate = (change + towers.fuse.bias).sigmoid()
            expected = gate * s + (1 - gate) * p
        again = (s + p) / scale + towers.decoder.weight @ (s + p) / 5
        got = fused[i], layers["shared"][i], layers["private"][i], layers["reconstruction"][i]
        assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(got, (expected, s, p, again)))


def test_the_variational_part_is_drawn_in_training_alone() -> None:
    towers = moved(variational=True)
    vectors, domains = rows(1)
    vectors, domains = vectors.repeat(4000, 1), domains.repeat(4000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, layers = towers(vectors, domains)
    mean, deviation = layers["mean"][0], (0.5 * layers["log_variance"][0]).exp()
    noise = (layers["shared"] - mean) / deviation
    assert noise.mean(0).abs().max() < 0.06 and (noise.std(0) - 1).abs().max() < 0.06
    assert torch.allclose(layers["log_variance"], -10 + towers.log_variance(vectors))
    _, still = towers.eval()(vectors, domains)
    assert torch.equal(still["shared"], still["mean"]) and torch.equal(still["mean"], layers["mean"])


@every_fusion
def test_every_row_takes_its_own_domains_part_and_nothing_draws(fusion: str) -> None:
    before = torch.random.get_rng_state()
    towers, (vectors, domains) = moved(fusion=fusion), rows()
    whole, _ = towers(vectors, domains)
    for d in range(3):
        alone, _ = towers(vectors[domains == d], domains[domains == d])
        assert torch.allclose(alone, whole[domains == d], atol=1e-5)
    assert torch.equal(before, torch.random.get_rng_state())
    towers(vectors[:0], domains[:0])[1]["reconstruction"].sum().backward()
    assert towers.private.grad is not None and not towers.private.grad.any()


@every_fusion
def test_rows_without_history_stay_zero(fusion: str) -> None:
    fused, layers = moved(fusion=fusion)(torch.zeros(4, 5), torch.tensor([0, 1, 2, 1]))
    assert not fused.any() and not any(layer.any() for layer in layers.values())


@every_encoder
def test_without_private_parts_weight_zero_is_merged_training_bit_for_bit(small: list[str], more: list[str]) -> None:
    merged = run([*small, *more])
    words = [OWN, "strategy.private=false", "adaptation=[mmd]", "adaptation.mmd.weight=0"]
    made = run([*small, *more, *words, "strategy.space=both"])
    assert merged.id != made.id and merged.metrics == made.metrics
    assert not any(key.startswith("towers") for key in weights(made))
    assert all(torch.equal(value, weights(made)[key]) for key, value in weights(merged).items())


BF16 = "trainer.precision=bf16-mixed"
DECAY = "optimizer.weight_decay=0.1"


@pytest.mark.parametrize(
    ("fusion", "more"),
    [("gate", []), ("sum", [DECAY]), ("shared", [])]
    + [(fusion, [*ENCODERS["transformer"], more]) for fusion, more in zip(FUSIONS, (BF16, DECAY, BF16, BF16))],
)
def test_weight_zero_is_merged_training_bit_for_bit(small: list[str], fusion: str, more: list[str]) -> None:
    merged = run([*small, *more])
    words = [OWN, f"strategy.fusion={fusion}", "strategy.space=both", "strategy.variational=true"]
    words += [f"adaptation=[{','.join(TERMS)}]", "adaptation.mmd.space=both"]
    made = run([*small, *more, *words, *(f"adaptation.{name}.weight=0" for name in TERMS)])
    assert merged.id != made.id and merged.metrics == made.metrics
    for path in ("best", "last"):
        state = weights(made, path)
        assert all(torch.equal(value, state[key]) for key, value in weights(merged, path).items())
        parts = [value for key, value in state.items() if key.startswith("towers.")]
        assert len(parts) >= 10 and not any(value.any() for value in parts)
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        logged = next(row for row in csv.DictReader(file) if row["train/loss"])
    keys = ["mmd/users/0-1", "mmd/items/0-1", "difference/0", "simse/1", "club/0", "vib/1"]
    assert all(math.isfinite(float(logged[f"train/adaptation/{key}"])) for key in keys)


def test_no_terms_is_merged_training_and_weights_too_small_to_feel_are_the_parts_alone(small: list[str]) -> None:
    merged, none = run(small), run([*small, OWN, "adaptation=[]"])
    assert merged.metrics == none.metrics
    alone = run([*small, OWN, "adaptation=[mmd]", "adaptation.mmd.weight=1e-12"])
    assert weights(alone, "last")["towers.of_users.private"].any() and alone.metrics["test"] != merged.metrics["test"]


def test_parts_that_no_term_reads_are_told_and_left_as_they_are(small: list[str]) -> None:
    with pytest.warns(UserWarning, match=r"items are scored as in strategy=merged, because no adaptation term of"):
        made = run([*small, OWN, "strategy.space=both", "adaptation.mmd.space=users"])
    own = {key: value.any() for key, value in weights(made, "last").items() if key.startswith("towers.")}
    assert own["towers.of_users.shared.weight"] and not any(v for k, v in own.items() if k.startswith("towers.of_it"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*strategy=merged")
        made = run([*small, OWN, "strategy.space=both", "adaptation=[mcc]"])  # users, by their scores of items
    own = {key: value.any() for key, value in weights(made, "last").items() if key.startswith("towers.")}
    assert own["towers.of_users.shared.weight"] and own["towers.of_items.shared.weight"]


def test_private_parts_that_are_not_scored_learn_by_the_reconstruction(small: list[str]) -> None:
    words = [*small, OWN, "strategy.fusion=shared", "adaptation=[mmd,difference,club,simse]"]
    with pytest.warns(UserWarning, match=r"adaptation\.club reads private parts, but all are zero"):
        made = run([*words, "adaptation.simse.weight=0"])
    assert not weights(made, "last")["towers.of_users.private"].any()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*private parts")
        made = run(words)
    assert weights(made, "last")["towers.of_users.private"].any()


@pytest.mark.parametrize(
    ("fusion", "encoder"), [("gate", "id"), ("sum", "transformer"), ("concat-linear", "id"), ("shared", "transformer")]
)
def test_every_parameter_moves_and_a_state_is_loaded_whole(small: list[str], fusion: str, encoder: str) -> None:
    words = [*small, *ENCODERS[encoder], OWN, "strategy.space=both", "adaptation.simse.space=both"]
    words += [f"strategy.fusion={fusion}", "strategy.variational=true"]
    made = run([*words, f"adaptation=[{','.join(TERMS)}]"])
    state = weights(made, "last")
    own = {k: v for k, v in state.items() if k.startswith(("towers.", "adaptation.club."))}
    fused = {"gate": 2, "sum": 0, "concat-linear": 1, "shared": 0}[fusion]
    assert len(own) == 2 * (3 + 2 + fused) + 2 * 4 and all(v.any() for v in own.values())
    assert all((v != 0).flatten(1).any(1).all() for k, v in own.items() if k.endswith("private"))
    run_of, parts = load_run(made.path)
    assert all(torch.equal(value, parts.model.state_dict()[key]) for key, value in weights(run_of).items())
    assert math.isfinite(made.metrics["best_score"])


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_parts_that_are_not_scored(small: list[str], tmp_path: Path) -> None:
    words = [*small, OWN, "strategy.fusion=shared", "adaptation=[mmd]"]  # which reads no private part either
    one = run([*words, f"paths.runs={tmp_path / 'one'}"])
    done = crossrec("train", *words, "trainer=ddp", "trainer.accelerator=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (two,) = find_runs(tmp_path / "runs")
    ours, theirs = weights(one, "last"), weights(two, "last")
    assert all(torch.allclose(value, theirs[key], atol=1e-4) for key, value in ours.items())
    assert ours["towers.of_users.shared.weight"].any() and not ours["towers.of_users.private"].any()


@pytest.mark.parametrize("overlap", [0.0, 1.0])
@pytest.mark.parametrize("n_domains", [2, 5])
def test_two_to_five_domains_of_any_overlap(small: list[str], overlap: float, n_domains: int) -> None:
    words = [f"data.source.overlap={overlap}", f"data.source.n_domains={n_domains}", "target=all"]
    made = run([*small, *words, OWN, "strategy.space=both", "trainer.max_epochs=1"])
    assert all(math.isfinite(v) for v in made.metrics["test"].values())


def parts_of(made: RunFolder) -> tuple[float, float]:
    """Mean correlation, in square, of the users' shared and private parts, and MMD of the shared of both domains."""
    _, parts = load_run(made.path)
    model, member = parts.model.eval(), torch.from_numpy(parts.corpus.membership)
    shared, correlation = [], 0.0
    with torch.no_grad():
        for d in (0, 1):
            users = torch.nonzero(member[:, d]).squeeze(1)
            _, layers = model.represent("users", model.user_encoder(users), torch.full_like(users, d))
            shared.append(layers["shared"])
            both = torch.corrcoef(torch.cat([layers["shared"], layers["private"]], 1).T)
            correlation += float(both[:8, 8:].square().mean()) / 2
        return correlation, float(MMD(bandwidth="median").distance(*shared))


def test_terms_part_shared_from_private_and_join_the_shared(small: list[str]) -> None:
    words = [*small, OWN, "trainer.max_epochs=15", "callbacks=none", "optimizer.lr=0.02", "batch_size=256"]
    correlation, gap = parts_of(run([*words, "adaptation=[mmd]", "adaptation.mmd.weight=1e-12"]))
    apart, _ = parts_of(run([*words, "adaptation=[difference]", "adaptation.difference.weight=10"]))
    _, joined = parts_of(run([*words, "adaptation=[mmd]", "adaptation.mmd.weight=10"]))
    assert apart < 0.2 * correlation and joined < 0.5 * gap


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy.space=rows"], "strategy.space='rows' must be users, items or both"),
        (["strategy.fusion=max"], "strategy.fusion='max' must be gate, sum, concat-linear or shared"),
        (["strategy.private=maybe"], "strategy.private='maybe' must be true or false or history"),
        (["strategy.variational=2"], "strategy.variational=2 must be true or false"),
        (["strategy.private=false", "strategy.variational=true"], "strategy.variational=true needs"),
        (["strategy.private=false"], "adaptation.difference reads 'private', but the strategy only shows shared"),
        (["adaptation=[vib]"], "adaptation.vib reads 'mean'"),
        (["adaptation.difference.space=items"], "adaptation.difference reads 'shared'.*only shows partner"),
    ],
)
def test_mistakes_are_told(small: list[str], words: list[str], told: str) -> None:
    with pytest.raises(CrossrecError, match=told):
        run([*small, OWN, *words])

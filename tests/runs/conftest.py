"""A run on one of three domains that others begin with."""

import shutil
from pathlib import Path

import pytest
from running import run

from crossrec.runs.store import RunFolder


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
    return [*words, "item_encoder=text", *words_of("item_encoder", tiny_model)]


@pytest.fixture
def id_text(words: list[str], tiny_model: Path) -> list[str]:
    return [*words, "item_encoder=id_text", *words_of("item_encoder.encoders.text", tiny_model)]


@pytest.fixture
def source(text: list[str], cache: Path, tmp_path: Path) -> RunFolder:
    """Trained, once, on domain a alone, so its vector of b and its whitening are what they were made."""
    made = run([*text, "strategy=target_only", "target=a", f"paths.runs={cache / 'handover'}"])
    return RunFolder(Path(shutil.copytree(made.path, tmp_path / "runs" / made.id)))

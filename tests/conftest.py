import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data sets; the test is skipped where there is none."""
    folder = Path(os.environ.get("CROSSREC_SHARED", REPO.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("no real data: set CROSSREC_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def small(tmp_path: Path, cache: Path) -> list[str]:
    """Overrides of a run that takes a second: the synthetic corpus, two epochs, everything below temporary folders."""
    return [
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.prepared={cache / 'prepared'}",
        f"paths.features={cache / 'features'}",
        "data.source.n_users=120",
        "data.source.n_items=60",
        "data.source.interactions_per_user=8",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "batch_size=128",
        "dim=8",
    ]

import subprocess
import sys
from pathlib import Path

import pytest
from running import crossrec

from crossrec.cli import COMMANDS, main


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom crossrec.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'polars', 'hydra', 'omegaconf', 'pytorch_lightning', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
    assert f"usage: crossrec {command}" in capsys.readouterr().out


def test_a_misspelt_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["trian"])
    assert end.value.code == 2
    assert "no command 'trian'; did you mean train?" in capsys.readouterr().err


def test_ls_lists_groups_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["ls"])
    assert "strategy" in capsys.readouterr().out
    main(["ls", "strategy"])
    assert "target_only" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["ls", "strategi"])
    assert end.value.code == 1
    assert "did you mean strategy" in capsys.readouterr().err


def test_a_mistake_on_the_command_line_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    done = crossrec("train", "strategy=mmmd", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "crossrec train: error: no option 'mmmd' for strategy; did you mean mmd?"
    assert list(tmp_path.iterdir()) == []


def test_not_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "recommend"):
        with pytest.raises(SystemExit) as end:
            main([command, str(tmp_path)])
        assert end.value.code == 1
        assert "is not a run folder" in capsys.readouterr().err

"""What README.md prints of a loss of one's own, word for word."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from running import REPO


@dataclass(frozen=True)
class OwnLoss:
    """The files of a loss of one's own, and how it is trained.

    Args:
        code: of my_losses.py, a function and a class.
        config: of my_conf/adaptation/mean_gap.yaml, for the class.
        lines: of `crossrec train` without `crossrec`: for the function, and for the class; each with ``PYTHONPATH=.``.
    """

    code: str
    config: str
    lines: list[list[str]]

    def write(self, folder: Path) -> None:
        """Write both files."""
        (folder / "my_losses.py").write_text(self.code)
        (folder / "my_conf" / "adaptation").mkdir(parents=True)
        (folder / "my_conf" / "adaptation" / "mean_gap.yaml").write_text(self.config)


def own_loss() -> OwnLoss:
    text = (REPO / "README.md").read_text()
    code = re.search(r"```python\n(# my_losses\.py\n.*?)```", text, re.S)
    config = re.search(r"```yaml\n(# @package adaptation\.mean_gap\n.*?)```", text, re.S)
    lines = [shlex.split(line) for line in re.findall(r"^PYTHONPATH=\. crossrec train .*mean_gap.*$", text, re.M)]
    assert code and config and len(lines) == 2
    return OwnLoss(code[1], config[1], [words[2:] for words in lines])

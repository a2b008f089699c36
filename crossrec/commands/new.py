"""``crossrec new``: the files of a loss of one's own, in one's own folder."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from string import Template

from crossrec.config import options
from crossrec.errors import CrossrecError

PAIRS = """\
# all, target (every domain with the target) or chain
pairs: all
"""
ROWS = """\
# all, overlap or non_overlap
rows: all
"""
ROWS_OF_ALL = """\
# all, overlap (ids known in two domains or more) or non_overlap
rows: all
"""
CRITIC = """\
# reversal (one step for both, by gradient reversal) or alternating (the critic has its own optimizer)
mode: reversal
# of reversal: the vectors get this times the critic's negative gradient
reversal: 1.0
# of reversal: multiplies it; values as for schedule
reversal_schedule: dann
# of alternating: steps of the critic for each of the vectors
critic_steps: 1
# of alternating
critic_lr: 0.001
# width of the vectors
dim: ${dim}
# of the critic's first values
seed: ${seed}
"""


@dataclass(frozen=True)
class Kind:
    """What is written for a kind of loss.

    Attributes:
        text: what ``--help`` says of it.
        code: template of the class.
        test: template of its test.
        summary: description in the yaml.
        options: of the yaml, after those that every loss has.
        example: more words of the test's template: a number computed by hand.
    """

    text: str
    code: str
    test: str
    summary: str
    options: str = ""
    example: dict[str, str] = field(default_factory=dict)


KINDS = {
    "pairwise": Kind(
        text="distance(a, b) of two domains' samples",
        code="pairwise.py.txt",
        test="sides_test.py.txt",
        summary="squared distance of the domains' mean vectors",
        options=PAIRS + ROWS,
        example={
            "method": "distance",
            "a": "[[0.0, 0.0], [2.0, 0.0]]",
            "b": "[[4.0, 2.0], [4.0, 5.0], [4.0, 5.0]]",
            "value": "25.0",
            "sum": "means (1, 0) and (4, 4): 3^2 + 4^2",
            "rows": "4",
        },
    ),
    "paired": Kind(
        text="paired(a, b) of the same ids in two domains",
        code="paired.py.txt",
        test="sides_test.py.txt",
        summary="mean squared distance of an id's vectors in two domains",
        options=PAIRS,
        example={
            "method": "paired",
            "a": "[[0.0, 0.0], [1.0, 1.0]]",
            "b": "[[3.0, 4.0], [1.0, 2.0]]",
            "value": "13.0",
            "sum": "(3^2 + 4^2 + 1^2) / 2",
            "rows": "5",
        },
    ),
    "per_domain": Kind(
        text="single(view) of each domain by itself",
        code="per_domain.py.txt",
        test="single_test.py.txt",
        summary="squared length of a domain's mean vector",
        options=ROWS_OF_ALL,
        example={"a": "[[1.0, 0.0], [3.0, 4.0]]", "value": "8.0", "sum": "mean (2, 2): 2^2 + 2^2"},
    ),
    "adversarial": Kind(
        text="a critic, and critic_loss(rows) that it lowers and the vectors raise",
        code="adversarial.py.txt",
        test="critic_test.py.txt",
        summary="a critic that names a vector's domain, and vectors trained to fool it",
        options=ROWS_OF_ALL + CRITIC,
    ),
}


def main(arguments: list[str]) -> None:
    """Write the three files of a new loss and say how to use them."""
    parser = argparse.ArgumentParser(
        prog="crossrec new",
        description="Write a loss of your own: NAME.py with a class that works, conf/adaptation/NAME.yaml with every "
        "option, and test_NAME.py. Nothing is overwritten.",
        epilog="kinds: " + "; ".join(f"{name}: {kind.text}" for name, kind in KINDS.items()),
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=["adaptation"], help="adaptation: a loss on the domains' vectors")
    parser.add_argument("name", metavar="NAME", help="of the module and of the option, such as my_gap")
    parser.add_argument("--kind", choices=KINDS, default="pairwise", help="what the loss sees (default: pairwise)")
    parser.add_argument("--into", type=Path, default=Path(), metavar="FOLDER", help="default: this one")
    given = parser.parse_args(arguments)
    paths = write(given.name, given.kind, given.into)
    print(f"written: {', '.join(map(str, paths.values()))}")
    print("next:")
    for line in commands(given.name, given.kind, given.into):
        print(f"  {line}")


def commands(name: str, kind: str, folder: Path) -> list[str]:
    """Command lines that test and train a written loss; one of matched rows with users who have a vector a domain."""
    conf = shlex.quote(str(folder / "conf"))
    strategy = "contrastive" if kind == "paired" else "mmd"  # whose default term has its name
    return [
        f"python -m pytest {shlex.quote(str(folder / f'test_{name}.py'))}",
        f"PYTHONPATH={shlex.quote(str(folder))} crossrec train --config-dir {conf} strategy={strategy} "
        f"'adaptation=[{strategy},{name}]' adaptation.{name}.weight=0.1",
    ]


def write(name: str, kind: str, folder: Path) -> dict[str, Path]:
    """Write the files of a loss.

    Args:
        name: of its module and option.
        kind: one of ``KINDS``.
        folder: made if need be.

    Returns:
        ``code``, ``config`` and ``test`` -> the file.

    Raises:
        CrossrecError: the name cannot be used, or a file is there; nothing is written then.
    """
    from crossrec.runs.store import write_text

    paths = {
        "code": folder / f"{name}.py",
        "config": folder / "conf" / "adaptation" / f"{name}.yaml",
        "test": folder / f"test_{name}.py",
    }
    _check_word(name)
    if folder.exists() and not folder.is_dir():
        raise CrossrecError(f"--into {folder} is a file, not a folder")
    for path in (*paths.values(), folder / name):
        if path.exists():
            raise CrossrecError(
                f"{path} is there already: nothing is overwritten; choose another name or --into FOLDER"
            )
    _check_free(name)
    made = KINDS[kind]
    words = {"name": name, "class_name": class_name(name), "summary": made.summary}
    words |= made.example
    texts = {
        "code": _template(made.code, words),
        "config": _template("common.yaml.txt", words) + made.options,
        "test": _template(made.test, words),
    }
    written: list[Path] = []
    try:
        for role, text in texts.items():
            write_text(paths[role], text)
            written.append(paths[role])
    except OSError as error:
        for path in written:
            path.unlink()
        raise CrossrecError(f"cannot write {error.filename}: {error.strerror}; choose another --into FOLDER") from error
    return paths


def class_name(name: str) -> str:
    """``my_gap`` -> ``MyGap``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _template(file: str, words: dict[str, str]) -> str:
    return Template((Path(__file__).parents[1] / "templates" / file).read_text()).substitute(words)


IN_TEMPLATES = {
    "Tensor", "DomainViews", "PairwiseAdaptation", "PairedAdaptation", "PerDomainAdaptation", "AdversarialAdaptation",
    "CriticRows", "Path",
}  # fmt: skip
LITERALS = {"null", "true", "false", "nan", "inf"}


def _check_word(name: str) -> None:
    """Refuse what cannot be the name of a module, a class and a word of ``adaptation=[...]``."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise CrossrecError(f"{name!r} cannot name a Python module: use small letters, digits and _, as in my_gap")
    made = class_name(name)
    if keyword.iskeyword(name) or keyword.iskeyword(made) or name in LITERALS or made in IN_TEMPLATES:
        raise CrossrecError(f"{name!r} means something else in Python or in a config: choose another, as in my_{name}")


def _check_free(name: str) -> None:
    """Refuse a name under which something else would be found."""
    from torch import nn

    if name in options("adaptation"):
        raise CrossrecError(f"adaptation={name} is there already (`crossrec ls adaptation`): choose another name")
    if find_spec(name) is not None:
        raise CrossrecError(f"{name!r} is a module that Python can import already: choose another, as in my_{name}")
    if hasattr(nn.ModuleDict(), name):
        raise CrossrecError(f"{name!r} is an attribute of every torch module: choose another, as in my_{name}")

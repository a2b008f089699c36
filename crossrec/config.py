"""Where ``conf/`` is, how a config is composed, and the only place that builds objects from one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from crossrec.errors import CrossrecError
from crossrec.plugins import installed

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = (
    "data", "split", "sampler", "item_encoder", "tuning", "user_encoder", "strategy", "adaptation", "objective",
    "optimizer", "scheduler", "trainer", "evaluation", "logger", "callbacks", "experiment",
)  # fmt: skip
"""The choices of a run: one folder of ``conf/`` each."""


OUTSIDE = ("torch.", "pytorch_lightning.")
"""Packages whose classes are built as they are: what they raise then is about the options they got."""


def conf_dir() -> Path:
    """Return the folder of configs: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise CrossrecError(f"no conf/ folder beside or inside {package}: reinstall crossrec")


class Source(NamedTuple):
    """A folder of configs.

    Attributes:
        owner: the installed package, or the folder as the command line gave it; empty for our own.
        folder: where config groups are looked up.
    """

    owner: str
    folder: Path


def sources(config_dirs: Sequence[Path] = ()) -> list[Source]:
    """Folders of configs in Hydra's order: ours, installed packages', ``config_dirs``; none twice.

    Hydra takes the first file of a name and says nothing of the others, so a name of ours or of an installed package is
    refused in what comes later. Between two of ``config_dirs`` the first wins, as they are written.

    Raises:
        CrossrecError: a name is taken, or an installed package names no folder.
    """
    found = [Source("", conf_dir()), *(Source(p.package, p.folder) for p in installed(GROUPS))]
    taken: dict[tuple[str, str], str] = {}
    if len(found) > 1 or config_dirs:
        for owner, folder in found:
            _refuse_taken(folder, taken)
            taken |= dict.fromkeys(_names(folder), f"package {owner!r}" if owner else "crossrec")
    known = [source.folder.resolve() for source in found]
    for folder in config_dirs:
        if folder.resolve() not in known:
            _refuse_taken(folder, taken)
            known.append(folder.resolve())
            found.append(Source(str(folder), folder))
    return found


def _names(folder: Path) -> list[tuple[str, str]]:
    return [(group, path.stem) for group in GROUPS for path in (folder / group).glob("*.yaml")]


def _refuse_taken(folder: Path, taken: Mapping[tuple[str, str], str]) -> None:
    for group, name in sorted(_names(folder)):
        if owner := taken.get((group, name)):
            raise CrossrecError(
                f"{folder / group / name}.yaml would never be read: {group}={name} is an option of {owner}; "
                "give the file another name"
            )


def search_path(config_dirs: Sequence[Path] = ()) -> list[Path]:
    """Folders a config group is looked up in, ours first; see :func:`sources`."""
    return [source.folder for source in sources(config_dirs)]


def quoted(value: object) -> str:
    """Return ``value`` as a word of Hydra's override grammar that stands for its text, whatever letters it has."""
    escaped = re.sub(r"(\\*)('|\$\{|\Z)", lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), str(value))
    return f"'{escaped}'"


def search_path_word(folders: Iterable[object]) -> str:
    """Return the override that has Hydra look for configs in ``folders`` as well."""
    return f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders)}]"


def options(group: str, config_dirs: Sequence[Path] = ()) -> dict[str, str]:
    """List the options of a config group with the description in each file's first comment line.

    Args:
        group: folder below ``conf/``.
        config_dirs: more folders of configs (``--config-dir``).

    Returns:
        option name -> one-line description.
    """
    found: dict[str, str] = {}
    for name, (_, path) in option_files(group, config_dirs).items():
        comments = [line for line in path.read_text().splitlines() if line.startswith("#") and "@package" not in line]
        found[name] = comments[0].lstrip("# ") if comments else ""
    return found


def option_files(group: str, config_dirs: Sequence[Path] = ()) -> dict[str, tuple[str, Path]]:
    """List the options of a config group: name -> (owner of its :class:`Source`, file)."""
    found: dict[str, tuple[str, Path]] = {}
    for owner, folder in sources(config_dirs):
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, (owner, path))
    return found


def sets(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the file of an option sets besides itself: its keys, and group -> option of the choices it overrides."""
    import yaml

    node = yaml.safe_load(path.read_text()) or {}
    chosen: dict[str, str] = {}
    for entry in node.pop("defaults", []):
        for key, option in entry.items() if isinstance(entry, Mapping) else ():
            chosen[key.removeprefix("override ").lstrip("/")] = option
    return node, chosen


def compose(overrides: Sequence[str] = (), name: str = "train", config_dirs: Sequence[Path] = ()) -> DictConfig:
    """Compose a config outside of a Hydra application.

    Args:
        overrides: as on the command line of ``crossrec train``.
        name: primary config.
        config_dirs: more folders of configs.

    Raises:
        CrossrecError: a key or an option does not exist; the message names the nearest ones. Or see :func:`sources`
            and :func:`crossrec.keys.check_keys`.
    """
    from crossrec.composing import composed
    from crossrec.keys import check_keys, check_words
    from crossrec.suggestions import explain

    check_words(overrides)
    sources(config_dirs)
    try:
        config = composed(overrides, name, config_dirs)
    except Exception as error:
        raise explain(error, list(overrides), config_dirs) or error from error
    if name == "train":
        check_keys(config, config_dirs)
    return config


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a config node as a dictionary of plain values, interpolations resolved.

    Raises:
        CrossrecError: a value is mandatory and missing, or an interpolation leads nowhere.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise CrossrecError(
            f"config value {error.full_key!r} has no value: set it on the command line, as {error.full_key}=..."
        ) from error


def target_of(config: Mapping[str, Any]) -> str | None:
    """Name of the target domain; None where every domain is one."""
    name = config["target"]
    return None if name in (None, "all") else str(name)


def build(node: Any, **arguments: Any) -> Any:
    """Instantiate the ``_target_`` of a config node; lists and mappings inside arrive as plain Python values.

    ``arguments`` are handed over as they are (Hydra would turn dataclasses and lists into configs).

    Raises:
        CrossrecError: the target's own error sentence, or which argument it does not take.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    taken = [name for name in arguments if name in node]
    if taken:
        told = f"{taken[0]}={node[taken[0]]} has no effect: {node['_target_']}"
        raise CrossrecError(f"{told} gets its {taken[0]} from crossrec; leave it out")
    try:
        factory = instantiate(node, _partial_=True, _convert_="all") if arguments else None
        return factory(**arguments) if factory is not None else instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, CrossrecError):
            raise cause from None
        raise _refusal(node, cause, called=True) or error from error
    except Exception as error:
        raise _refusal(node, error, called=False) or error from error


def _refusal(node: Any, error: BaseException, *, called: bool) -> CrossrecError | None:
    """What to say when a node cannot be built; None where the fault may be in our code or the user's.

    Args:
        node: the node.
        error: what was raised.
        called: by the call itself or before it, and not of something inside.
    """
    target = str(node.get("_target_", node))
    called = called or str(error).startswith(target.rpartition(".")[2])
    outside = target.startswith(OUTSIDE) and not isinstance(error, CrossrecError)
    if outside or isinstance(error, ImportError) or (isinstance(error, TypeError) and called):
        return CrossrecError(f"cannot build {target}: {' '.join(str(error).split())}")
    return None


def target_name(node: Any) -> str:
    """Short name of what a node builds: the module of its ``_target_`` (``crossrec.strategies.mmd.MMD`` -> ``mmd``)."""
    return str(node["_target_"]).split(".")[-2]

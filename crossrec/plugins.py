"""Config folders that installed packages bring, by the entry point group ``crossrec.conf``."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from crossrec.errors import CrossrecError

ENTRY_POINTS = "crossrec.conf"


class Installed(NamedTuple):
    """A config folder of an installed package.

    Attributes:
        package: name of the distribution.
        folder: holds config groups.
    """

    package: str
    folder: Path


@cache
def installed(groups: tuple[str, ...]) -> tuple[Installed, ...]:
    """Find the config folders of installed packages, in the order of the packages' names; nothing of them is imported.

    Args:
        groups: names of the config groups; a folder holds at least one of them.

    Raises:
        CrossrecError: an entry point leads to no such folder; the message names the package.
    """
    from importlib.metadata import entry_points

    found = set()
    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else point.name
        folder = _folder(point.value)
        if folder is None or not any((folder / group).is_dir() for group in groups):
            wrong = "there is no such package" if folder is None else f"{folder} holds no config group"
            raise CrossrecError(
                f"the installed package {package!r} names {point.value!r} as its configs ([project.entry-points."
                f'"{ENTRY_POINTS}"] {point.name}), but {wrong}: mend its entry point, or pip uninstall {package}'
            )
        found.add(Installed(package, folder))
    return tuple(sorted(found))


def _folder(module: str) -> Path | None:
    """Folder of a package, or of a module's file; its parents are not imported, for they may import torch."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin).parent if spec.origin and not rest else None
    places = [Path(place) for place in spec.submodule_search_locations]
    for part in rest:
        inside = [place / part for place in places if (place / part).is_dir()]
        places = inside or [place for place in places if (place / f"{part}.py").is_file() and part == rest[-1]]
    return places[0] if places else None

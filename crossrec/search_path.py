"""Tell Hydra where installed packages keep configs."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from crossrec.config import GROUPS
from crossrec.plugins import installed


class InstalledConfigs(SearchPathPlugin):  # type: ignore[misc]
    """Looks in the folders of installed packages after ``conf/`` and before ``--config-dir``.

    A launcher's workers get the search path with the job; it lies outside of the ``hydra_plugins`` namespace, where it
    would change every Hydra application of the environment.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders."""
        for package, folder in installed(GROUPS):
            search_path.append(provider=package, path=f"file://{folder}")


def join() -> None:
    """Have Hydra look there in this process; again changes nothing."""
    Plugins.instance().register(InstalledConfigs)

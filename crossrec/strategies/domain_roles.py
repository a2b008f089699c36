"""Which domains a strategy trains on, selects its epoch by, and is tested in."""

from __future__ import annotations

from collections.abc import Sequence

from crossrec.data.schema import Domain


class DomainRoles:
    """The domains of a strategy, asked of its class before anything is built."""

    @classmethod
    def train_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Names of the domains whose training rows are used; by default all.

        Args:
            domains: all domains of the corpus.
            target: index of the target domain; None when every domain is one.
        """
        return [d.name for d in domains]

    @classmethod
    def trains_target(cls, domains: Sequence[Domain], target: int | None) -> bool:
        """Whether there is one target domain, and its rows train."""
        return target is not None and domains[target].name in cls.train_domains(domains, target)

    @classmethod
    def select_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Names of the domains whose validation selects the epoch, by the mean over them; no others are validated.

        The target, and all that train when every domain is one. A strategy that does not train on its target has no
        labels there to select by: it selects by what it trains on.
        """
        if target is not None and cls.trains_target(domains, target):
            return [domains[target].name]
        return cls.train_domains(domains, target)

    @classmethod
    def test_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Names of the domains that are tested; by default those that train."""
        return cls.train_domains(domains, target)

    def begins_with(self, run: str, trained: Sequence[str]) -> None:
        """Be told that weights of another run are handed over; by default nothing comes of it.

        Args:
            run: its id.
            trained: names of the domains they learnt from, there and before.
        """

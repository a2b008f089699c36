"""Begin a run with the weights of another: what is taken, what is left, and what stays fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import tables
from crossrec.encoders.domain_whitening import DomainWhitening
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import trained_domains
from crossrec.runs.matching import TOWERS, Part, check, pairs, parts, refusal
from crossrec.runs.source import Source
from crossrec.strategies.base import Strategy


@dataclass
class HandOver:
    """What a run began with.

    Attributes:
        run: id of the run that handed over.
        sha256: of its weights.
        taken: names of parameters and buffers.
        left: name, or part, that was not handed over -> why: of this run's, which began anew, and of that run's.
        learnt: names of the domains that the weights learnt from, in that run and in those that it began with.
    """

    run: str
    sha256: str
    taken: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    learnt: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to tell a person, a line each."""
        counts: dict[str, int] = {}
        for name in self.taken:
            tower = name.partition(".")[0]
            counts[tower] = counts.get(tower, 0) + 1
        said = ", ".join(f"{tower} ({n} tensors)" for tower, n in counts.items())
        left = (f"  not taken: {name}, {why}" for name, why in self.left.items())
        return [f"begins with weights of {self.run}: {said}", *left]


def hand_over(model: Strategy, config: Mapping[str, Any], corpus: Corpus) -> HandOver:
    """Put the weights of the run ``init.from`` into the towers of a new model.

    Encoders are matched by what they are, see :func:`~crossrec.runs.matching.pairs`. Tables of ids are taken where the
    corpus is the same one and their rows stand for the same ids, vectors of domains by the names of the domains that
    the other run trained on. What it has none for keeps its start; rows that ``init.freeze`` would keep so are zero.

    Args:
        model: of this run, as assembled.
        config: of this run, resolved.
        corpus: of this run.

    Raises:
        CrossrecError: there are no weights, they would mean something else here, none is taken, or ``init.freeze``
            would keep a part at its random start.
    """
    source = Source(Path(config["init"]["from"]))
    if config["dim"] != source.config["dim"]:
        raise refusal("dim", config["dim"], source.config["dim"], source.run.id)
    taking = _Taking(model, config, corpus, source)
    model.begins_with(source.run.id, taking.found.learnt)
    return taking.made()


def freeze(model: Strategy, names: list[str]) -> None:
    """Keep the parts of the towers called ``names`` as they are in training.

    Raises:
        CrossrecError: a name is no part's, or nothing is left that trains.
    """
    for name in names:
        try:
            part = model.get_submodule(name) if name.partition(".")[0] in TOWERS else None
        except AttributeError:
            part = None
        if part is None:
            inner = [f"{tower}.{child}" for tower in TOWERS for child, _ in model.get_submodule(tower).named_children()]
            raise CrossrecError(f"init.freeze names {name!r}: choose {', '.join(TOWERS)}, or of {', '.join(inner)}")
        part.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise CrossrecError(f"init.freeze=[{', '.join(names)}] leaves nothing to train: freeze less")


class _Taking:
    def __init__(self, model: Strategy, config: Mapping[str, Any], corpus: Corpus, source: Source) -> None:
        self.model, self.config, self.corpus, self.source = model, config, corpus, source
        earlier = source.run.metrics.get("init") or {}
        learnt = sorted({*self.trained, *earlier.get("learnt", [])})
        self.found = HandOver(source.run.id, source.sha256, learnt=learnt)
        self.over: list[str] = []  # what only that run has

    def made(self) -> HandOver:
        both = pairs(self.config, self.source.config)
        for here, there in both:
            check(here, there, self.source.run.id)
        for part in self.unmatched(self.config, [here.name for here, _ in both]):
            self.found.left[part] = "that run has no such encoder"
        for here, there in both:
            self.part(here, there)
        for tower in TOWERS:
            self.mixing(tower)
        if not self.found.taken:
            why = "; ".join(f"{name}: {reason}" for name, reason in self.found.left.items())
            raise CrossrecError(f"init.from={self.config['init']['from']} has nothing for this run ({why})")
        for name in self.config["init"]["freeze"]:
            if not any(taken.startswith(f"{name}.") for taken in self.found.taken):
                raise CrossrecError(f"init.freeze names {name!r}, but nothing of it was handed over")
        self.still()
        for part in self.unmatched(self.source.config, [there.name for _, there in both]):
            self.found.left.setdefault(part, "this run has no such encoder")
        for name in self.over:
            self.found.left.setdefault(name, "this run has none")
        return self.found

    @staticmethod
    def unmatched(config: Mapping[str, Any], matched: Collection[str]) -> list[str]:
        """Names of the encoders of a config that have no like in the other."""
        return [part.name for tower in TOWERS for part in parts(config, tower) if part.name not in matched]

    def still(self) -> None:
        """Make zero the rows that began anew in what ``init.freeze`` keeps: at random they would stay for ever."""
        freeze = self.config["init"]["freeze"]
        rows = [
            f"{tower}.{table}"
            for tower in TOWERS
            for what in ("id_rows", "domain_rows")
            for table in tables(self.model.get_submodule(tower), what)
        ]
        for left, why in self.found.left.items():
            whole, _, domain = left.removesuffix("]").partition("[")
            for name, parameter in self.model.named_parameters():
                frozen = _within(name, whole) and any(_within(name, part) for part in freeze)
                if not frozen or whole.endswith(".tower"):  # which starts as the pretrained model
                    continue
                if not any(_within(name, table) for table in rows):
                    raise CrossrecError(
                        f"init.freeze=[{', '.join(freeze)}] would keep {name} at its random start ({why}): freeze less"
                    )
                row = self.corpus.domain(domain).index if domain else slice(None)
                parameter.data[row] = 0.0
                self.found.left[left] = f"{why}: zero, as init.freeze keeps it"

    def part(self, here: Part, there: Part) -> None:
        """Take what an encoder can have of its like."""
        module = self.model.get_submodule(here.name)
        prefix = f"{there.name}."
        theirs = {n.removeprefix(prefix): v for n, v in self.source.state.items() if n.startswith(prefix)}
        ids, domains = tables(module, "id_rows"), tables(module, "domain_rows")
        new = dict(module.state_dict())
        for name, value in new.items():
            full = f"{here.name}.{name}"
            of_ids = any(_within(name, table) for table in ids)
            if of_ids and (reason := self.other_ids(here, there)):
                self.found.left[full] = reason
            elif (table := next((d for d in domains if _within(name, d)), None)) is not None:
                new[name] = self.by_domain(module, full, name, table, value, theirs)
            elif name not in theirs:
                tower = name.startswith("tower.")  # of a text model that trains here: one line, not one a matrix
                self.found.left[f"{here.name}.tower" if tower else full] = "that run has none"
            elif isinstance(value, Tensor) and value.shape != theirs[name].shape:
                if not of_ids:
                    raise refusal(full, tuple(value.shape), tuple(theirs[name].shape), self.source.run.id)
                self.found.left[full] = "that run has a table of another size"
            else:
                new[name] = theirs[name]
                self.found.taken.append(full)
        module.load_state_dict(new)
        self.over += [f"{there.name}.{name}" for name in self.only_there(theirs, new, domains)]

    def only_there(self, theirs: Mapping[str, Any], new: Collection[str], domains: Collection[str]) -> list[str]:
        """Tensors that only that run's encoder has, and what is of domains that train there alone."""
        mine = {d.name for d in self.corpus.domains}
        gone = {index: domain for domain, index in self.known.items() if domain not in mine}
        found = []
        for name in theirs:
            if table := next((t for t in domains if name.startswith(f"{t}.")), None):  # a module of each domain
                place = int(name.removeprefix(f"{table}.").partition(".")[0])
                found += [f"{table}[{gone[place]}]"] if place in gone else []
            elif name not in new:
                found.append(name)
            elif name in domains:
                found += [f"{name}[{domain}]" for domain in gone.values()]
        return found

    def by_domain(
        self, module: nn.Module, full: str, name: str, table: str, value: Tensor, theirs: Mapping[str, Any]
    ) -> Tensor:
        """Give a tensor that has a row of each domain, or is of one, what that run has for the domains of its name."""
        mine = [d.name for d in self.corpus.domains]
        if name == table:  # a row of each domain
            if name not in theirs:
                self.found.left[full] = "that run has none"
                return value
            made = value.clone()
            for row, domain in enumerate(mine):
                if (index := self.known.get(domain)) is None:
                    self.found.left[f"{full}[{domain}]"] = "that run did not train on this domain"
                else:
                    made[row] = theirs[name][index]
                    self.found.taken.append(f"{full}[{domain}]")
            return made
        place, _, rest = name.removeprefix(f"{table}.").partition(".")  # a module of each domain
        domain = mine[int(place)]
        if (index := self.known.get(domain)) is not None:
            self.found.taken.append(full)
            return cast(Tensor, theirs[f"{table}.{index}.{rest}"])
        owner = module.get_submodule(table.rpartition(".")[0])
        if isinstance(owner, DomainWhitening) and owner.shared is not None:
            encoder = full.partition(".whitening")[0]
            raise CrossrecError(
                f"{encoder}.per_domain=true with whitening=pca keeps statistics of each domain in axes that all share, "
                f"and {self.source.run.id}, whose axes init.from hands over, did not train on {domain!r}: set "
                "per_domain=false in both runs, or init.from=null"
            )
        self.found.left[full] = f"that run did not train on {domain!r}"
        return value

    @cached_property
    def known(self) -> dict[str, int]:
        """Name of each domain that the other run trained on -> its index there."""
        return {d.name: d.index for d in self.source.corpus(self.corpus).domains if d.name in self.trained}

    @cached_property
    def trained(self) -> list[str]:
        """Names of the domains that the other run trained on."""
        return trained_domains(self.source.config, self.source.corpus(self.corpus))

    def other_ids(self, here: Part, there: Part) -> str:
        """Why a table's rows stand for other ids than there; empty where they do not."""
        if not self.source.has(self.corpus):
            return "its rows are ids of another corpus"
        if here.node.get("untrained") != "zero":  # a row for every id
            return ""
        mine, theirs = ((c["split"], c.get("positive_rating")) for c in (self.config, self.source.config))
        same = mine == theirs and trained_domains(self.config, self.corpus) == self.trained
        return "" if same else "its rows are items with training rows, and other items have some"

    def mixing(self, tower: str) -> None:
        """Take the map of a fusion of the same encoders."""
        here, there = self.config[tower], self.source.config[tower]
        names, theirs = (
            [n for n in state if n.startswith(f"{tower}.mixing.")]
            for state in (self.model.state_dict(), self.source.state)
        )
        self.over += [name for name in theirs if not names]
        same = list(here.get("encoders", {})) == list(there.get("encoders", {})) and here.get("mode") == there.get(
            "mode"
        )
        with torch.no_grad():
            for name in names:
                if same and name in self.source.state:
                    self.model.get_parameter(name).copy_(self.source.state[name])
                    self.found.taken.append(name)
                else:
                    self.found.left[name] = "that run mixes other encoders"


def _within(name: str, table: str) -> bool:
    return name == table or name.startswith(f"{table}.")

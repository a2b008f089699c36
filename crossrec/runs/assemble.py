"""From a resolved config to the objects of a run: corpus, DataModule, strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from torch import Tensor

from crossrec.annotations import parameters
from crossrec.config import build, target_name, target_of
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.labels import Labelled
from crossrec.data.schema import Corpus, Domain
from crossrec.data.trained import train_membership, train_rows
from crossrec.encoders.base import UserEncoder
from crossrec.encoders.tuning import Frozen, Tuning
from crossrec.errors import CrossrecError
from crossrec.evaluation.collector import RankingMetrics
from crossrec.evaluation.protocols import Sampled, protocol
from crossrec.objectives.base import Objective
from crossrec.runs.config_check import check_target
from crossrec.runs.corpus import recorded_corpus
from crossrec.runs.identity import FROZEN, terms
from crossrec.runs.optimizers import optimizer_of, scheduler_of
from crossrec.runs.record import needs_weights
from crossrec.runs.store import RunFolder
from crossrec.runs.weights import best_checkpoint
from crossrec.strategies.base import Strategy


@dataclass(frozen=True)
class Assembly:
    """The objects of one run."""

    corpus: Corpus
    datamodule: MultiDomainDataModule
    model: Strategy


def target_index(config: Mapping[str, Any], corpus: Corpus) -> int | None:
    """Index of the target domain; None when every domain is one."""
    check_target(config, [domain.name for domain in corpus.domains])
    name = target_of(config)
    return None if name is None else corpus.domain(name).index


def trained_domains(config: Mapping[str, Any], corpus: Corpus) -> list[str]:
    """Names of the domains that a run of ``config`` on ``corpus`` trains on."""
    return list(strategy_of(config).train_domains(corpus.domains, target_index(config, corpus)))


def strategy_of(config: Mapping[str, Any]) -> type[Strategy]:
    """Class of a config's strategy.

    Raises:
        CrossrecError: its code is not found.
    """
    target = str(config["strategy"]["_target_"])
    module, _, name = target.rpartition(".")
    try:
        return cast("type[Strategy]", getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise CrossrecError(
            f"the strategy {target} cannot be imported ({error}): put its folder on PYTHONPATH"
        ) from error


def assemble(config: Mapping[str, Any], corpus: Corpus) -> Assembly:
    """Build the DataModule and the strategy of a run.

    Args:
        config: the resolved config as plain values.
        corpus: what :func:`~crossrec.runs.corpus.prepare_corpus` returned.

    Raises:
        CrossrecError: the parts of the config do not fit each other.
    """
    seed, target = int(config["seed"]), target_index(config, corpus)
    pl.seed_everything(seed, workers=True, verbose=False)
    strategy_class = strategy_of(config)
    objective = build(config["objective"])
    user_encoder = build(config["user_encoder"], corpus=corpus, dim=int(config["dim"]))
    trained = strategy_class.train_domains(corpus.domains, target)
    if len(trained) < 2 and config["adaptation"]:
        names = ", ".join(config["adaptation"])
        raise CrossrecError(f"adaptation=[{names}] compares domains, but only {trained[0]!r} trains: set adaptation=[]")
    _check_negatives(config, objective)
    _check_tuning(config, strategy_class.trains, objective.full)
    datamodule = _datamodule(config, corpus, strategy_class, objective, user_encoder)
    datamodule.setup("fit")
    counts, warm = datamodule.train_item_counts(), datamodule.train_item_mask()
    objective.prepare(counts)
    user_encoder.prepare(train_rows(corpus, datamodule.split, datamodule.train_indices, positive=True))
    item_encoder = build(config["item_encoder"], corpus=corpus, dim=int(config["dim"]), train_items=warm)
    _check_widths(config, strategy_class, user_encoder.dim, item_encoder.dim)
    logits = strategy_class.trains and objective.batch == "pointwise"
    popularity = datamodule.item_popularity()
    metrics = {
        stage: _metrics(config, [corpus.domains[i] for i in indices], popularity, warm, final=final, logits=logits)
        for stage, indices, final in (
            ("valid", datamodule.valid_indices, False),
            ("test", datamodule.eval_indices, True),
        )
    }
    model = build(
        config["strategy"],
        item_encoder=item_encoder,
        user_encoder=user_encoder,
        objective=objective,
        adaptation={name: _term(name, node) for name, node in terms(config).items()},
        optimizer=optimizer_of(config),
        scheduler=scheduler_of(config),
        domains=corpus.domains,
        target=target,
        metrics=metrics,
        monitor=str(config["evaluation"]["monitor"]),
        membership=torch.from_numpy(train_membership(corpus, datamodule.split, datamodule.train_indices)),
        entities=torch.from_numpy(corpus.items["entity"].to_numpy().copy()),
        train_items=warm,
        seed=seed,
    )
    if not strategy_class.trains:
        model.prepare(counts)
    return Assembly(corpus, datamodule, model)


def _check_negatives(config: Mapping[str, Any], objective: Objective) -> None:
    """Refuse a distribution of negatives for an objective that draws none, or that counts on the uniform one."""
    negatives = config["negatives"]
    if negatives == "uniform":
        return
    if not objective.n_negatives:
        raise CrossrecError(
            f"negatives={negatives} has no effect, because objective={target_name(config['objective'])} draws no "
            "negatives: leave it out, or choose objective=bpr, bce or sampled_softmax"
        )
    if getattr(objective, "correct", False):
        raise CrossrecError("objective.correct=true is for uniform negatives: set it to false, or negatives=uniform")


def _check_tuning(config: Mapping[str, Any], trains: bool, full: bool) -> None:
    """Refuse to train a text model where there is none, where nothing trains, or on whole catalogues."""
    tuning: Tuning = build(config.get("tuning", FROZEN))
    if isinstance(tuning, Frozen):
        return
    if not _has_key(config["item_encoder"], "tuning"):
        raise CrossrecError(
            f"tuning={tuning.name} is of a text model, and this item_encoder has none: choose item_encoder=text or "
            "id_text, or tuning=frozen"
        )
    if not trains:
        name = target_name(config["strategy"])
        raise CrossrecError(
            f"tuning={tuning.name} trains a text model, but strategy={name} trains nothing: set tuning=frozen"
        )
    if full and tuning.costly:
        raise CrossrecError(
            f"objective=softmax with tuning={tuning.name} would read the texts of whole catalogues, with gradient, in "
            "every step: choose objective=sampled_softmax or bpr, or tuning=side_network or frozen"
        )


def _term(name: str, node: Mapping[str, Any]) -> Any:
    """Build an adaptation term; the strategy gives it its name, too, but its own sentences should have it at once."""
    taken, others = parameters(get_object(node["_target_"]))
    return build(node, name=name) if others or "name" in taken else build(node)


def _check_widths(config: Mapping[str, Any], strategy: type[Strategy], users: int, items: int) -> None:
    """Refuse vectors of two widths where scores are inner products."""
    if strategy.trains and strategy.inner_product and users != items:
        raise CrossrecError(
            f"strategy={target_name(config['strategy'])} scores by inner products, but users have vectors of width "
            f"{users} and items of {items}: choose strategy=bert_concat, or encoders that both end in width dim"
        )


def _has_key(node: Any, key: str) -> bool:
    return isinstance(node, Mapping) and (key in node or any(_has_key(value, key) for value in node.values()))


def _datamodule(
    config: Mapping[str, Any], corpus: Corpus, strategy: type[Strategy], objective: Any, user_encoder: UserEncoder
) -> MultiDomainDataModule:
    evaluation, target = config["evaluation"], target_index(config, corpus)
    split, threshold = build(config["split"]), config.get("positive_rating")  # the configs of older records have none
    if threshold is None and objective.batch == "pointwise" and not objective.n_negatives:
        raise CrossrecError(
            "objective.n_negatives=0 leaves nothing to tell positives from: give at least 1, or label negatives by "
            "positive_rating"
        )
    ranked = protocol(evaluation["protocol"], evaluation["n_candidates"], evaluation["candidate_sampling"])
    return MultiDomainDataModule(
        corpus,
        split if threshold is None else Labelled(split, float(threshold)),
        batch="sequence" if user_encoder.uses_history else objective.batch,
        n_negatives=objective.n_negatives,
        shared_negatives=objective.shared,
        negatives=config["negatives"],
        sampler=build(config["sampler"]),
        batch_size=int(config["batch_size"]),
        train_domains=strategy.train_domains(corpus.domains, target),
        eval_domains=strategy.test_domains(corpus.domains, target),
        valid_domains=strategy.select_domains(corpus.domains, target),
        history_length=int(config["history_length"]),
        uses_history=getattr(strategy, "uses_history", user_encoder.uses_history),
        n_candidates=ranked.n_candidates if isinstance(ranked, Sampled) else 0,
        candidate_sampling=ranked.sampling if isinstance(ranked, Sampled) else "uniform",
        valid_queries=evaluation["valid_queries"],
        query_batch_size=evaluation["query_batch_size"],
        seed=int(config["seed"]),
    )


def _metrics(
    config: Mapping[str, Any], domains: list[Domain], popularity: Tensor, warm: Tensor, *, final: bool, logits: bool
) -> dict[int, RankingMetrics]:
    evaluation = config["evaluation"]
    return {
        d.index: RankingMetrics(
            n_items=d.n_items,
            start=d.start,
            ks=evaluation["ks"],
            item_popularity=popularity[d.start : d.stop],
            warm_items=warm[d.start : d.stop],
            keep_users=final,
            lists=final,
            diversity=final and evaluation["diversity"],
            logits=logits,
        )
        for d in domains
    }


def load_run(path: Path, evaluation: Mapping[str, Any] | None = None) -> tuple[RunFolder, Assembly]:
    """Rebuild a finished run's objects with the weights of its selected epoch.

    Args:
        path: run folder.
        evaluation: replaces the run's own ``evaluation`` group.

    Raises:
        CrossrecError: the folder holds no finished run, or its weights are gone or not in a record.
    """
    run = RunFolder.existing(path)
    if not run.finished:
        raise CrossrecError(f"run {run.id} is {run.status['state']}: train it to its end with the same line first")
    return run, restore(run, evaluation)


def restore(run: RunFolder, evaluation: Mapping[str, Any] | None = None) -> Assembly:
    """Rebuild the objects of a run whose weights are written, whatever its state; see :func:`load_run`."""
    needs_weights(run)
    config = run.effective
    if evaluation is not None:
        config["evaluation"] = dict(evaluation)
    assembly = assemble(config, recorded_corpus(run))
    if assembly.model.trains or run.best.is_file():  # a compressed run has one in any case
        assembly.model.load_state_dict(best_checkpoint(run)["state_dict"])
    return assembly

"""Train one run: from a resolved config to a finished run folder."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrec.errors import CrossrecError
from crossrec.runs.reading import read_json
from crossrec.runs.store import SINCE, RunFolder, RunTaken, write_json
from crossrec.runs.summary import print_run

if TYPE_CHECKING:
    from crossrec.runs.assemble import Assembly


def train(
    config: Mapping[str, Any], overrides: list[str], config_dirs: Sequence[Path] = (), remarks: Iterable[str] = ()
) -> RunFolder:
    """Train, select on validation, test once, and write the run folder; a finished run is returned at once.

    What can be told wrong of the config, the data and the machine is told before the folder is touched. What only shows
    when the run's objects are built is told then, and a folder that was made for it is taken away again.

    Args:
        config: the resolved config as plain values.
        overrides: the words that made it, for the record.
        config_dirs: folders of configs that made it, besides ours, for the record.
        remarks: sentences for who trains it, printed before; not of a run that is finished.

    Raises:
        CrossrecError: the run cannot be trained; the message names what is wrong and the mend.
    """
    from crossrec.runs.config_check import check
    from crossrec.runs.corpus import prepare_corpus

    quiet()
    if (run := _finished(config)) is not None:
        if is_main_process(config):
            print_run(run)
        return run

    from crossrec.runs.pruning import Pruned  # loads Lightning

    check(config, overrides)
    if is_main_process(config):
        for remark in remarks:
            print(remark, file=sys.stderr)
    corpus = prepare_corpus(config)
    run = RunFolder.of(config, corpus.fingerprint)
    if not (swept := SINCE in os.environ):
        _check_here(config, corpus)
    if not is_main_process(config):
        _fit_and_test(config, run, _built(config, run, corpus))
        return run
    with run.lock():
        if run.finished:
            return run
        if swept and run.failed_since(float(os.environ[SINCE])):
            raise RunTaken(f"run {run.id} has failed in another sweep meanwhile")
        folder = str((Path(config["paths"]["prepared"]) / str(corpus.provenance.get("folder", ""))).resolve())
        new, built = run.status["state"] == "new", None
        run.begin(config, overrides, {"fingerprint": corpus.fingerprint, "path": folder}, config_dirs)
        started, earlier = time.time(), float(run.status.get("seconds", 0.0))
        try:
            if swept:  # it leaves a run alone that has failed, and its table says why: there must be a record
                _check_here(config, corpus)
            built = _built(config, run, corpus)
            _fit_and_test(config, run, built)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into an exit
            run.mark("interrupted", ended=time.time(), seconds=earlier + time.time() - started)
            raise
        except BaseException as error:
            run.mark(
                "pruned" if isinstance(error, Pruned) else "failed",
                ended=time.time(),
                seconds=earlier + time.time() - started,
                error=f"{type(error).__name__}: {error}",
            )
            if new and built is None and isinstance(error, CrossrecError) and not swept:
                run.discard()
            raise
        run.mark("finished", ended=time.time(), seconds=earlier + time.time() - started, error=None)
    print_run(run)
    return run


def _finished(config: Mapping[str, Any]) -> RunFolder | None:
    """The run of a config where it is finished; nothing heavy is loaded for that."""
    from crossrec.runs.corpus import fingerprint_at_hand

    known = fingerprint_at_hand(config)
    return run if known is not None and (run := RunFolder.of(config, known)).finished else None


def is_main_process(config: Mapping[str, Any]) -> bool:
    """Whether this process writes the run's record: rank 0 of those that train the run together."""
    # torchrun sets RANK; Lightning's own launcher only LOCAL_RANK and NODE_RANK
    names = ["RANK"] if "RANK" in os.environ else ["LOCAL_RANK", "NODE_RANK"]
    trainer = config["trainer"]
    if str(trainer["devices"]) != "1" or int(trainer["num_nodes"]) != 1:
        names.append("SLURM_PROCID")  # the rank of a run over several tasks; runs of one task each are all main
    return all(int(os.environ.get(name, 0)) == 0 for name in names)


class _Built(NamedTuple):
    """The objects of a run before its first step.

    Attributes:
        parts: corpus, DataModule and model; the model has the weights it begins with.
        callbacks: of the trainer.
        best: the one of them that keeps the selected epoch; None where nothing trains.
        step: global step of the checkpoint that training goes on from; None where it begins.
    """

    parts: Assembly
    callbacks: list[Any]
    best: Any
    step: int | None


def _built(config: Mapping[str, Any], run: RunFolder, corpus: Any) -> _Built:
    """Build what may be refused before anything trains."""
    from crossrec.runs.assemble import assemble
    from crossrec.runs.weights import last_checkpoint

    parts = assemble(config, corpus)
    parts.datamodule.check_candidates("valid", "test")
    if parts.model.trains:
        begin(config, run, corpus, parts.model)
    last = last_checkpoint(run)
    step = None if last is None else int(last["global_step"])
    return _Built(parts, *_callbacks(config, run, parts.model.trains), step)


def _fit_and_test(config: Mapping[str, Any], run: RunFolder, built: _Built) -> None:
    import pytorch_lightning as pl

    from crossrec.runs.results import measure, write_results

    parts, callbacks, best, step = built
    model, data = parts.model, parts.datamodule
    with _loggers(config, run, step) as loggers:
        trainer: pl.Trainer = _trainer(config, run, loggers, callbacks)
        record: dict[str, Any] = {
            "monitor": config["evaluation"]["monitor"],
            "protocol": config["evaluation"]["protocol"],
        }
        record |= {"best_epoch": None, "best_score": None}
        if model.trains:
            record |= _fit(trainer, model, data, run, best, resume=step is not None)
            record |= {"init": read_json(run.begun)} if run.begun.is_file() else {}
        tables = measure(trainer, model, data, record)
        if trainer.is_global_zero:
            write_results(run, record, data, tables)


def begin(config: Mapping[str, Any], run: RunFolder, corpus: Any, model: Any) -> None:
    """Take the weights that ``init`` names, once: a resumed run goes on with its own; ``init.json`` says which."""
    from dataclasses import asdict

    from crossrec.runs.handover import freeze, hand_over
    from crossrec.runs.identity import beginning

    init = beginning(config)
    if init is None:
        return
    if not run.last.is_file() and not (run.path / "fit.json").is_file():
        found = hand_over(model, config, corpus)
        if is_main_process(config):
            write_json(run.begun, {**asdict(found), "freeze": sorted(init["freeze"])})
            print("\n".join(found.lines()))
    freeze(model, init["freeze"])


def _fit(trainer: Any, model: Any, data: Any, run: RunFolder, best: Any, *, resume: bool) -> dict[str, Any]:
    """Train to the end and load the selected epoch; ``fit.json`` says that this is done, for a run killed later."""
    from crossrec.runs.weights import best_checkpoint

    done = run.path / "fit.json"
    if not done.is_file():
        trainer.fit(model, datamodule=data, ckpt_path=run.last if resume else None, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if not run.best.is_file():
            raise CrossrecError(
                f"no epoch was validated in {trainer.max_epochs} epochs, so none can be selected: "
                "raise trainer.max_epochs or lower trainer.check_val_every_n_epoch"
            )
    state = best_checkpoint(run)
    model.load_state_dict(state["state_dict"])
    if done.is_file():
        return dict(read_json(done))
    record = {
        "best_epoch": int(state["epoch"]),
        "best_score": float(best.best_model_score),
        "epochs": trainer.current_epoch,
    }
    if trainer.is_global_zero:
        write_json(done, record)
    return record


def _callbacks(config: Mapping[str, Any], run: RunFolder, trains: bool) -> tuple[list[Any], Any]:
    from crossrec.config import build
    from crossrec.runs.callbacks import checkpoints
    from crossrec.runs.pruning import Pruning

    if not trains:
        return [], None
    steps = config["checkpoint_every_n_steps"]
    best, resume = checkpoints(run, int(steps) if steps else None)
    built = [build(c) for c in config["callbacks"].values() if c]
    return [best, *built, *Pruning.from_environment(), *resume], best


def _check_here(config: Mapping[str, Any], corpus: Any) -> None:
    """Refuse domains that the corpus has not, and a trainer that this machine has not or whose options clash."""
    from crossrec.config import build
    from crossrec.runs.config_check import check_domains

    check_domains(config, corpus.domains)
    build(dict(config["trainer"]), logger=False, enable_checkpointing=False, enable_model_summary=False)


def _trainer(config: Mapping[str, Any], run: RunFolder, loggers: Any, callbacks: list[Any]) -> Any:
    from pytorch_lightning.callbacks import TQDMProgressBar

    from crossrec.config import build

    options = dict(config["trainer"])
    if options.get("enable_progress_bar", True):
        callbacks = [*callbacks, TQDMProgressBar(refresh_rate=20, leave=False)]
    return build(
        options,
        logger=loggers,
        callbacks=callbacks,
        default_root_dir=str(run.path),
        enable_checkpointing=any(type(c).__name__ == "ModelCheckpoint" for c in callbacks),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        log_every_n_steps=10**9,
    )


@contextmanager
def _loggers(config: Mapping[str, Any], run: RunFolder, step: int | None) -> Iterator[Any]:
    """Build the chosen logger and the CSV log beside it, which learning curves are drawn from; none with logger=none.

    A run that goes on from ``step`` keeps its rows up to there. Whatever happens, W&B's run is closed, so the next run
    of a sweep does not join it.
    """
    from pytorch_lightning.loggers import CSVLogger

    from crossrec.config import build
    from crossrec.runs.csv_log import go_on

    node, folder = config["logger"], str(run.path)
    if not node.get("_target_"):
        yield False
        return
    with ExitStack() as stack:
        chosen: Any
        if node["_target_"] == "crossrec.runs.wandb_log.WandbLog":
            from crossrec.runs.wandb_log import wandb_log

            chosen = stack.enter_context(wandb_log(config, run, main=is_main_process(config)))
        else:
            chosen = build(node, save_dir=folder, name="log", version="")
        log = chosen if isinstance(chosen, CSVLogger) else CSVLogger(folder, name="log", version="")
        if is_main_process(config) and step is not None:
            go_on(log, step)
        yield [chosen] if chosen is log else [chosen, log]


def quiet() -> None:
    """Silence Lightning's advice, which is about code that users of the command line do not own."""
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning.*")
    warnings.filterwarnings("ignore", module="lightning_fabric.*")

"""From a finished run to another one with a compressed text model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crossrec.compression.base import Compression, Facts, NetworkCompression, batches
from crossrec.compression.pca import PCA
from crossrec.compression.speed import speeds
from crossrec.config import build
from crossrec.encoders.compressed import memory, write_network
from crossrec.encoders.model_files import file_digest
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.projection import INSIDE, ProjectedText
from crossrec.encoders.text import TextEncoder
from crossrec.encoders.text_model import TextModel, text_model_of
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly, load_run, restore
from crossrec.runs.compressed import MODEL, REPORT, text_encoders
from crossrec.runs.config_check import check_node
from crossrec.runs.evaluator import evaluator
from crossrec.runs.identity import run_id
from crossrec.runs.original import RunText, run_text, sample, stored_bytes
from crossrec.runs.results import measure, write_results
from crossrec.runs.store import RunFolder, write_json
from crossrec.runs.summary import domain_rows
from crossrec.runs.train import quiet
from crossrec.runs.weights import best_checkpoint

WANTED = "ndcg@10"
"""The validation metric that is compared; where a run has no such, the one that selects its epoch."""


def compress(path: Path, method: Mapping[str, Any], texts: int = 512, rounds: int = 3) -> RunFolder:
    """Make a compressed run beside a finished one; one that is there already is returned at once.

    The run's validation and test metrics are computed as at the end of training. What is compared with the source,
    in ``compression.json``, is on validation, so that a compression can be chosen by it.

    Args:
        path: run folder of the source.
        method: ``name``, and the config of a :class:`~crossrec.compression.base.Compression`.
        texts: distinct texts to time both models on, drawn at random.
        rounds: of timing.

    Raises:
        CrossrecError: the run has no text model that can be compressed so.
    """
    quiet()
    if texts < 1 or rounds < 1:
        raise CrossrecError(f"--texts {texts} and --rounds {rounds} must be at least 1")
    options = {key: value for key, value in method.items() if key != "name"}
    check_node(f"compress.{method['name']}", options)
    compression: Compression = build(options)
    source = RunFolder.existing(path)
    weights = file_digest(source.best) if source.best.is_file() else None
    about = {"source": source.id, "weights": weights, "method": compression.resolved(method)}
    config = {**source.config, "compression": about}
    run = RunFolder(source.path.resolve().parent / run_id(config, source.fingerprint))
    if run.finished:
        return run
    source, parts = load_run(path)
    with run.lock():
        run.begin(config, source.overrides, source.corpus, source.config_dirs)
        started = time.time()
        try:
            _compress(run, source, parts, compression, texts, rounds)
        except BaseException as error:
            run.mark("failed", ended=time.time(), error=f"{type(error).__name__}: {error}")
            raise
        run.mark("finished", ended=time.time(), seconds=time.time() - started, error=None)
    return run


def _compress(
    run: RunFolder, source: RunFolder, parts: Assembly, compression: Compression, texts: int, rounds: int
) -> None:
    before = run_text(parts, source.effective)
    facts = _write_model(run.path / MODEL, before, compression)
    _write_weights(run, source, parts)
    made = restore(run)
    (node,) = text_encoders(run.effective["item_encoder"])
    after = text_model_of(node)
    pace = _speeds(before, after, texts, rounds)
    trainer: Any = evaluator(run.config)
    record: dict[str, Any] = {key: source.metrics[key] for key in ("monitor", "protocol", "best_epoch", "best_score")}
    tables = measure(trainer, made.model, made.datamodule, record)
    write_json(
        run.path / REPORT,
        {
            "facts": facts,
            "stored": [before.stored, stored_bytes(after)],
            "memory": [_memory(before.model), _memory(after)],
            "cached": [_cached(before.model, before.texts), _cached(after, before.texts)],
            **pace,
            "cosine": {"texts": _text_cosine(before, after), "items": _item_cosine(parts, made)},
            **_quality(source.metrics, record),
        },
    )
    write_results(run, record, made.datamodule, tables)


def _write_model(folder: Path, before: RunText, compression: Compression) -> Facts:
    """Write the compressed text model; a folder that a killed process left is written anew."""
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(compression, PCA):
        projection, facts = compression.fit(before.original)
        key = before.model.key
        if not before.named:
            key = _copy_model(before.model, folder / INSIDE)
        projection.save(folder, before.model.model if before.named else None, key)
        return facts
    if not isinstance(compression, NetworkCompression):
        raise CrossrecError(f"{type(compression).__name__} is neither a NetworkCompression nor PCA")
    original, model = before.network, before.model
    assert isinstance(model, PretrainedText)
    network = deepcopy(original)
    facts = compression.compress(network, model.holding(network), before.original)
    write_network(network, model.tokenizer, folder)
    return facts


def _copy_model(model: TextModel, folder: Path) -> str:
    """Write a model that has no files of its own beside the run's; its key there."""
    assert isinstance(model, PretrainedText)  # of no other are there weights of a run's own
    write_network(model.network, model.tokenizer, folder)
    return PretrainedText(str(folder), model.pooling, model.prefix, model.max_length).key


def _write_weights(run: RunFolder, source: RunFolder, parts: Assembly) -> None:
    """Write the checkpoint: the source's, without what trained in its text model, which is in the model's folder.

    A run that trains nothing has one too, once it is compressed: its whitening stays as it was fitted on the vectors of
    the source.
    """
    towers = tuple(f"{name}.tower." for name, part in parts.model.named_modules() if isinstance(part, TextEncoder))
    if source.best.is_file():
        state = best_checkpoint(source)
    else:
        state = {"state_dict": parts.model.state_dict(), "epoch": 0, "global_step": 0}
    kept = {name: value for name, value in state["state_dict"].items() if not name.startswith(towers)}
    run.best.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": kept, "epoch": state["epoch"], "global_step": state["global_step"]}, run.best)


def _speeds(before: RunText, after: TextModel, texts: int, rounds: int) -> dict[str, Any]:
    chosen = sample(before.model, before.texts, texts)
    pace = speeds([before.model, after], chosen, before.original.batch_size, rounds)
    device = getattr(before.model, "device", "cpu")
    return {"items/s": pace, "timed": {"texts": len(chosen), "rounds": rounds, "threads": torch.get_num_threads(),
                                       "device": device}}  # fmt: skip


def _memory(model: TextModel) -> int | None:
    inner = model.inner if isinstance(model, ProjectedText) else model
    return memory(inner.network) if isinstance(inner, PretrainedText) else None


def _cached(model: TextModel, texts: Sequence[str]) -> int:
    """Bytes of the vectors of all distinct texts in the cache, two a number."""
    return len(texts) * model.encode(texts[:1]).shape[1] * 2


def _text_cosine(before: RunText, after: TextModel) -> float:
    texts = before.original.spread(512)
    old = before.original.read(texts)
    new = torch.cat([after.encode(part) for part in batches(texts, before.original.batch_size)])
    if isinstance(after, ProjectedText):
        new = torch.from_numpy(after.restore(new.numpy()))
    return float(F.cosine_similarity(old, new).mean())


@torch.no_grad()
def _item_cosine(old: Assembly, new: Assembly) -> float:
    """Mean cosine of the vectors that are scored, over the catalogues of the evaluated domains."""

    def vectors(parts: Assembly) -> Tensor:
        parts.model.eval().cpu()
        return torch.cat([parts.model.catalogue(index) for index in parts.datamodule.eval_indices])

    a, b = vectors(old), vectors(new)
    some = (a.norm(dim=1) > 0) | (b.norm(dim=1) > 0)  # an item without a text may have no vector at all
    return float(F.cosine_similarity(a[some], b[some]).mean())


def _quality(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The compared metric of each validated domain and their mean, before and after."""
    old, new = domain_rows(before["valid"]), domain_rows(after["valid"])
    metric = WANTED if any(WANTED in row for row in old.values()) else str(before["monitor"])
    by_domain = {domain: [row[metric], new[domain][metric]] for domain, row in old.items() if metric in row}
    if len(by_domain) == 2:  # one domain, which is the mean too
        by_domain.pop("macro", None)
    return {"metric": metric, "valid": by_domain}

"""The optimizer and the scheduler of a run, tried on one weight before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from crossrec.config import build
from crossrec.errors import CrossrecError


def optimizer_of(config: Mapping[str, Any]) -> Callable[..., torch.optim.Optimizer]:
    """Return what makes the optimizer from parameters.

    A fused step undoes the scaling of mixed precision by itself, so Lightning could not clip before it and refuses to;
    where a run does both, the step is not fused, which is the same arithmetic.

    Args:
        config: the resolved config as plain values.

    Raises:
        CrossrecError: the optimizer refuses an option; the message names it.
    """
    node, trainer = dict(config["optimizer"]), config["trainer"]
    if trainer.get("gradient_clip_val") and "mixed" in str(trainer.get("precision")):
        node.pop("fused", None)
    _try("optimizer", node, _one_step)
    return build(node)  # type: ignore[no-any-return]


def scheduler_of(config: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return what makes the scheduler from an optimizer; None for a constant learning rate.

    Args:
        config: the resolved config as plain values.

    Raises:
        CrossrecError: the scheduler refuses an option; the message names it.
    """
    node = config["scheduler"]
    if not node.get("_target_"):
        return None
    _try("scheduler", node, _one_epoch)
    return build(node)  # type: ignore[no-any-return]


def _weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(1, 1))


def _one_step(factory: Callable[..., torch.optim.Optimizer]) -> None:
    weight = _weight()
    weight.grad = torch.zeros_like(weight)
    factory([weight]).step()


def _one_epoch(factory: Callable[..., Any]) -> None:
    optimizer = torch.optim.SGD([_weight()], lr=0.1)
    scheduler = factory(optimizer)
    optimizer.step()
    scheduler.step()


def _try(group: str, node: Mapping[str, Any], use: Callable[[Any], object]) -> None:
    """Refuse a node whose object cannot be used; blamed is the option without which it can be."""
    error = _failure(node, use)
    if error is None:
        return
    options = [key for key in node if not key.startswith("_")]
    without = {key: _failure({k: v for k, v in node.items() if k != key}, use) for key in options}
    # or, where leaving none out helps, the one that it must have
    blamed = [k for k in options if without[k] is None] or [k for k in options if isinstance(without[k], TypeError)]
    said = f"{group}.{blamed[0]}={node[blamed[0]]}" if blamed else f"the config of {group}"
    name = str(node["_target_"]).rpartition(".")[2]
    raise CrossrecError(f"{said} is refused by {name} ({error}): set another value") from error


def _failure(node: Mapping[str, Any], use: Callable[[Any], object]) -> Exception | None:
    try:
        use(build(dict(node)))
    except CrossrecError:
        raise
    except Exception as error:  # whatever somebody else's class raises
        return error
    return None

"""Two processes that train together, on the CPU."""

import io
import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist


def in_two_processes(work: Callable[[int], Any], timeout: float = 120) -> list[Any]:
    """What ``work(rank)``, a function of a module, returns in each of two processes that gloo joins."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_joined, args=(work, rank, port, queue), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    results = [torch.load(io.BytesIO(queue.get(timeout=timeout))) for _ in processes]
    for process in processes:
        process.join(30)
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def _joined(work: Callable[[int], Any], rank: int, port: int, queue: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    file = io.BytesIO()  # a tensor in a queue goes with its process
    torch.save((rank, work(rank)), file)
    queue.put(file.getvalue())
    dist.barrier()
    dist.destroy_process_group()

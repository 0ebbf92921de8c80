"""The group of processes that train together."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import distributed as dist

# How long the others wait while the first process prepares the cases (torch's own 10 minutes on GPUs are too few).
PATIENCE = timedelta(days=1)

_left: list[dist.ProcessGroup | None] = []


def join_processes() -> tuple[int, int]:
    """(rank, number of processes); joins the process group when torchrun has started this process."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leave_processes() -> None:
    """Leave the group together with the others; nothing where there is none."""
    if not dist.is_initialized():
        return
    # The group must outlive the network. Python frees a group without holding its interpreter's lock, but the reducer
    # of a DistributedDataParallel that has the last reference frees it holding the lock, while it waits for threads
    # of gloo which may want that lock to let go of a tensor: the process never ended.
    _left.append(dist.group.WORLD)
    dist.barrier()  # who leaves while the first process still writes can take the group's store along
    dist.destroy_process_group()

"""The group of processes that train together."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import distributed as dist

# How long the others wait while the first process prepares the cases (torch's own 10 minutes on GPUs are too few).
PATIENCE = timedelta(days=1)

_left: list[dist.ProcessGroup | None] = []


def join_processes(device: torch.device) -> tuple[int, int, torch.device]:
    """(rank, number of processes, the device of this one); joins the group when torchrun has started this process.

    device: what the training was asked to run on; of several processes with CUDA each has a GPU of its own. Raises
    ValueError where there are fewer GPUs than processes.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and device.type == "cuda":
        own, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if own >= gpus:
            raise ValueError(f"{own + 1} processes or more on a machine with {gpus} GPUs: one each, or --device cpu")
        device = torch.device("cuda", own)
        torch.cuda.set_device(device)
    if processes > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return (dist.get_rank(), dist.get_world_size(), device) if dist.is_initialized() else (0, 1, device)


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

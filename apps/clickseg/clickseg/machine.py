"""What this machine does fast: number formats and memory allocation, chosen at run time."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys

import numpy as np
import torch
from numpy.typing import NDArray

PIECE = 2**20  # voxels


def pick_device(name: str = "auto") -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1` ... ValueError if it is not there.

    A GPU has its number, so that one is not taken for two.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if not isinstance(name, str) or device.type not in ("cpu", "cuda"):
            raise TypeError(f"{name!r} is none of those that are tested")
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"device {name!r} is not available: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device


def half_precision(device: torch.device | str) -> contextlib.AbstractContextManager[object]:
    """Autocast to bfloat16 where the hardware multiplies it faster than float32; elsewhere, nothing.

    A CPU without such instructions emulates bfloat16 convolutions and is slower with it than without.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.autocast("cpu", torch.bfloat16, enabled=cpu_multiplies_bfloat16())


def single_precision() -> contextlib.AbstractContextManager[object]:
    """No autocast on the CPU, within `half_precision`."""
    return torch.autocast("cpu", enabled=False)


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it: AMX (Intel since 2023) or AVX512-BF16 (AMD since 2022)."""
    tests = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(supported() for supported in tests if supported)


def keep_freed_memory() -> None:
    """Let this process keep the memory that torch frees instead of returning it to the system after every operation.

    Feature maps are large blocks; glibc maps and unmaps each one, and the page faults of touching fresh memory took
    two thirds of a U-Net training step on a virtual machine. Linux with glibc only; elsewhere it does nothing.
    Called by the entry points (server, command line), never on import.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h: M_TRIM_THRESHOLD ...
        libc.mallopt(arena_max, 1)  # else each of a server's threads would keep memory of its own
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 * 2**20)


def zeros(count: int, scattered: bool = False) -> NDArray[np.uint8]:
    """So many bytes of 0 that hardly cost anything where nobody writes to them: neither memory nor time to look at.

    On Linux they are pages of their own, which go back to the system at their end; elsewhere, numpy's. The pages are
    huge ones, which are quick to look through, unless little is written and that far apart: `scattered`.
    """
    if count == 0 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(count, np.uint8)
    memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE if scattered else mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def present_values(labels: NDArray[np.generic]) -> list[int]:
    """The values of a label map beside 0, the smallest first.

    Those of one byte are ticked off in a table, piece by piece, since an index takes eight times the memory: 600 slices
    in half a second. numpy sorts them, which takes ten.
    """
    if labels.dtype != np.uint8:
        return [int(value) for value in np.unique(labels) if value]
    voxels, found = labels.ravel(order="K"), np.zeros(256, bool)
    for begin in range(0, voxels.size, PIECE):
        found[voxels[begin : begin + PIECE]] = True
    return [int(value) for value in np.flatnonzero(found) if value]

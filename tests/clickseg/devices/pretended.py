"""A device that is not there: its tensors are computed on the CPU, and refuse to be mixed with the CPU's.

So a machine without a GPU tells what a GPU would: that a tensor was left on the CPU, or a mask given to numpy where it
was. What such a device does not tell is whether CUDA has a kernel for it, and how fast that is.
"""

import contextlib

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretended")
DEVICE = torch.device("pretended", 0)

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
# CUDA tensors may be indexed by those of the CPU.
TAKE_INDICES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class OnDevice(Tensor):
    """A tensor on the device; `held` is what is computed with."""

    @staticmethod
    def __new__(cls, real):
        like = {"strides": real.stride(), "storage_offset": real.storage_offset(), "dtype": real.dtype}
        made = Tensor._make_wrapper_subclass(cls, real.shape, **like, device=DEVICE)
        made.held = real
        return made

    def __init__(self, real):
        pass

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, *args, **(kwargs or {}))

    def tolist(self):
        return self.held.tolist()

    def __reduce_ex__(self, protocol):  # what is saved is read by machines without the device
        return self.held.detach().__reduce_ex__(protocol)

    def __repr__(self):
        return f"OnDevice({self.held!r})"


def compute(func, *args, **kwargs):
    """An operation of torch on tensors of which some are on the device, or that makes one there."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    check_device(func, args, tensors, here)
    asked = kwargs.get("device")
    if func is aten.copy_.default:
        there = isinstance(args[0], OnDevice)
    else:
        there = bool(here) if asked is None else torch.device(asked).type == DEVICE.type
    given = {**kwargs, "device": "cpu"} if asked is not None else kwargs
    changed = {id(real(tensor)): tensor for tensor in here}

    def wrapped(result):
        if not isinstance(result, Tensor) or isinstance(result, OnDevice) or not there:
            return result
        return changed[id(result)] if id(result) in changed else OnDevice(result)

    return tree_map(wrapped, func(*tree_map(real, args), **tree_map(real, given)))


def check_device(func, args, tensors, here):
    """Raise RuntimeError, as CUDA does, if the tensors are on two devices. Those without dimensions may be anywhere."""
    if not here or func in MOVES or (func in TAKE_INDICES and isinstance(args[0], OnDevice)):
        return
    strangers = [tuple(tensor.shape) for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.ndim]
    if strangers:
        raise RuntimeError(f"{func}: tensors on two devices, on the CPU those of the shapes {strangers}")


def real(tensor):
    return tensor.held if isinstance(tensor, OnDevice) else tensor


class PlainTensors(TorchFunctionMode):
    """MONAI's tensors cannot wrap ours: they leave for the device as plain ones."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.to and hasattr(args[0], "as_tensor"):
            args = (args[0].as_tensor(), *args[1:])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def pretending():
    """While this lasts, tensors can be made on DEVICE."""
    library = torch.library.Library("_", "IMPL")
    library.fallback(compute, "PrivateUse1")
    make, no_gradients = torch.tensor, torch.inference_mode

    def tensor(data, *, device=None, **more):  # torch's own leaves for the device where Python does not see it
        made = make(data, **more)
        return made if device is None else made.to(device)

    torch.tensor, torch.inference_mode = tensor, torch.no_grad  # wrappers have no versions, which inference looks at
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with PlainTensors():
            yield
    finally:
        torch.tensor, torch.inference_mode = make, no_gradients
        torch.__future__.set_swap_module_params_on_conversion(False)
        library._destroy()

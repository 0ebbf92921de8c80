"""MONAI Label's sample app `radiology` as installed, two obstacles out of its way. Serve a copy: apps write beside."""

import importlib.metadata
import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

FILES = importlib.metadata.files("monailabel") or []
MAIN = next(Path(str(f.locate())).resolve() for f in FILES if f.as_posix().endswith("sample-apps/radiology/main.py"))
sys.path.insert(0, str(MAIN.parent))  # its `lib`

try:
    import torchvision.utils  # noqa: F401, TID251
except (ImportError, RuntimeError):  # the latter: a CUDA build beside CPU torch. Training needs it, clicks do not
    for name in ("torchvision", "torchvision.utils"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
    sys.modules["torchvision.utils"].make_grid = sys.modules["torchvision.utils"].save_image = None

from monai.transforms import Spacingd  # noqa: E402

stock_call = Spacingd.__call__


def call_without_path(self, data, lazy=None):
    """MONAI 1.6.1 updates all that stands under "image_..." as metadata; MONAI Label puts a text under `image_path`."""
    kept = {key: data[key] for key in ("image_path",) if key in data}
    return {**stock_call(self, {key: data[key] for key in data if key not in kept}, lazy), **kept}


Spacingd.__call__ = call_without_path

spec = importlib.util.spec_from_file_location("radiology_main", MAIN)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
MyApp = module.MyApp

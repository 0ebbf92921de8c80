"""The MONAI Label app: `monailabel start_server --app apps/clickseg --studies DIR|URL [--conf NAME VALUE]`.

--conf models: "all", or some of them (unet2d,tis). --conf cache_gb: memory for open images, 2 by default.
--conf upload_gb: how much may be added to the studies at once over the page, 4 by default.
"""

import os
import sys
from pathlib import Path

APP = str(Path(__file__).resolve().parent)
if sys.path.count(APP) < 2:  # the loader puts this folder there while this file runs, and takes one away again
    sys.path.append(APP)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # itkimage2segimage
os.environ["MONAI_LABEL_TRACKING_ENABLED"] = "false"  # MLflow is not installed, and nothing here needs it

from monailabel.interfaces.app import MONAILabelApp  # noqa: E402

from clickseg import __version__  # noqa: E402
from clickseg.machine import keep_freed_memory  # noqa: E402
from clickseg.sessions import SessionCache, compute_in_one_thread  # noqa: E402
from clickseg.settings import cache_bytes, upload_bytes  # noqa: E402
from lib.activelearning import STRATEGIES, ForegroundEntropy, Leased, Leases  # noqa: E402
from lib.configs import select  # noqa: E402
from lib.server import CarefulRequests, add_routes, give_way, in_background  # noqa: E402


class MyApp(CarefulRequests, MONAILabelApp):
    """All models of `lib.configs`, or those that `--conf models` names."""

    def __init__(self, app_dir, studies, conf):
        """Called by MONAI Label's loader, in the server and again in every background task."""
        keep_freed_memory()
        if in_background():
            give_way()
        else:
            compute_in_one_thread()
        conf = conf or {}
        self.models = select(conf.get("models", "all"))
        self.cache = SessionCache(cache_bytes(conf))  # one per process, shared by all models
        self.upload_limit = upload_bytes(conf)
        super().__init__(
            app_dir,
            studies,
            conf,
            name="clickseg",
            description="Click on a structure and get its mask",
            version=__version__,
        )
        self._auto_update_scoring = False  # scoring costs minutes of CPU: it runs when its strategy is used
        add_routes()

    def init_infers(self):
        """What answers clicks."""
        return {model.name: model.infer(self.cache) for model in self.models}

    def init_trainers(self):
        """What learns from saved labels."""
        return {model.name: model.trainer() for model in self.models if model.trains}

    def init_strategies(self):
        """What to label next."""
        leases = Leases()
        return {name: Leased(strategy(), leases) for name, strategy in STRATEGIES.items()}

    def init_scoring_methods(self):
        """What ranks the images for the strategies."""
        return {ForegroundEntropy.name: self.models[0].scoring()}

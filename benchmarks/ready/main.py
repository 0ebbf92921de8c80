"""An app whose masks lie ready: what is left of a click if nothing is computed. Serve a copy with masks beside it."""

import os
import uuid
from pathlib import Path

from fastapi.responses import FileResponse
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

HERE = Path(__file__).resolve().parent
FileResponse.chunk_size = 2**20  # as clickseg sends files; the stock size would make this slower


class ReadyMask(InferTask):
    """Answers with the file ready<extension>, or ready.gz.nrrd where a compressed one is asked for."""

    def __init__(self):
        super().__init__(InferType.DEEPGROW, ["foreground"], 3, "a mask that lies ready")

    def is_valid(self):
        """It is."""
        return True

    def __call__(self, request):
        """A link to the file, which the server takes away when it has sent it."""
        extension = request["result_extension"]
        compressed = extension == ".nrrd" and request["result_compress"]
        link = HERE / f"{uuid.uuid4().hex}{extension}"
        os.link(HERE / f"ready{'.gz' * compressed}{extension}", link)
        return str(link), {"latencies": {"total": 0.0}}


class MyApp(MONAILabelApp):
    """One model, named ready."""

    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="ready", description="no network", version="1")

    def init_infers(self):
        """The one model."""
        return {"ready": ReadyMask()}

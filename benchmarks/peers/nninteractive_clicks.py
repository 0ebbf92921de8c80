"""nnInteractive's inference session with random weights of the published shape: ResEnc-L, 192 x 192 x 192."""

from types import SimpleNamespace

import harness
import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from nnInteractive.inference.inference_session import nnInteractiveInferenceSession
from nnInteractive.interaction.point import PointInteraction_stub

PATCH = (192, 192, 192)
INTERACTIONS = 7  # channels beside the image

session = nnInteractiveInferenceSession(
    torch.device("cpu"), torch_n_threads=harness.THREADS, do_autozoom=False, enable_undo=False
)
network = ResidualEncoderUNet(
    1 + INTERACTIONS,
    6,
    (32, 64, 128, 256, 320, 320),
    torch.nn.Conv3d,
    3,
    ((1, 1, 1), *[(2, 2, 2)] * 5),
    (1, 3, 4, 6, 6, 6),
    2,
    (1, 1, 1, 1, 1),
    conv_bias=True,
    norm_op=torch.nn.InstanceNorm3d,
    norm_op_kwargs={"affine": True},
    nonlin=torch.nn.LeakyReLU,
    nonlin_kwargs={"inplace": True},
).eval()
session.initialize_from_loaded_artifacts(
    {
        "capability_content": {},
        "point_interaction": PointInteraction_stub(4, True),
        "preferred_scribble_thickness": [2, 2, 2],
        "interaction_decay": 0.9,
        "pad_mode_data": "constant",
        "network": network,
        "plans_manager": None,
        "configuration_manager": SimpleNamespace(patch_size=PATCH),
        "dataset_json": None,
        "trainer_name": "",
        "label_manager": None,
        "license": "",
    }
)
opened = {}


def open_image(volume, stage):
    """Cropping and normalisation, which the session does in a thread."""
    with stage("preprocess"):
        session.set_image(volume[None])
        opened["mask"] = np.zeros(volume.shape, np.uint8)
        session.set_target_buffer(opened["mask"])
        session._finish_preprocessing_and_initialize_interactions()


def click(position, stage):
    """The whole object, in the buffer."""
    with stage("decode"):
        session.add_point_interaction(tuple(position), include_interaction=True)
    return opened["mask"]


harness.run(open_image, click)

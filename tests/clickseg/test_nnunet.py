"""Weights of `tis` whose encoder nnU-Net has trained, against nnU-Net itself."""

import contextlib
import io
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from clickseg.cli import main
from clickseg.methods import load_model
from clickseg.nnunet import import_nnunet
from clickseg.sessions import SessionCache

predicting = pytest.importorskip(
    "nnunetv2.inference.predict_from_raw_data",
    reason="nnunetv2 is not installed: pip install -e '.[nnunet]' -c requirements.txt",
)

SPACING = {"z": 3.0, "y": 1.5, "x": 1.0}
ARGUMENTS = {
    "n_stages": 3,
    "features_per_stage": [6, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
PLANS = {
    "dataset_name": "Dataset007_Made",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 60.0, "std": 30.0, "percentile_00_5": -40.0, "percentile_99_5": 200.0}
    },
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [8, 16, 20],
            "spacing": list(SPACING.values()),
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": ARGUMENTS,
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "file_ending": ".nii.gz"}
LABELS = {"liver": 1, "tumour": 2}


def write_result(folder, plans=PLANS, dataset=DATASET, channels=1):
    """A result folder as nnU-Net leaves it, of a network that was never trained."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    torch.manual_seed(0)
    network = get_network_from_plans(
        PLANS["configurations"]["3d_fullres"]["architecture"]["network_class_name"],
        ARGUMENTS,
        ["conv_op", "norm_op", "dropout_op", "nonlin"],
        input_channels=channels,
        output_channels=3,
        deep_supervision=True,
    )
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    content = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content, folder / "fold_0/checkpoint_final.pth")
    return folder


def changed(**configuration):
    return {**PLANS, "configurations": {"3d_fullres": PLANS["configurations"]["3d_fullres"] | configuration}}


def write_image(path, shape, orientation):
    """A CT of noise with structure, whose axes run as the orientation says; (x, y, z) voxels of the plans' spacing."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(60, 60, [-(-count // 4) for count in shape])
    volume = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: shape[0], : shape[1], : shape[2]]
    signs = [1 if code in "RAS" else -1 for code in orientation]
    affine = np.diag([*(sign * SPACING[axis] for sign, axis in zip(signs, "xyz", strict=True)), 1.0])
    nib.save(nib.Nifti1Image((volume + generator.normal(0, 10, shape)).astype(np.int16), affine), path)
    return path


def nnunet_says(folder, image):
    """nnU-Net's label map, in the array order of the file."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    with contextlib.redirect_stdout(io.StringIO()):
        predictor = predicting.nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), ("0",), "checkpoint_final.pth")
        array, properties = SimpleITKIO().read_images([str(image)])
        return predictor.predict_single_npy_array(array, properties).T


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return write_result(tmp_path_factory.mktemp("nnunet") / "result")


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize("orientation", ["LPS", "RAS"])
@pytest.mark.parametrize(
    ("shape", "agreement"), [((20, 16, 8), 0.995), ((40, 32, 16), 0.95)], ids=["one patch", "several patches"]
)
def test_the_automatic_segmentation_is_that_of_nnunet(result, tmp_path, orientation, shape, agreement):
    """Overlapping patches are weighted by Gaussians whose centres MONAI and nnU-Net put half a voxel apart."""
    image = write_image(tmp_path / "ct.nii.gz", shape, orientation)
    import_nnunet(result, tmp_path / "tis_made.pt", orientation=orientation)
    ours = SessionCache().open(image, tmp_path / "tis_made.pt").predict_labels({}, LABELS)
    theirs = nnunet_says(result, image)
    assert {0, 1, 2} == set(np.unique(theirs))
    assert (ours == theirs).mean() >= agreement


def test_images_that_run_otherwise_than_those_of_the_training_are_turned_for_the_network(result, tmp_path):
    """The same patient, stored in two ways: the answers are the same in space."""
    import_nnunet(result, tmp_path / "tis_made.pt", orientation="LPS")
    image = write_image(tmp_path / "lps.nii.gz", (20, 16, 8), "LPS")
    nib.save(nib.as_closest_canonical(nib.load(image)), tmp_path / "ras.nii.gz")
    lps, ras = (
        SessionCache().open(tmp_path / name, tmp_path / "tis_made.pt").predict_labels({}, LABELS)
        for name in ("lps.nii.gz", "ras.nii.gz")
    )
    np.testing.assert_array_equal(lps, ras[::-1, ::-1])


def test_plans_with_turned_axes_are_turned_too(result, tmp_path):
    turned = {**changed(patch_size=[16, 20, 8], spacing=[1.5, 1.0, 3.0]), "transpose_forward": [1, 2, 0]}
    recipe = import_nnunet(write_result(tmp_path / "turned", turned), tmp_path / "tis_turned.pt", orientation="LAS")
    assert recipe.axes == ("A", "L", "S")
    assert recipe.patch == (20, 16, 8)
    assert recipe.spacing == (1.0, 1.5, 3.0)


def test_the_command_writes_weights_that_are_corrected_by_clicks_and_trained_on(result, tmp_path, capsys):
    weights = tmp_path / "tis_made.pt"
    assert main(["import-nnunet", str(result), "--orientation", "LPS", "--output", str(weights)]) == 0
    assert "liver, tumour" in capsys.readouterr().out
    model = load_model(weights)
    assert model.recipe.modality == "CT"
    assert model.card["nnunet"] == {"dataset": "Dataset007_Made", "trainer": "nnUNetTrainer", "fold": "0"}
    image = write_image(tmp_path / "ct.nii.gz", (20, 16, 8), "LPS")
    session = SessionCache().open(image, weights)
    before = session.predict_labels({}, LABELS)
    clicked = tuple(int(index) for index in np.argwhere(before == 0)[40])
    after = session.predict_labels({"tumour": [clicked]}, LABELS)
    assert after[clicked] == 2
    data = tmp_path / "data"
    for name, array in {"imagesTr": nib.load(image).get_fdata(), "labelsTr": after}.items():
        (data / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image(array.astype(np.int16), nib.load(image).affine), data / name / "one.nii.gz")
    (data / "dataset.json").write_text(json.dumps({"labels": {"1": "liver", "2": "tumour"}}))
    learn = ["train", "--method", "tis", "--stage", "refiner", "--init", str(weights), "--epochs", "1"]
    assert main([*learn, "--data", str(data), "--output", str(tmp_path / "run")]) == 0
    trained = load_model(tmp_path / "run/weights.pt")
    assert trained.recipe == model.recipe
    for name, tensor in trained.segmenter.encoder.state_dict().items():
        torch.testing.assert_close(tensor, model.segmenter.encoder.state_dict()[name], msg=name)


@pytest.mark.parametrize(
    ("plans", "dataset", "sentence"),
    [
        (PLANS, DATASET | {"channel_names": {"0": "T1", "1": "T2"}}, "reads one channel"),
        (PLANS, DATASET | {"labels": {"background": 0, "liver": 1, "both": [1, 2]}}, "regions"),
        (changed(normalization_schemes=["RescaleTo01Normalization"]), DATASET, "RescaleTo01Normalization is not built"),
        (changed(use_mask_for_norm=[True], normalization_schemes=["ZScoreNormalization"]), DATASET, "inside a mask"),
    ],
    ids=["two channels", "regions", "normalisation", "mask"],
)
def test_a_model_that_tis_cannot_use_is_refused_with_the_reason(tmp_path, plans, dataset, sentence):
    with pytest.raises(ValueError, match=sentence):
        import_nnunet(write_result(tmp_path / "result", plans, dataset), tmp_path / "tis.pt", "LPS")
    assert not (tmp_path / "tis.pt").exists()


def test_the_second_stage_of_a_cascade_is_refused(tmp_path):
    plans = changed(previous_stage="3d_lowres")
    with pytest.raises(ValueError, match="second of a cascade"):
        import_nnunet(write_result(tmp_path / "result", plans, channels=3), tmp_path / "tis.pt", "LPS")


def test_weights_of_another_network_than_the_plans_describe_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened by nnU-Net"):
        import_nnunet(write_result(tmp_path / "result", channels=2), tmp_path / "tis.pt", "LPS")


def test_a_folder_that_is_no_result_is_refused_by_the_command(tmp_path, capsys):
    assert main(["import-nnunet", str(tmp_path), "--orientation", "LPS", "--output", str(tmp_path / "tis.pt")]) == 2
    assert f"{tmp_path / 'plans.json'} is missing" in capsys.readouterr().err

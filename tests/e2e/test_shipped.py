"""The shipped weights through the running server and the stock client: the mask is that of `clickseg predict`."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monailabel.client import MONAILabelClient
from scipy import ndimage

from clickseg import cli
from clickseg.images import read_volume
from clickseg.phantom import LABELS, phantom

ORGAN = "liver"
TURNED = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]])  # about the long axis, mm


def copies(image, label, affine):
    """One volume as scanners and programs store it: name -> image, label, affine."""
    plain = nib.Nifti1Image(image, affine), nib.Nifti1Image(label, affine)
    for name, axes in {"ras": "RAS", "lps": "LPS", "flipped": "RAI", "permuted": "SAL"}.items():
        orientation = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        turned = [file.as_reoriented(orientation) for file in plain]
        yield name, *(np.asanyarray(file.dataobj) for file in turned), turned[0].affine
    yield "oblique", image, label, TURNED @ affine
    yield "anisotropic", image[:, ::2], label[:, ::2], affine @ np.diag([1, 2, 1, 1])


def innermost(label, affine):
    """A voxel in the middle of the structure, in its largest axial slice."""
    axis = nib.io_orientation(affine)[:, 0].tolist().index(2)
    number = int((label.sum(axis=tuple({0, 1, 2} - {axis}))).argmax())
    plane = np.take(label, number, axis)
    depth = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1]
    position = list(np.unravel_index(depth.argmax(), depth.shape))
    position.insert(axis, number)
    return [int(index) for index in position], axis


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "studies").mkdir()
    patient = phantom(seed=0, shape=(128, 128, 48))
    found = {}
    for name, image, label, affine in copies(patient.image, patient.label, patient.affine):
        path = folder / f"studies/{name}.nii.gz"
        nib.save(nib.Nifti1Image(image, affine), path)
        found[name] = path, label == LABELS[ORGAN], affine
    return folder, found


@pytest.fixture(scope="module")
def url(studies, serve):
    folder, _ = studies
    with serve(folder, str(folder / "studies")) as url:
        yield url


def predicted(image, *options, output):
    assert cli.main(["predict", str(image), *options, "--output", str(output)]) == 0
    return nib.load(output)


@pytest.mark.parametrize("name", ["ras", "lps", "flipped", "permuted", "oblique", "anisotropic"])
def test_however_a_volume_is_stored_the_mask_lands_on_the_structure_and_is_that_of_the_command(
    studies, url, name, tmp_path
):
    path, truth, affine = studies[1][name]
    position, axis = innermost(truth, affine)
    client = MONAILabelClient(url, str(tmp_path))
    answer, params = client.infer("unet2d", name, {"label": ORGAN, "foreground": [position], "background": []})
    mask, grid = read_volume(answer)
    asked = f"{','.join(map(str, position))}:{ORGAN}"
    command = predicted(path, "--click", asked, output=tmp_path / "mask.nii.gz")
    assert np.array_equal(mask > 0, np.asanyarray(command.dataobj) > 0)
    assert np.allclose(grid.affine, affine, atol=1e-4)

    clicked, of_truth = np.take(mask, position[axis], axis), np.take(truth, position[axis], axis)
    assert mask[tuple(position)] == 1
    assert mask.sum() == clicked.sum()  # nothing in other slices
    assert 2 * (clicked & of_truth).sum() / (clicked.sum() + of_truth.sum()) > 0.7
    assert params["area_mm2"][ORGAN][str(position[axis])] == pytest.approx(
        clicked.sum() * np.prod(np.delete(nib.affines.voxel_sizes(affine), axis)), rel=1e-3
    )


@pytest.fixture(scope="module")
def ct_folder(data_dir):
    """A real CT series of 512 x 512 x 41."""
    return data_dir / "dicom/CRLM-CT-1004"


@pytest.mark.orthanc
def test_a_dicom_series_gets_the_mask_that_the_command_computes(ct_folder, archive, serve, tmp_path):
    files = sorted(ct_folder.glob("*.dcm"))
    heads = sorted(
        (pydicom.dcmread(f, stop_before_pixels=True) for f in files), key=lambda h: h.ImagePositionPatient[2]
    )
    column, row, number = 150, 230, 20  # in the liver
    head = heads[number]
    lps = np.array(head.ImagePositionPatient) + np.array(
        [column * head.PixelSpacing[1], row * head.PixelSpacing[0], 0.0]
    )
    ras = ",".join(f"{value:.4f}" for value in lps * [-1, -1, 1])
    command = predicted(ct_folder, f"--click={ras}", "--ras", output=tmp_path / "mask.nii.gz")
    with (
        archive(tmp_path, (file.read_bytes() for file in files)) as archive_url,
        serve(tmp_path, f"{archive_url}/dicom-web/") as url,
    ):
        client = MONAILabelClient(url, str(tmp_path))
        clicks = {"foreground": [[column, row, number]], "result_extension": ".nii.gz"}
        answer, _ = client.infer("unet2d", head.SeriesInstanceUID, clicks)
    served, local = (nib.as_closest_canonical(image) for image in (nib.load(answer), command))
    assert np.allclose(served.affine, local.affine, atol=1e-3)
    assert np.array_equal(np.asanyarray(served.dataobj), np.asanyarray(local.dataobj))
    assert np.asanyarray(local.dataobj).sum() > 1000

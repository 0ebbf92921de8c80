"""One anatomical point, asked by each client in its own way and frame: the same anatomical mask."""

import io

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
from monailabel.client import MONAILabelClient
from nibabel.affines import apply_affine

from clickseg import Grid, cli
from clickseg.geometry import LPS_TO_RAS, AxialSlices
from clickseg.images import read_volume
from clickseg.phantom.dicom import dicom_series

pytestmark = pytest.mark.orthanc

SHAPE, SPACING, ORIGIN = (36, 28, 14), (2.0, 1.5, 4.0), (-30.0, 12.5, 100.0)
INSIDE, OUTSIDE = (13, 16, 5), (30, 5, 5)  # voxels of the series, nowhere near its middle


def turned(about_z, about_x):
    z, x = np.radians((about_z, about_x))
    around = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return around @ np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])


# Columns: where the columns, rows and slices of the series go, in LPS.
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "oblique": turned(20, 15),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
}


@pytest.fixture(scope="module")
def volume():
    """Smooth enough for masks that are no noise, and like itself in no mirror."""
    x, y, z = np.meshgrid(*(np.arange(count) for count in SHAPE), indexing="ij")
    noise = np.random.default_rng(0).normal(0, 20, SHAPE)
    return (50 + 80 * np.sin(x / 5) * np.cos(y / 7) + 6 * z + 2 * x + noise).astype(np.int16)


@pytest.fixture(scope="module")
def studies(volume):
    return {name: dicom_series(volume, SPACING, ORIGIN, directions=turn) for name, turn in DIRECTIONS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_weights):
    folder = tmp_path_factory.mktemp("orientation")
    tiny_weights(
        folder / "model/unet2d.pt", {"spleen": 1}, seed=10
    )  # about half of a slice is inside, in bfloat16 as well
    return folder


@pytest.fixture(scope="module")
def url(folder, archive, serve, studies):
    with (
        archive(folder, [file for files in studies.values() for file in files]) as archive_url,
        serve(folder, f"{archive_url}/dicom-web/") as url,
    ):
        yield url


def grid_of(name):
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = DIRECTIONS[name] * SPACING, ORIGIN
    return Grid(SHAPE, LPS_TO_RAS @ lps)


def reoriented(image, codes):
    """The same image with its axes in another order and direction: no voxel moves."""
    now, then = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    return image.as_reoriented(nib.orientations.ornt_transform(now, then))


def voxels(grid, points):
    """RAS mm -> voxels, as 3D Slicer's plugin rounds them."""
    return [[round(float(value)) for value in point] for point in grid.from_ras(points)]


def places(mask, grid):
    """Where in the patient the voxels of a mask lie: a set of RAS mm."""
    return {tuple(place) for place in np.round(apply_affine(grid.affine, np.argwhere(mask)), 1) + 0.0}


def in_ohif(ask, url, series, points):
    """Clicks as indices of the series, whose grid the reply has."""
    inside, outside = voxels(*points)
    response = ask(url, "unet2d", series, foreground=[inside], background=[outside], result_extension=".nrrd")
    assert response.status_code == 200, response.text
    file = io.BytesIO(response.content)
    header = nrrd.read_header(file)
    mask = nrrd.read_data(header, file)
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = header["space directions"].T, header["space origin"]
    return mask, Grid(mask.shape, LPS_TO_RAS @ lps)


def in_slicer(client, path, points):
    """An image file with its axes in another order, in a session; clicks as voxels of that file."""
    session = client.create_session(str(path))["session_id"]
    inside, outside = voxels(read_volume(path)[1], points[1])
    params = {"label": "spleen", "foreground": [inside], "background": [outside]}
    answer, _ = client.infer("unet2d", path.stem, params | {"result_extension": ".nrrd"}, session_id=session)
    return read_volume(answer)


def on_the_command_line(path, weights, output, points):
    inside, outside = (",".join(f"{value:.3f}" for value in point) for point in points[1])
    clicks = ["--click", inside, "--click", f"{outside}:background", "--ras"]
    assert cli.main(["predict", str(path), *clicks, "--weights", str(weights), "--output", str(output)]) == 0
    return read_volume(output)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_click_gives_the_same_anatomical_mask_through_every_client(ask, url, folder, volume, studies, tmp_path, name):
    grid = grid_of(name)
    points = grid, grid.to_ras([INSIDE, OUTSIDE])
    own = nib.Nifti1Image(volume, grid.affine)
    nib.save(reoriented(own, "RAS"), tmp_path / "canonical.nii.gz")
    nib.save(reoriented(own, "IPL"), tmp_path / "odd.nii.gz")
    series = str(pydicom.dcmread(io.BytesIO(studies[name][0])).SeriesInstanceUID)

    answers = {
        "OHIF": in_ohif(ask, url, series, points),
        "3D Slicer": in_slicer(MONAILabelClient(url, str(tmp_path)), tmp_path / "odd.nii.gz", points),
        "command line": on_the_command_line(
            tmp_path / "canonical.nii.gz", folder / "model/unet2d.pt", tmp_path / "mask.nii.gz", points
        ),
    }
    found = {client: places(*answer) for client, answer in answers.items()}
    assert found["OHIF"] == found["3D Slicer"] == found["command line"]
    mask, slices = answers["OHIF"][0], AxialSlices(grid)
    plane = slices.view(mask, slices.locate(INSIDE)[0])
    assert mask.sum() == plane.sum()
    assert 0.05 < plane.mean() < 0.95  # else equality would mean little

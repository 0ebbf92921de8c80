"""Labels of DICOM series: saved by the stock client, archived as segmentations, and read back by another server."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from clickseg.phantom.dicom import dicom_series

pytestmark = pytest.mark.orthanc

SHAPE, SPACING, ORIGIN = (32, 28, 12), (2.0, 1.5, 5.0), (-30.0, 12.5, 100.0)
LABELS = {"spleen": 1, "right kidney": 2, "left kidney": 3, "liver": 4}
SEEN = {"spleen": 1, "left kidney": 3, "liver": 4}  # one of the model's is not in the label
NAMES = [{"name": name, "idx": value} for name, value in LABELS.items()]
DIRECTIONS = {
    "axial": np.eye(3),
    "tilted": np.array([[0.8, 0, 0.6], [0, 1.0, 0], [-0.6, 0, 0.8]]) @ np.diag([-1.0, 1.0, 1.0]),
}


@pytest.fixture(scope="module")
def volumes():
    return {name: np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16) for name in DIRECTIONS}


@pytest.fixture(scope="module")
def studies(volumes):
    """Name -> the DICOM files of a study with one series."""
    return {
        name: dicom_series(volume, SPACING, ORIGIN, directions=DIRECTIONS[name]) for name, volume in volumes.items()
    }


@pytest.fixture(scope="module")
def series(studies):
    """Name -> SeriesInstanceUID."""
    return {name: str(pydicom.dcmread(io.BytesIO(files[0])).SeriesInstanceUID) for name, files in studies.items()}


@pytest.fixture(scope="module")
def archive_url(tmp_path_factory, archive, studies):
    with archive(tmp_path_factory.mktemp("archive"), [file for files in studies.values() for file in files]) as url:
        yield url


@pytest.fixture(scope="module")
def new_server(tmp_path_factory, tiny_weights, archive_url, serve):
    """new_server(): the url of a server that knows nothing but the archive."""

    def start():
        folder = tmp_path_factory.mktemp("server")
        tiny_weights(folder / "model/unet2d.pt", LABELS)
        return serve(folder, f"{archive_url}/dicom-web/")

    return start


@pytest.fixture(scope="module")
def url(new_server):
    with new_server() as url:
        yield url


@pytest.fixture
def client(url, tmp_path):
    return MONAILabelClient(url, str(tmp_path))


def a_label(shift=0):
    """In few slices, and not symmetric."""
    label = np.zeros(SHAPE, np.uint8)
    label[4:12, 5:11, 3:6] = SEEN["liver"]
    label[4:7, 5:7, 4] = SEEN["spleen"]
    label[20:27, 14:24, 5 : 8 + shift] = SEEN["left kidney"]
    return label


def save(client, image, label, folder, **params):
    """As the client does that has the image from the server: on the image's own grid."""
    answer = requests.get(f"{client.get_server_url()}/datastore/image", {"image": image}, timeout=120)
    (folder / "image.nii.gz").write_bytes(answer.content)
    own = nib.load(folder / "image.nii.gz")
    nib.save(nib.Nifti1Image(label, own.affine), folder / "label.nii.gz")
    return client.save_label(image, str(folder / "label.nii.gz"), params=params)


def height(file):
    """How far a slice lies along the normal of its plane, by which ITK and viewers sort a series."""
    rows, columns = np.reshape(file.ImageOrientationPatient, (2, 3)).astype(float)
    return np.cross(rows, columns) @ np.array(file.ImagePositionPatient, float)


def segmentations_of(archive_url, image):
    """The SEG objects of a series in the archive, as they are there."""
    found = []
    for item in requests.get(f"{archive_url}/instances?expand", timeout=60).json():
        content = requests.get(f"{archive_url}/instances/{item['ID']}/file", timeout=60).content
        dataset = pydicom.dcmread(io.BytesIO(content))
        if dataset.Modality == "SEG" and dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == image:
            found.append(dataset)
    return found


def read_label(url, image, folder):
    answer = requests.get(f"{url}/datastore/label", {"label": image, "tag": "final"}, timeout=120)
    assert answer.status_code == 200, answer.text
    (folder / "read.nii.gz").write_bytes(answer.content)
    return np.asarray(nib.load(folder / "read.nii.gz").dataobj)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_all_segments_of_a_saved_label_are_archived_in_the_frame_of_the_series(
    client, archive_url, studies, series, tmp_path, name
):
    assert save(client, series[name], a_label(), tmp_path, label_info=NAMES)["label"] == series[name]
    (archived,) = segmentations_of(archive_url, series[name])
    segments = {segment.SegmentNumber: segment.SegmentLabel for segment in archived.SegmentSequence}
    assert segments == dict(enumerate(SEEN, start=1))
    source = sorted((pydicom.dcmread(io.BytesIO(file)) for file in studies[name]), key=height)
    assert archived.FrameOfReferenceUID == source[0].FrameOfReferenceUID
    assert archived.StudyInstanceUID == source[0].StudyInstanceUID

    segmentation = highdicom.seg.Segmentation.from_dataset(archived)
    for number, segment in segments.items():
        pixels = segmentation.get_pixels_by_source_instance(
            [file.SOPInstanceUID for file in source],
            segment_numbers=[number],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )[..., 0]
        assert np.array_equal(pixels.transpose(2, 1, 0), a_label() == SEEN[segment])


def test_another_server_reads_the_same_labels_from_the_archive(new_server, series, tmp_path):
    with new_server() as other:
        for image in series.values():
            assert np.array_equal(read_label(other, image, tmp_path), a_label())
            info = requests.get(f"{other}/datastore/label/info", {"label": image, "tag": "final"}, timeout=60).json()
            assert {item["name"]: item["idx"] for item in info["label_info"]} == SEEN


def test_the_newest_label_counts_and_is_trained_on_by_every_server(
    client, url, new_server, archive_url, series, tmp_path
):
    time.sleep(1.1)  # a SEG tells its age in seconds
    save(client, series["axial"], a_label(shift=2), tmp_path, label_info=NAMES)
    assert len(segmentations_of(archive_url, series["axial"])) == 2
    assert np.array_equal(read_label(url, series["axial"], tmp_path), a_label(shift=2))
    with new_server() as other:
        pairs = requests.get(f"{other}/datastore/", {"output": "train"}, timeout=120).json()
        labels = {pair["image"].split("/")[-1].removesuffix(".nii.gz"): pair["label"] for pair in pairs}
        assert np.array_equal(nib.load(labels[series["tilted"]]).dataobj, a_label())
        assert np.array_equal(nib.load(labels[series["axial"]]).dataobj, a_label(shift=2))
        time.sleep(1.1)
        save(MONAILabelClient(other, str(tmp_path)), series["axial"], a_label(shift=1), tmp_path, label_info=NAMES)
    assert np.array_equal(read_label(url, series["axial"], tmp_path), a_label(shift=1))


def test_a_labelled_series_counts_as_labelled_at_once(client):
    assert client.info()["datastore"]["completed"] == len(DIRECTIONS)
    assert client.next_sample("first", {}) == {}


def test_an_answer_as_a_segmentation_names_what_is_in_it(ask, url, series):
    wish = {"liver": [[16, 14, 6]], "background": [[3, 4, 6]]}
    response = ask(url, "unet2d_labels", series["axial"], output="dicom_seg", **wish)
    assert response.status_code == 200, response.text
    (segment,) = pydicom.dcmread(io.BytesIO(response.content)).SegmentSequence
    assert segment.SegmentLabel == "liver"


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (np.zeros(SHAPE, np.uint8), "the label map is empty"),
        (np.ones((32, 28, 11), np.uint8), "has shape (32, 28, 11), but its image (32, 28, 12)"),
    ],
)
def test_a_label_that_cannot_be_archived_is_refused(client, series, tmp_path, label, sentence):
    with pytest.raises(MONAILabelClientException) as caught:
        save(client, series["axial"], label, tmp_path, label_info=NAMES)
    assert "Status: 400" in caught.value.msg
    assert sentence in caught.value.msg


def test_a_label_of_an_unknown_series_is_not_found(client, tmp_path):
    nib.save(nib.Nifti1Image(a_label(), np.eye(4)), tmp_path / "label.nii.gz")
    with pytest.raises(MONAILabelClientException) as caught:
        client.save_label("1.2.3.4", str(tmp_path / "label.nii.gz"))
    assert "Status: 404" in caught.value.msg


def test_two_who_open_a_series_at_once_both_get_it(archive, serve, tmp_path):
    volume = np.arange(24 * 20 * 12, dtype=np.int16).reshape(24, 20, 12) % 300
    instances = dicom_series(volume, (1.0, 1.0, 2.0))
    series = pydicom.dcmread(io.BytesIO(instances[0])).SeriesInstanceUID
    with archive(tmp_path, instances) as archive_url, serve(tmp_path, f"{archive_url}/dicom-web/") as url:
        with ThreadPoolExecutor(6) as pool:
            asked = pool.map(
                lambda _: requests.get(f"{url}/clickseg/api/image", {"image": series}, timeout=120), range(6)
            )
        contents = {(reply.status_code, reply.content) for reply in asked}
    ((status, content),) = contents
    assert status == 200
    assert nib.Nifti1Image.from_bytes(content).shape == (24, 20, 12)

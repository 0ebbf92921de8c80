"""Studies that are added over the page, in a real browser over the real server, and label maps that are downloaded."""

import base64
import gzip
import io
import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from browsing import map_in_file_order

from clickseg.images import read_volume
from clickseg.phantom.dicom import dicom_series

pytestmark = pytest.mark.chromium

SHAPE = (40, 32, 12)
AFFINE = np.array([[0, -1.5, 0, 20], [1.2, 0, 0, -30], [0, 0, 4.0, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def folder(tiny_weights, tmp_path_factory):
    """A folder of studies without any, and a small model."""
    folder = tmp_path_factory.mktemp("adding")
    (folder / "studies").mkdir()
    tiny_weights(folder / "model/unet2d.pt", {"spleen": 1, "liver": 2})
    return folder


@pytest.fixture(scope="module")
def url(folder, serve):
    with serve(folder, str(folder / "studies"), "--conf", "models", "unet2d", "--conf", "upload_gb", "0.01") as url:
        yield url


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 1000, "height": 700}, accept_downloads=True)
    page.set_default_timeout(180_000)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{url}/clickseg/")
    page.evaluate("clickseg.ready")
    yield page
    page.close()
    assert problems == []


def volume(seed):
    return np.random.default_rng(seed).normal(50, 80, SHAPE).astype(np.int16)


def nifti(path, values, affine=AFFINE):
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def write_series(folder, seed, **said):
    """A folder of a DICOM study as CDs have them: the files of a series in a folder of their own."""
    for number, content in enumerate(dicom_series(volume(seed), (1.5, 1.2, 4.0))):
        data = pydicom.dcmread(io.BytesIO(content))
        for name, value in said.items():
            setattr(data, name, value)
        file = folder / f"study/series{seed}/IM{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(file)
    (folder / "study/.DS_Store").write_bytes(b"x")
    return folder / "study"


def add(page, name, chosen="#chosen-files", files=None):
    """Choose files, and wait for the study of that name to be open."""
    page.locator(chosen).set_input_files(files)
    page.wait_for_function("(name) => document.querySelector('#study-name').textContent.startsWith(name)", arg=name)
    page.locator("#loading").wait_for(state="hidden")


def settle(page):
    page.evaluate("clickseg.editor().idle()")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def click(page, position, label="liver"):
    wanted = {"position": position, "label": label, "inside": True}
    page.evaluate("(click) => clickseg.editor().add(click)", wanted)
    settle(page)


def downloaded(page, tmp_path):
    with page.expect_download() as download:
        page.locator("#download").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def said(page):
    page.locator("#sending.problem").wait_for()
    return page.locator("#sending-text").inner_text()


def test_the_first_study_is_added_as_a_file_clicked_on_and_its_mask_downloaded(page, url, folder, tmp_path, keep):
    assert page.locator("#study-name").inner_text() == ""
    keep(page.screenshot(), "adding_empty.png")
    values = volume(1)
    add(page, "first", files=nifti(tmp_path / "first.nii.gz", values))
    assert [row.inner_text() for row in page.locator("#studies .name").all()] == ["first"]
    kept, grid = read_volume(folder / "studies/first.nii.gz")
    assert np.array_equal(kept, values)

    click(page, [20, 16, 6])
    page.keyboard.press("b")
    page.locator("#viewer").focus()
    page.keyboard.press("Enter")  # paints a disc at the cursor, and nothing is saved
    settle(page)
    page.locator("#new-label").fill("zyste ä")
    page.keyboard.press("Enter")
    page.locator("#viewer").focus()
    page.keyboard.press("PageUp")
    page.keyboard.press("Enter")
    settle(page)
    file = downloaded(page, tmp_path)
    assert file.name == "first_labels.nii.gz"
    image, shown = nib.load(file), map_in_file_order(page)
    assert len(np.unique(shown)) >= 3
    assert np.array_equal(np.asanyarray(image.dataobj), shown)
    assert image.get_data_dtype() == np.uint8
    for affine in (image.affine, image.get_sform(), image.get_qform()):
        assert np.allclose(affine, AFFINE, atol=1e-4)
    names = json.loads(image.header.extensions[0].get_content())["labels"]
    assert {"liver", "zyste ä"} <= set(names)
    assert set(names.values()) == set(np.unique(shown)) - {0}
    told = page.locator("#status").inner_text()
    assert told.startswith("first_labels.nii.gz: ")
    assert all(f"{value} {name}" in told for name, value in names.items())
    assert read_volume(file)[1].coincides(grid)
    assert requests.get(f"{url}/clickseg/api/label?image=first", timeout=60).status_code == 204, "nothing is saved"
    keep(page.screenshot(), "adding_downloaded.png")


def test_a_folder_of_dicom_series_is_added_and_the_largest_opened(page, folder, tmp_path, ask, url, mask_in):
    study = write_series(tmp_path, 2, PatientName="Doe^Jane", SeriesNumber=3, SeriesDescription="Abdomen")
    write_series(tmp_path, 3, PatientName="Doe^Jane", SeriesNumber=2)
    (study / "series3/IM11").unlink()
    add(page, "study-", "#chosen-folder", study)
    name = page.locator("#study-name").inner_text()
    assert page.locator("#sending").is_hidden()
    row = page.locator("#studies button[aria-current=true]")
    assert row.locator(".name").inner_text().split("\n") == [name, "CT · Abdomen"]
    assert name.endswith("_3")
    others = page.locator("#studies button", has_text="study-").all_inner_texts()
    assert sorted(text.split("\n")[0][-2:] for text in others) == ["_2", "_3"]
    assert "Doe" not in page.content()
    kept, grid = read_volume(folder / f"studies/{name}.nii.gz")
    wanted, own = read_volume(study / "series2")
    assert np.array_equal(kept, wanted)
    assert grid.coincides(own)
    position = [20, 16, 6]
    click(page, position)
    answer, _ = mask_in(ask(url, "unet2d", name, foreground=[position], result_extension=".nrrd"))
    assert np.array_equal(map_in_file_order(page) > 0, answer > 0)
    assert answer.any()
    image = nib.load(downloaded(page, tmp_path))
    assert np.array_equal(np.asanyarray(image.dataobj), map_in_file_order(page))
    assert np.allclose(image.affine, grid.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("broken.nii.gz", lambda content: content[:-900], "broken.nii.gz is not a readable NIfTI file (damaged or cut"),
        ("first.nii.gz", lambda content: content, "another image of that name is here already: rename first.nii.gz"),
        ("large.nii", lambda content: bytes(11 * 2**20), "The server takes 10 MB at once, and this is 11 MB"),
        ("photo.jpg", lambda content: b"\xff\xd8", "no image is among the files"),
    ],
)
def test_what_is_refused_is_told_and_the_open_study_stays(page, tmp_path, keep, name, damage, sentence):
    add(page, "opened", files=nifti(tmp_path / "opened.nii.gz", volume(5)))
    click(page, [20, 16, 6])
    before = map_in_file_order(page)
    path = nifti(tmp_path / "other.nii.gz", volume(6))
    (tmp_path / name).write_bytes(damage(path.read_bytes()))
    page.locator("#chosen-files").set_input_files(tmp_path / name)
    assert sentence in said(page)
    keep(page.screenshot(), f"adding_refused_{name}.png")
    assert page.locator("#study-name").inner_text() == "opened"
    assert np.array_equal(map_in_file_order(page), before)
    assert before.any()
    page.locator("#sending-end", has_text="Close").click()
    assert page.locator("#sending").is_hidden()
    assert page.locator("#add-files").is_enabled()


def test_a_script_that_sends_too_much_is_told_so_and_nothing_stays(url, folder):
    pieces = [b'--x\r\nContent-Disposition: form-data; name="files"; filename="new.nii"\r\n\r\n', *[bytes(2**20)] * 12]
    for body in (b"".join(pieces), iter(pieces)):  # the latter does not say how large it is
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        reply = requests.post(f"{url}/clickseg/api/studies", data=body, headers=headers, timeout=60)
        assert reply.status_code == 413
        assert reply.json()["detail"].startswith("the server takes 10 MB at once")
    assert not list((folder / "temporary").glob("clickseg-upload-*"))


def test_of_a_study_that_is_here_already_no_second_one_is_made(page, tmp_path):
    path = nifti(tmp_path / "opened.nii.gz", volume(5))
    add(page, "opened", files=path)
    count = page.locator("#studies button").count()
    click(page, [20, 16, 6])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    page.locator("#chosen-files").set_input_files(path)
    page.locator("#status", has_text="opened is here already, and open.").wait_for()
    assert page.locator("#studies button").count() == count
    assert map_in_file_order(page).any(), "what is not saved stays"


def test_files_that_are_dropped_on_the_page_are_added(page, tmp_path, keep):
    content = nifti(tmp_path / "dropped.nii.gz", volume(7)).read_bytes()
    transfer = page.evaluate_handle(
        """(text) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], "dropped.nii.gz"));
            return transfer;
        }""",
        base64.b64encode(content).decode(),
    )
    page.dispatch_event("#viewer", "dragover", {"dataTransfer": transfer})
    assert page.locator("#drop").is_visible()
    keep(page.screenshot(), "adding_drop.png")
    page.dispatch_event("#viewer", "drop", {"dataTransfer": transfer})
    page.wait_for_function("document.querySelector('#study-name').textContent === 'dropped'")
    assert page.locator("#drop").is_hidden()


def test_what_is_being_sent_can_be_cancelled(page, tmp_path, keep):
    before = page.locator("#studies button").count()
    devtools = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    devtools.send("Network.emulateNetworkConditions", slow)
    path = tmp_path / "slow.nii"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (99, 99, 300), np.int16), AFFINE), path)
    page.locator("#chosen-files").set_input_files(path)
    page.wait_for_function("document.querySelector('#sending-progress').value > 0.02")
    assert page.locator("#sending-text").inner_text().startswith("Sending slow.nii: ")
    assert page.locator("#add-files").is_disabled()
    keep(page.screenshot(), "adding_sending.png")
    page.locator("#sending-end", has_text="Cancel").click()
    page.locator("#sending").wait_for(state="hidden")
    assert page.locator("#add-files").is_enabled()
    devtools.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    page.reload()
    page.evaluate("clickseg.ready")
    assert page.locator("#studies button").count() == before

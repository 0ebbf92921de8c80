"""The app's own page in a real browser, over the real server: what a user sees, and what is saved."""

import contextlib
import itertools
import json
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest
import requests
from browsing import bytes_of, map_in_file_order
from scipy import ndimage

from clickseg import cli
from clickseg.phantom import LABELS, phantom

pytestmark = pytest.mark.chromium

ORGAN = "left kidney"
OBLIQUE = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]])  # about the long axis, mm
FAR = (900, -1500, 1200)  # mm from the world's 0, where no part of the image is
TURNS = {"plain": "RAS", "dicom": "LPS", "flipped": "RAI", "permuted": "SAL"}


def turned(array, affine, axes):
    """A volume in RAS order as a program with other habits stores it."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    return nib.Nifti1Image(array, affine).as_reoriented(turn)


def stored(array, name):
    """An array in RAS order as the study of that name has it."""
    return turned(array.astype(np.int32), np.eye(4), TURNS.get(name, "RAS")).get_fdata().astype(array.dtype)


@pytest.fixture(scope="module")
def patient():
    return phantom(seed=0, shape=(128, 128, 48))


@pytest.fixture(scope="module")
def kidney(patient):
    """The truth, and the voxel deepest in its largest axial slice, both in RAS order."""
    truth = patient.label == LABELS[ORGAN]
    number = int(truth.sum((0, 1)).argmax())
    depth = ndimage.distance_transform_edt(truth[..., number])
    return truth, (*map(int, np.unravel_index(depth.argmax(), depth.shape)), number)


@pytest.fixture(scope="module")
def folder(patient, tiny_weights, tiny_tis_weights, tmp_path_factory):
    """Studies as they come, and small models beside the shipped ones."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "studies").mkdir()
    for name, axes in TURNS.items():
        nib.save(turned(patient.image, patient.affine, axes), folder / f"studies/{name}.nii.gz")
    nib.save(nib.Nifti1Image(patient.image, OBLIQUE @ patient.affine), folder / "studies/oblique.nii.gz")
    far = patient.affine.copy()
    far[:3, 3] = FAR
    nib.save(nib.Nifti1Image(patient.image, far), folder / "studies/far.nii.gz")
    noise = np.random.default_rng(0).normal(50, 80, (20, 24, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.diag([-1.0, 1.0, 1.5, 1.0])), folder / "studies/small.nii.gz")
    tiny_weights(folder / "model/unet2d_tiny.pt", {"spleen": 1, "liver": 2}, steps_per_epoch=2)
    tiny_tis_weights(folder / "model/tis_small.pt", {"spleen": 1, "liver": 2}, "CT")
    return folder


def accept(dialog):
    dialog.accept()


@contextlib.contextmanager
def declining(page):
    """While this lasts the page's questions are answered with no; their texts."""
    asked = []

    def decline(dialog):
        asked.append(dialog.message)
        dialog.dismiss()

    page.remove_listener("dialog", accept)
    page.on("dialog", decline)
    yield asked
    page.remove_listener("dialog", decline)
    page.on("dialog", accept)


@pytest.fixture(scope="module")
def page(browser, url):
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_default_timeout(180_000)
    page.problems, page.hosts = [], set()
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.hosts.add(urlsplit(request.url).netloc))
    page.on("dialog", accept)
    yield page
    page.close()


@pytest.fixture
def study(page, url):
    """study(name): opens it anew."""

    def study(name):
        page.goto("about:blank")
        page.goto(f"{url}/clickseg/#study={name}")
        page.evaluate("clickseg.ready")
        assert page.locator("#study-name").inner_text() == name

    yield study
    assert page.problems == []


def settle(page):
    page.evaluate("clickseg.editor().idle()")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def choose(page, label):
    page.locator("#labels button", has_text=label).click()


def go_to(page, ras):
    """Cut the views through a voxel (RAS order); returns where it is in the axial view, from that view's box alone."""
    page.evaluate("(ras) => clickseg.viewer.moveTo(ras)", list(ras))
    settle(page)
    box, counts = page.evaluate(
        """() => {
            const { nv, canvas, frame } = clickseg.viewer;
            const place = canvas.getBoundingClientRect();
            const [left, top, width, height] = nv.screenSlices[0].leftTopWidthHeight;
            const scale = place.width / canvas.width;
            return [[place.left + left * scale, place.top + top * scale, width * scale, height * scale],
                    frame.shownDims];
        }"""
    )
    left, top, width, height = box
    # As radiologists look at it: the patient's right on the left of the screen, the front on top.
    return left + width * (1 - (ras[0] + 0.5) / counts[0]), top + height * (1 - (ras[1] + 0.5) / counts[1])


def click(page, ras, **options):
    page.mouse.click(*go_to(page, ras), **options)
    settle(page)


def save(page, name):
    page.locator("#accept").click()
    page.locator("#status", has_text=f"The label of {name} is saved.").wait_for()


def shown_mask(page, label=ORGAN):
    """The page's mask of a label, in the order of the image's file."""
    return map_in_file_order(page) == page.evaluate("(label) => clickseg.editor().labels.value(label)", label)


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def largest_error(mask, truth):
    """(voxel, whether it is missing) deep in the largest error of a slice."""
    missing, wrong = truth & ~mask, mask & ~truth
    depths = [ndimage.distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1] for error in (missing, wrong)]
    inside = depths[0].max() >= depths[1].max()
    depth = depths[0] if inside else depths[1]
    return tuple(map(int, np.unravel_index(depth.argmax(), depth.shape))), bool(inside)


def test_three_clicks_give_the_organ_and_what_is_saved_is_read_again(page, study, url, folder, kidney, keep):
    truth, first = kidney
    study("plain")
    choose(page, ORGAN)
    number, mask = first[2], np.zeros_like(truth)
    for _ in range(3):
        place, inside = largest_error(mask[..., number], truth[..., number])
        click(page, (*place, number), button="left" if inside else "right")
        mask = shown_mask(page)
    assert dice(mask[..., number], truth[..., number]) >= 0.9
    keep(page.screenshot(), "page.png")

    save(page, "plain")
    page.locator("#studies button", has_text="plain").locator(".done").wait_for()
    saved = nib.load(folder / "studies/labels/final/plain.nii.gz")
    assert np.array_equal(np.asanyarray(saved.dataobj) > 0, mask)
    assert np.allclose(saved.affine, nib.load(folder / "studies/plain.nii.gz").affine, atol=1e-4)
    entry = requests.get(f"{url}/datastore/?output=all", timeout=60).json()["objects"]["plain"]
    named = {item["name"]: item["idx"] for item in entry["labels"]["final"]["info"]["label_info"]}
    assert named == {ORGAN: int(np.asanyarray(saved.dataobj).max())}

    study("plain")
    assert np.array_equal(shown_mask(page), mask)
    assert page.locator("#saved").inner_text() == "Saved"


def test_a_saved_label_is_corrected_and_its_other_slices_stay(page, study, kidney):
    _, first = kidney
    study("plain")
    choose(page, ORGAN)
    click(page, first)
    save(page, "plain")
    before = shown_mask(page)
    other = (first[0], first[1], first[2] + 2)
    click(page, other)
    after = shown_mask(page)
    assert np.array_equal(after[..., first[2]], before[..., first[2]])
    assert after[other]
    page.keyboard.press("z")
    settle(page)
    assert np.array_equal(shown_mask(page), before)


GROWING = """(slices) => {
    const { display, map, frame } = clickseg.editor(), [x, y] = frame.shownDims;
    const held = (values) => new Set([...values].flatMap((one, at) => (one ? [Math.floor(at / (x * y))] : [])));
    return held(map).size === 1 && held(display).size >= slices;
}"""


def test_a_propagation_is_seen_slice_by_slice_and_undo_gives_it_up(page, study, kidney, keep):
    truth, first = kidney
    study("flipped")
    choose(page, ORGAN)
    click(page, first)
    clicked = shown_mask(page)
    page.keyboard.press("p")
    page.wait_for_function(GROWING, arg=4)
    keep(page.screenshot(), "propagating.png")
    page.keyboard.press("z")
    settle(page)
    assert np.array_equal(shown_mask(page), clicked)
    assert page.locator("#status").inner_text() == ""
    page.keyboard.press("p")
    settle(page)
    assert dice(shown_mask(page), stored(truth, "flipped")) > 0.8


@pytest.mark.parametrize("name", ["dicom", "flipped", "permuted", "oblique"])
def test_however_a_study_is_stored_a_click_gives_the_mask_of_the_command(page, study, folder, kidney, tmp_path, name):
    truth, first = kidney
    study(name)
    choose(page, ORGAN)
    click(page, first)
    path = folder / f"studies/{name}.nii.gz"
    numbers = np.arange(truth.size, dtype=np.int32).reshape(truth.shape)
    wanted = np.argwhere(stored(numbers, name) == numbers[first])[0]
    assert page.evaluate("clickseg.editor().state.clicks[0].position") == wanted.tolist()

    asked = f"{','.join(map(str, wanted))}:{ORGAN}"
    assert cli.main(["predict", str(path), "--click", asked, "--output", f"{tmp_path}/m.nii"]) == 0
    command = np.asanyarray(nib.load(tmp_path / "m.nii").dataobj) > 0
    mask = shown_mask(page)
    assert np.array_equal(mask, command)
    axis = nib.io_orientation(nib.load(path).affine)[:, 0].tolist().index(2)
    in_slice = [np.take(array, wanted[axis], axis) for array in (mask, stored(truth, name))]
    assert dice(*in_slice) > 0.7


def test_the_views_look_the_same_however_a_study_is_stored(page, study, kidney):
    pictures = {}
    for name in TURNS:
        study(name)
        go_to(page, kidney[1])
        pictures[name] = bytes_of(
            page,
            """(() => {
                const { nv, canvas } = clickseg.viewer;
                nv.drawScene();
                const pixels = new Uint8Array(canvas.width * canvas.height * 4);
                nv.gl.readPixels(0, 0, canvas.width, canvas.height, nv.gl.RGBA, nv.gl.UNSIGNED_BYTE, pixels);
                return pixels.filter((_, at) => at % 4 === 0);
            })()""",
        ).astype(int)
    plain = pictures.pop("plain")
    assert len(np.unique(plain)) > 100
    for name, picture in pictures.items():
        assert np.abs(plain - picture).mean() < 1, name


def test_a_drag_is_previewed_without_a_queue_and_the_last_place_comes_soon(page, study, kidney, keep):
    _, first = kidney
    study("dicom")
    choose(page, ORGAN)
    click(page, first)  # the session is open, the network warm
    page.keyboard.press("z")
    settle(page)
    page.evaluate(
        """() => {
            performance.clearResourceTimings();
            const seen = (window.seen = { shown: [], moved: 0, places: [] });
            const viewer = document.getElementById("viewer");
            new MutationObserver(() => {
                seen.shown.push(performance.now());
                seen.places.push(viewer.dataset.previewed);
            }).observe(viewer, { attributeFilter: ["data-previewed"] });
            viewer.addEventListener("pointermove", () => (seen.moved = performance.now()));
        }"""
    )
    x, y = go_to(page, first)
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 21):
        page.mouse.move(x - 0.8 * step, y + 0.5 * step)
        page.wait_for_timeout(100)
    last = page.evaluate("String(clickseg.viewer.frame.toSource(clickseg.viewer.cursor))")
    page.wait_for_function("(last) => document.getElementById('viewer').dataset.previewed === last", arg=last)
    shown, moved, timings = page.evaluate(
        """() => [seen.shown, seen.moved, performance.getEntriesByType("resource")
            .filter(({ name }) => name.includes("/preview"))
            .map(({ startTime, responseEnd }) => [startTime, responseEnd])]"""
    )
    previews = sorted(timings)
    assert len(previews) >= 2
    assert all(end <= start + 1 for (_, end), (start, _) in itertools.pairwise(previews))  # one at a time
    # A preview's time is from one being shown to the next: the request, and drawing it.
    times = np.diff([previews[0][0], *shown])
    assert shown[-1] - moved <= 2 * times.max()
    figures = {"previews": len(previews), "median_ms": np.median(times), "last_after_ms": shown[-1] - moved}
    keep(json.dumps(figures).encode(), "page_drag.json")

    preview = bytes_of(page, "clickseg.editor().display")
    page.mouse.up()
    settle(page)
    assert page.evaluate("String(clickseg.editor().state.clicks.map(({ position }) => position))") == last
    assert np.array_equal(preview, bytes_of(page, "clickseg.editor().map"))


def test_a_drag_that_is_given_up_leaves_nothing_behind(page, study, kidney):
    study("dicom")
    choose(page, ORGAN)
    page.mouse.move(*go_to(page, kidney[1]))
    page.mouse.down()
    page.wait_for_function("document.getElementById('viewer').dataset.previewed")
    assert page.evaluate("clickseg.editor().display.some((value) => value)")
    page.keyboard.press("Escape")
    page.mouse.up()
    settle(page)
    assert page.evaluate("clickseg.editor().state.clicks.length") == 0
    assert not page.evaluate("clickseg.editor().display.some((value) => value)")
    assert page.evaluate("clickseg.viewer.clicks.length") == 0


def test_what_is_clicked_while_another_study_opens_is_asked_about_first(page, study):
    study("dicom")
    choose(page, ORGAN)
    held = []
    page.route("**/clickseg/api/image?image=plain", lambda route: held.append(route))
    page.locator("#studies button[title=plain]").click()
    page.wait_for_function("!document.getElementById('loading').hidden")
    page.keyboard.press("Enter")  # a study that opens takes no more clicks by the keyboard
    page.evaluate("""clickseg.editor().add({ position: [64, 64, 24], label: "left kidney", inside: true })""")
    settle(page)
    with declining(page) as asked:
        held[0].continue_()
        page.wait_for_function("document.getElementById('loading').hidden")
    page.unroute("**/clickseg/api/image?image=plain")
    assert asked == ["The label of dicom is not saved. Leave it?"]
    assert page.locator("#study-name").inner_text() == "dicom"
    assert page.evaluate("clickseg.editor().state.clicks.length") == 1
    assert page.evaluate("location.hash") == "#study=dicom"


def test_after_lists_and_labels_are_used_by_mouse_the_keys_go_on(page, study):
    study("plain")
    for name in ("layout", "window"):
        page.locator(f"#{name}").click()
        page.keyboard.press("Escape")  # its list is closed, and it has the focus
        page.keyboard.press("m")
        assert page.evaluate("clickseg.viewer.nv.drawOpacity") == 0, f"m is a command while {name} has the focus"
        page.keyboard.press("m")
    choose(page, "spleen")
    before = page.evaluate("clickseg.viewer.cursor")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("clickseg.viewer.cursor") != before
    for repeat in ("false", "true", "true"):
        page.evaluate(
            """(repeat) => document.getElementById("viewer").dispatchEvent(
                new KeyboardEvent("keydown", { key: "Enter", bubbles: true, repeat }))""",
            json.loads(repeat),
        )
    settle(page)
    assert page.evaluate("clickseg.editor().state.clicks.length") == 1, "a key that is held clicks once"


def test_the_digit_of_a_label_is_the_same_in_every_study(page, study, kidney):
    study("permuted")
    choose(page, "liver")
    click(page, kidney[1])
    page.locator("#accept").click()
    page.wait_for_function("document.getElementById('saved').textContent === 'Saved'")  # the study's first label
    for name in ("permuted", "plain"):
        study(name)
        page.keyboard.press("1")
        assert page.locator("#labels [aria-current=true]").inner_text().startswith("spleen")


def test_the_place_says_voxel_value_and_label(page, study, folder):
    for name in ("permuted", "flipped"):
        study(name)
        page.evaluate("clickseg.viewer.moveTo([70, 50, 20])")
        page.locator("#viewer").focus()
        page.keyboard.press("ArrowUp")
        place, value, *label = page.locator("#place").inner_text().split(" · ")
        image = nib.load(folder / f"studies/{name}.nii.gz").get_fdata()
        index = tuple(map(int, place.split(", ")))
        assert float(value) == pytest.approx(image[index], rel=1e-3)
        assert not label


def test_the_middle_button_makes_a_window_that_stays_from_study_to_study(page, study, kidney):
    study("plain")
    page.mouse.move(*go_to(page, kidney[1]))
    low, high = page.evaluate("clickseg.viewer.window")
    page.mouse.down(button="middle")
    page.mouse.move(*(at + shift for at, shift in zip(go_to(page, kidney[1]), (40, 40), strict=True)), steps=4)
    page.mouse.up(button="middle")
    assert page.locator("#window").input_value() == "Own"
    own = page.evaluate("clickseg.viewer.window")
    assert own[1] - own[0] == pytest.approx((high - low) * 1.1, rel=0.02), "wider to the right"
    assert sum(own) > low + high, "darker downwards: its level rises"
    assert page.evaluate("clickseg.editor().state.clicks.length") == 0
    page.locator("#studies button[title=dicom]").click()
    page.wait_for_function("document.getElementById('study-name').textContent === 'dicom'")
    assert page.evaluate("clickseg.viewer.window") == pytest.approx(own)


def test_a_trackpad_turns_slices_slowly_and_a_click_falls_into_the_slice_that_is_shown(page, study, kidney):
    study("plain")
    choose(page, ORGAN)
    x, y = go_to(page, kidney[1])
    page.mouse.move(x, y)
    number = page.evaluate("clickseg.viewer.cursor[2]")
    for _ in range(20):
        page.mouse.wheel(0, -4)
    page.wait_for_function(f"clickseg.viewer.cursor[2] === {number + 2}")
    page.mouse.down()
    page.mouse.wheel(0, 100)
    page.wait_for_function(f"clickseg.viewer.cursor[2] === {number + 1}")
    page.mouse.up()
    settle(page)
    (click,) = page.evaluate("clickseg.editor().state.clicks")
    assert click["position"][2] == number + 1


@pytest.mark.parametrize("name", ["far", "oblique"])
def test_what_is_zoomed_in_on_stays_where_it_is_on_the_screen(page, study, kidney, name):
    def places(voxel):
        settle(page)
        return page.evaluate("(voxel) => [0, 1, 2].map((depth) => clickseg.viewer.placeOf(voxel, depth))", voxel)

    study(name)
    page.locator("#viewer").focus()
    go_to(page, kidney[1])
    cursor, beside = list(kidney[1]), [kidney[1][0] + 6, kidney[1][1] - 4, kidney[1][2]]
    before, beside_before = places(cursor), places(beside)
    for _ in range(6):
        page.keyboard.press("+")
        assert np.abs(np.subtract(places(cursor), before)).max() < 1
    axial = places(beside)[2]
    assert np.linalg.norm(np.subtract(axial, before[2])) > 3 * np.linalg.norm(np.subtract(beside_before[2], before[2]))
    page.keyboard.press("PageUp")
    assert places(beside)[2] == axial, "another slice is cut, and the view stays"

    page.mouse.move(*axial)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("clickseg.viewer.nv.scene.pan2Dxyzmm[3] > 4")
    assert np.abs(np.subtract(places(beside)[2], axial)).max() < 1
    for _ in range(12):
        page.keyboard.press("-")
    assert np.abs(np.subtract(places(cursor), before)).max() < 1, "all is shown again"


def test_a_label_that_the_model_does_not_know_is_refused_in_words(page, study):
    study("plain")
    page.locator("#model").select_option("unet2d_labels")
    page.locator("#new-label").fill("tumour")
    page.keyboard.press("Enter")
    assert "unet2d_labels does not know the label tumour" in page.locator("#status").inner_text()
    assert "tumour" not in page.locator("#labels [aria-current=true]").inner_text()
    choose(page, "liver")
    assert "tumour" not in page.locator("#labels").inner_text(), "nor does it come later"
    assert page.locator("#new-label").input_value() == "tumour"
    for name in ("Background", "start"):  # the latter means something else in a request
        page.locator("#new-label").fill(name)
        page.keyboard.press("Enter")
        assert "another name" in page.locator("#status").inner_text()
        assert name not in page.evaluate("clickseg.editor().labels.names")


def test_a_label_saved_elsewhere_meanwhile_is_not_replaced_unasked(page, study, url, folder, kidney, tmp_path):
    study("oblique")
    truth = kidney[0].astype(np.uint8)
    image = nib.load(folder / "studies/oblique.nii.gz")
    nib.save(nib.Nifti1Image(truth, image.affine), tmp_path / "theirs.nii.gz")
    with (tmp_path / "theirs.nii.gz").open("rb") as file:
        params = {"label_info": [{"name": ORGAN, "idx": 1}]}
        reply = requests.put(
            f"{url}/datastore/label?image=oblique",
            files={"label": ("theirs.nii.gz", file)},
            data={"params": json.dumps(params)},
            timeout=60,
        )
    assert reply.status_code == 200, reply.text
    choose(page, "liver")
    click(page, (30, 64, 24))
    with declining(page) as asked:
        page.locator("#accept").click()
        page.wait_for_function("document.getElementById('status').textContent")
    assert "saved by somebody else" in asked[0]
    assert nib.load(folder / "studies/labels/final/oblique.nii.gz").get_fdata().sum() == truth.sum()


def test_a_label_that_was_saved_by_mistake_is_taken_away_again(page, study, folder, kidney):
    study("permuted")
    if not page.evaluate("clickseg.editor().saving.version"):
        choose(page, "liver")
        click(page, kidney[1])
        save(page, "permuted")
    for label in ("liver", ORGAN):
        choose(page, label)
        page.keyboard.press("Delete")
        settle(page)
    page.keyboard.press("s")
    page.locator("#status", has_text="The label of permuted is removed.").wait_for()
    assert not (folder / "studies/labels/final/permuted.nii.gz").exists()
    page.wait_for_function("document.getElementById('saved').textContent === ''")
    page.keyboard.press("s")
    page.locator("#status", has_text="There is nothing to save yet").wait_for()


def test_the_keyboard_is_enough(page, study, kidney):
    _, first = kidney
    study("flipped")
    page.locator("#viewer").focus()
    page.keyboard.press("3")
    assert page.locator("#labels [aria-current=true]").inner_text().startswith(ORGAN)
    start = page.evaluate("clickseg.viewer.cursor")
    for axis, keys in enumerate([("ArrowRight", "ArrowLeft"), ("ArrowDown", "ArrowUp"), ("PageDown", "PageUp")]):
        distance = first[axis] - start[axis]
        for _ in range(abs(distance)):
            page.keyboard.press(keys[distance > 0])
    assert page.evaluate("clickseg.viewer.cursor") == list(first)

    masks = [shown_mask(page)]
    for keys in (["Enter"], ["ArrowLeft"] * 2 + ["Enter"], ["ArrowUp"] * 14 + ["Backspace"]):
        for key in keys:
            page.keyboard.press(key)
        settle(page)
        masks.append(shown_mask(page))
    assert [click["inside"] for click in page.evaluate("clickseg.editor().state.clicks")] == [True, True, False]
    assert masks[1].any()
    for expected in reversed(masks[:-1]):
        page.keyboard.press("z")
        settle(page)
        assert np.array_equal(shown_mask(page), expected)
    for expected in masks[1:]:
        page.keyboard.press("Shift+Z")
        settle(page)
        assert np.array_equal(shown_mask(page), expected)

    page.keyboard.press("p")  # on to the neighbouring slices
    settle(page)
    grown = shown_mask(page)
    assert grown.any((0, 1)).sum() > masks[-1].any((0, 1)).sum() == 1
    page.keyboard.press("Delete")
    settle(page)
    assert not shown_mask(page).any()
    page.keyboard.press("?")
    assert page.locator("#shortcuts").is_visible()
    page.keyboard.press("Escape")


def test_a_model_of_all_labels_takes_clicks_of_each_and_answers_before_the_first(page, study, url, ask, mask_in):
    study("small")
    page.locator("#model").select_option("tis_small")
    page.locator("#automatic").click()
    clicks = {}
    for name, position in [
        (None, None),
        ("spleen", [9, 12, 7]),
        ("liver", [4, 5, 6]),
        ("background", [2, 2, 2]),
    ]:
        if name:
            clicks[name] = [position]
            label, inside = ("spleen", False) if name == "background" else (name, True)
            page.evaluate(
                "(click) => clickseg.editor().add(click)", {"label": label, "inside": inside, "position": position}
            )
        settle(page)
        response = ask(url, "tis_small", "small", result_extension=".nrrd", **clicks)
        assert response.status_code == 200, response.text
        answer, _ = mask_in(response)
        for value, label in enumerate(("spleen", "liver"), start=1):
            assert np.array_equal(shown_mask(page, label), answer == value), (name, label)
    assert answer.any()


def test_what_the_server_refuses_is_said_in_words_and_not_kept(page, study, url):
    study("plain")
    page.evaluate("""clickseg.editor().add({ position: [500, 0, 0], label: "left kidney", inside: true })""")
    settle(page)
    assert "outside the image" in page.locator("#status").inner_text()
    assert page.evaluate("clickseg.editor().state.clicks.length") == 0
    page.goto("about:blank")
    page.goto(f"{url}/clickseg/#study=nobody")
    page.evaluate("clickseg.ready")
    said = page.locator("#unopened").inner_text()
    assert said.startswith("nobody is not opened: image 'nobody' is not in the datastore")


def test_a_study_that_cannot_be_opened_is_told_and_the_next_one_opened(page, url):
    listed = requests.get(f"{url}/clickseg/api/studies", timeout=60).json()
    first, then = sorted(listed, key=lambda study: study["labelled"])[:2]
    broken = f"**/clickseg/api/image?image={first['image']}"
    page.route(broken, lambda route: route.fulfill(status=400, json={"detail": "a 3D image is needed"}))
    page.goto("about:blank")
    page.goto(f"{url}/clickseg/")
    page.evaluate("clickseg.ready")
    page.unroute(broken)
    assert page.locator("#study-name").inner_text() == then["image"]
    assert page.locator("#unopened").inner_text() == f"{first['image']} is not opened: a 3D image is needed"
    page.locator(f"#studies button[title={first['image']}]").click()
    page.wait_for_function("(name) => document.getElementById('study-name').textContent === name", arg=first["image"])
    assert page.locator("#unopened").is_hidden()


def test_a_press_on_a_label_counts_though_an_answer_comes_meanwhile(page, study, kidney):
    study("plain")
    choose(page, ORGAN)
    held = []
    page.route("**/infer/**", lambda route: held.append(route))
    page.locator("#viewer").focus()
    page.keyboard.press("Enter")
    label = page.locator("#labels button", has_text="spleen")
    label.hover()
    page.mouse.down()
    page.wait_for_timeout(500)
    held[0].continue_()
    settle(page)
    page.unroute("**/infer/**")
    page.mouse.up()
    assert label.get_attribute("aria-current") == "true"
    label.focus()
    page.keyboard.press("p")
    settle(page)
    assert page.evaluate("document.activeElement.value") == "spleen"


def test_letters_that_are_typed_in_a_list_are_no_commands(page, study):
    study("plain")
    page.locator("#window").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "layout"
    page.keyboard.press("s")
    assert page.locator("#layout").input_value() == "sagittal"
    page.wait_for_timeout(500)
    assert page.locator("#status").inner_text() == "", "nothing was to be saved"


@pytest.mark.parametrize(("layout", "depth"), [("three", 2), ("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_the_arrow_keys_move_along_the_screen_in_the_view_that_is_shown(page, study, layout, depth):
    def place():
        settle(page)
        return page.evaluate("(depth) => clickseg.viewer.placeOf(clickseg.viewer.cursor, depth)", depth)

    study("permuted")
    page.locator("#layout").select_option(layout)
    page.locator("#viewer").focus()
    before = place()
    for key, way in [("Left", (-1, 0)), ("Up", (0, -1)), ("Right", (1, 0)), ("Down", (0, 1))]:
        page.keyboard.press(f"Shift+Arrow{key}")
        after = place()
        moved = np.subtract(after, before)
        assert np.abs(moved).max() > 5
        assert np.allclose(moved / np.abs(moved).max(), way, atol=0.01), key
        before = after
    page.locator("#layout").select_option("three")


def test_the_place_says_the_label_as_soon_as_a_click_has_made_it(page, study, kidney):
    study("plain")
    choose(page, ORGAN)
    click(page, kidney[1])
    assert page.locator("#place").inner_text().endswith(f" · {ORGAN}")


def test_the_next_study_is_the_strategys_choice(page, study):
    study("plain")
    page.locator("#strategy").select_option("first")
    page.keyboard.press("Tab")
    page.locator("#next").click()
    page.wait_for_function("document.getElementById('study-name').textContent === 'dicom'")


def test_a_training_is_started_and_its_curve_drawn(page, study, kidney, keep):
    study("plain")
    choose(page, ORGAN)
    click(page, kidney[1])
    save(page, "plain")
    page.locator("#model").select_option("unet2d_tiny")
    page.locator("#epochs").fill("2")
    page.locator("#train").click()
    page.locator("#stop").wait_for()
    page.locator("#training-state", has_text="done · 2 of 2").wait_for(timeout=300_000)
    points = page.locator("#curve polyline").get_attribute("points").split()
    assert len(points) == 2
    keep(page.screenshot(), "page_training.png")


def test_nothing_is_fetched_from_elsewhere(page, study, url):
    study("plain")
    assert page.hosts - {""} == {urlsplit(url).netloc}
    sizes = page.evaluate(
        """performance.getEntriesByType("resource").filter(({ name }) => !name.includes("/api/"))
            .map(({ name, decodedBodySize }) => [name, decodedBodySize])"""
    )
    assert sum(size for _, size in sizes) < 1_500_000, json.dumps(sizes)


def colour_at(page, ras):
    """The colour that the axial view has at a voxel, with nothing drawn over it."""
    go_to(page, ras)
    return page.evaluate(
        """() => {
            const { nv, canvas } = clickseg.viewer;
            nv.drawScene();
            const [x, y] = clickseg.viewer.placeOf(clickseg.viewer.cursor);
            const place = canvas.getBoundingClientRect();
            const scale = canvas.width / place.width;
            const pixel = new Uint8Array(4);
            const at = [(x - place.left) * scale, canvas.height - (y - place.top) * scale];
            nv.gl.readPixels(...at.map(Math.floor), 1, 1, nv.gl.RGBA, nv.gl.UNSIGNED_BYTE, pixel);
            return [...pixel.slice(0, 3)];
        }"""
    )


def test_a_label_can_be_hidden_and_a_click_shows_it_again(page, study, kidney):
    _, first = kidney
    study("plain")
    choose(page, ORGAN)
    page.keyboard.press("Delete")
    settle(page)
    plain = colour_at(page, first)
    assert max(plain) - min(plain) <= 2, "grey"
    click(page, first)
    drawn = colour_at(page, first)
    assert max(drawn) - min(drawn) > 20
    hide = page.get_by_label(f"Hide {ORGAN}", exact=True)
    hide.click()
    assert colour_at(page, first) == plain
    assert hide.get_attribute("aria-pressed") == "true"
    assert shown_mask(page)[first], "it is hidden and not gone"
    click(page, (first[0] + 1, *first[1:]))
    assert hide.get_attribute("aria-pressed") == "false"
    assert colour_at(page, first) == drawn
    page.keyboard.press("h")
    assert colour_at(page, first) == plain


def test_a_locked_label_takes_no_click_and_loses_nothing_to_others(page, study, kidney):
    _, first = kidney
    study("plain")
    choose(page, ORGAN)
    click(page, first)
    mask = shown_mask(page)
    page.keyboard.press("l")
    settle(page)
    assert page.get_by_label(f"Lock {ORGAN}", exact=True).get_attribute("aria-pressed") == "true"
    click(page, first, button="right")
    assert f"{ORGAN} is locked: unlock it first" in page.locator("#status").inner_text()
    choose(page, "liver")
    click(page, first)
    assert page.evaluate("clickseg.editor().state.clicks.length") == 2
    assert np.array_equal(shown_mask(page), mask)
    page.keyboard.press("z")
    page.keyboard.press("z")
    settle(page)
    assert page.get_by_label(f"Lock {ORGAN}", exact=True).get_attribute("aria-pressed") == "false"
    click(page, first)
    assert not shown_mask(page)[first], "unlocked, it gives way"


def test_what_is_zoomed_in_is_dragged_with_the_mouse(page, study, kidney):
    _, first = kidney
    study("far")
    go_to(page, first)
    for _ in range(3):
        page.keyboard.press("+")
    settle(page)
    before = page.evaluate("clickseg.viewer.placeOf(clickseg.viewer.cursor)")
    page.mouse.move(*before)
    page.keyboard.down("Control")
    page.mouse.down()
    page.mouse.move(before[0] + 17, before[1] - 12, steps=4)
    page.mouse.up()
    page.keyboard.up("Control")
    settle(page)
    after = page.evaluate("clickseg.viewer.placeOf(clickseg.viewer.cursor)")
    assert np.allclose(np.subtract(after, before), (17, -12), atol=1.5)
    assert page.evaluate("clickseg.viewer.cursor") == list(first)
    assert page.evaluate("clickseg.editor().state.clicks.length") == 0

"""The page's brush in a real browser, over the real server: what is painted, and what is saved."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import requests
from browsing import map_in_file_order

pytestmark = pytest.mark.chromium

SHAPE, SPACING = (60, 48, 14), np.array([0.8, 0.9, 5.0])  # in RAS order
TILT = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
STORED = "SAL"  # the axes of the file: slices first, and the last axis runs to the left
RADIUS = 5  # mm, as the page begins
AXIAL, CORONAL, SAGITTAL = 2, 1, 0
RIGHT_TO_LEFT = (AXIAL, CORONAL)  # views that have the patient's right on their left


def as_stored(image):
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(STORED))
    )
    return image.as_reoriented(turn)


@pytest.fixture(scope="module")
def folder(tiny_weights, tmp_path_factory):
    """An image of thick slices that lies oblique, and another one; a model of any structure and one of two labels."""
    folder = tmp_path_factory.mktemp("brush")
    (folder / "studies").mkdir()
    affine = np.eye(4)
    affine[:3, :3] = TILT * SPACING
    affine[:3, 3] = (-20, 31, 200)
    noise = np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16)
    nib.save(as_stored(nib.Nifti1Image(noise, affine)), folder / "studies/thick.nii.gz")
    nib.save(nib.Nifti1Image(noise, affine), folder / "studies/other.nii.gz")
    tiny_weights(folder / "model/unet2d.pt", {"spleen": 1, "liver": 2})
    return folder


@pytest.fixture
def page(browser, url):
    """The page with that image open, without a label, and the brush in hand."""
    requests.delete(f"{url}/datastore/label?id=thick&tag=final", timeout=60)
    page = browser.new_page(viewport={"width": 1000, "height": 600})
    page.set_default_timeout(180_000)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{url}/clickseg/#study=thick")
    page.evaluate("clickseg.ready")
    page.keyboard.press("b")
    yield page
    page.close()
    assert problems == []


def test_what_is_painted_in_some_slices_is_filled_in_between(page, url):
    choose(page, "liver")
    for number, aside in ((4, 0), (8, 8)):
        page.evaluate("(ras) => clickseg.viewer.moveTo(ras)", [24 + aside, 20, number])
        settle(page)
        page.keyboard.press("Enter")
        settle(page)
    painted = map_in_file_order(page) > 0
    page.keyboard.press("f")
    settle(page)
    filled = map_in_file_order(page) > 0
    slices = filled.reshape(14, -1)  # the first axis of the file
    assert np.flatnonzero(slices.any(1)).tolist() == [4, 5, 6, 7, 8]
    np.testing.assert_array_equal(filled[[4, 8]], painted[[4, 8]])
    sizes = slices.sum(1)[4:9]
    assert (np.abs(sizes - sizes[0]) <= 2).all(), "a disc that moves sideways is a disc all the way"
    places = [np.argwhere(filled[number]).mean(0) for number in range(4, 9)]
    np.testing.assert_allclose(np.diff(np.linalg.norm(np.subtract(places, places[0]), axis=1)), 2, atol=0.6)
    page.locator("#fill").click()
    page.locator("#status", has_text="Nothing to fill: liver").wait_for()
    page.keyboard.press("z")
    settle(page)
    np.testing.assert_array_equal(map_in_file_order(page) > 0, painted)


def settle(page):
    page.evaluate("clickseg.editor().idle()")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def choose(page, label):
    page.locator("#labels button.row", has_text=label).click()


def clicks(page):
    return page.evaluate("clickseg.editor().state.clicks.length")


def box_of(page, depth):
    """Of the view that is cut along an axis: left, top, width and height on the screen, in CSS pixels."""
    return page.evaluate(
        """(depth) => {
            const { nv, canvas } = clickseg.viewer;
            const place = canvas.getBoundingClientRect();
            const scale = place.width / canvas.width;
            const [left, top, width, height] = nv.screenSlices[2 - depth].leftTopWidthHeight;
            return [place.left + left * scale, place.top + top * scale, width * scale, height * scale];
        }""",
        depth,
    )


def place(page, ras, depth):
    """Where a voxel (RAS order) is on the screen, from the box of the view alone: as radiologists look at it."""
    left, top, width, height = box_of(page, depth)
    across, up = ((np.array(ras) + 0.5) / SHAPE)[[axis for axis in range(3) if axis != depth]]
    return left + width * (1 - across if depth in RIGHT_TO_LEFT else across), top + height * (1 - up)


def press(page, ras, depth, **options):
    page.mouse.move(*place(page, ras, depth))
    page.mouse.down(**options)


def drag(page, begin, end, depth, **options):
    """From voxel to voxel in one leap, as of a fast hand."""
    press(page, begin, depth, **options)
    page.mouse.move(*place(page, end, depth))
    page.mouse.up(**options)
    settle(page)


def passed(begin, end, depth, radius=RADIUS):
    """The voxels in the plane whose middle a disc passes over on its way, in RAS order."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    begin, end = np.array(begin), np.array(end)
    way = (end - begin) * SPACING
    along = ((index - begin) * SPACING) @ way / (way @ way or 1)
    nearest = begin * SPACING + np.clip(along, 0, 1)[..., None] * way
    distance = np.linalg.norm(index * SPACING - nearest, axis=-1)
    return (distance <= radius + 1e-3) & (index[..., depth] == begin[depth])


def stored_map(array):
    """A label map in RAS order as the file has it."""
    return as_stored(nib.Nifti1Image(array.astype(np.int32), np.eye(4))).get_fdata().astype(np.uint8)


def test_what_is_painted_and_erased_in_each_view_is_what_is_saved(page, folder):
    expected = np.zeros(SHAPE, np.uint8)
    history = [expected]
    page.evaluate("clickseg.viewer.moveTo([30, 24, 7])")
    settle(page)
    values = {"spleen": 1, "liver": 2}
    for label, depth, begin, end, button in [
        ("spleen", AXIAL, (8, 10, 7), (50, 40, 7), "left"),
        ("spleen", CORONAL, (10, 24, 2), (52, 24, 11), "left"),
        ("spleen", SAGITTAL, (30, 5, 12), (30, 40, 3), "left"),
        ("liver", AXIAL, (10, 35, 7), (50, 22, 7), "left"),
        ("liver", AXIAL, (20, 5, 7), (24, 44, 7), "right"),
        ("spleen", CORONAL, (20, 24, 5), (40, 24, 9), "right"),
    ]:
        choose(page, label)
        drag(page, begin, end, depth, button=button)
        covered, value = passed(begin, end, depth), values[label]
        erased = np.where(covered & (expected == value), 0, expected)
        expected = np.where(covered, value, expected) if button == "left" else erased
        history.append(expected)
        assert np.array_equal(map_in_file_order(page), stored_map(expected)), (label, begin, end)
    assert clicks(page) == 0
    assert all((before != after).any() for before, after in itertools.pairwise(history))
    for label, value in values.items():
        millilitres = (expected == value).sum() * SPACING.prod() / 1000
        assert page.locator("#labels .row", has_text=label).locator(".figure").inner_text() == f"{millilitres:.1f} ml"

    for before in reversed(history[:-1]):
        page.keyboard.press("z")
        settle(page)
        assert np.array_equal(map_in_file_order(page), stored_map(before)), "a stroke is one step"
    assert page.locator("#saved").inner_text() == ""
    for _ in history[1:]:
        page.keyboard.press("y")
    settle(page)
    assert page.locator("#saved").inner_text() == "Not saved yet"
    page.keyboard.press("s")
    page.locator("#status", has_text="The label of thick is saved.").wait_for()
    saved = nib.load(folder / "studies/labels/final/thick.nii.gz")
    assert np.array_equal(np.asanyarray(saved.dataobj), stored_map(expected))
    assert np.allclose(saved.affine, nib.load(folder / "studies/thick.nii.gz").affine, atol=1e-4)
    page.reload()
    page.evaluate("clickseg.ready")
    assert np.array_equal(map_in_file_order(page), stored_map(expected))


def test_the_brush_is_taken_and_left_and_the_mouse_keeps_its_other_meanings(page):
    button, middle = page.locator("#brush"), (30, 24, 7)
    page.evaluate("(voxel) => clickseg.viewer.moveTo(voxel)", middle)
    choose(page, "spleen")
    before = map_in_file_order(page)
    assert button.get_attribute("aria-pressed") == "true"
    press(page, middle, AXIAL)
    page.mouse.move(*place(page, (40, 24, 7), AXIAL))
    page.wait_for_function("clickseg.editor().display.some((value, at) => value !== clickseg.editor().map[at])")
    page.keyboard.press("Escape")
    page.mouse.up()
    settle(page)
    assert np.array_equal(map_in_file_order(page), before), "the stroke is given up"
    assert page.evaluate("clickseg.editor().display.every((value, at) => value === clickseg.editor().map[at])")
    assert button.get_attribute("aria-pressed") == "true", "and the brush is still in hand"

    page.keyboard.down("Control")
    page.mouse.click(*place(page, (20, 12, 7), AXIAL))
    page.keyboard.up("Control")
    assert page.evaluate("clickseg.viewer.cursor") == [20, 12, 7]
    press(page, (20, 12, 7), AXIAL, button="middle")
    page.mouse.up(button="middle")
    page.mouse.wheel(0, 100)
    page.wait_for_function("clickseg.viewer.cursor[2] === 6")
    settle(page)
    assert np.array_equal(map_in_file_order(page), before)

    page.keyboard.press("Escape")
    assert button.get_attribute("aria-pressed") == "false"
    page.mouse.click(*place(page, (20, 12, 6), AXIAL))
    settle(page)
    assert clicks(page) == 1, "a click is a click again"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"


def test_a_stroke_goes_on_in_the_slice_that_the_wheel_turns_to_and_ends_where_it_leaves_its_view(page):
    page.evaluate("clickseg.viewer.moveTo([30, 24, 7])")
    settle(page)
    choose(page, "spleen")
    press(page, (10, 10, 7), AXIAL)
    page.mouse.move(*place(page, (20, 10, 7), AXIAL))
    page.mouse.wheel(0, -100)
    page.wait_for_function("clickseg.viewer.cursor[2] === 8")
    page.mouse.move(*place(page, (24, 14, 8), AXIAL))
    page.mouse.move(*place(page, (10, 24, 8), CORONAL))  # beside its own view
    page.mouse.move(*place(page, (50, 40, 8), AXIAL))
    page.mouse.up()
    settle(page)
    expected = passed((10, 10, 7), (20, 10, 7), AXIAL) | passed((20, 10, 8), (24, 14, 8), AXIAL)
    expected |= passed((50, 40, 8), (50, 40, 8), AXIAL)
    assert np.array_equal(map_in_file_order(page) == 1, stored_map(expected) == 1)


@pytest.mark.parametrize("zoomed", [False, True])
def test_the_circle_is_as_large_as_what_it_paints(page, zoomed):
    page.evaluate("clickseg.viewer.moveTo([30, 24, 7])")
    choose(page, "spleen")
    for _ in range(4):
        page.keyboard.press("]")
    assert page.locator("#size").inner_text() == "12 mm"
    page.keyboard.press("[")
    assert page.locator("#size").inner_text() == "10 mm"
    for _ in range(3 * zoomed):
        page.keyboard.press("+")
    settle(page)
    at = page.evaluate("clickseg.viewer.placeOf([30, 24, 7])")
    page.mouse.move(*at)
    settle(page)
    right, down = page.evaluate(
        """([x, y]) => {
            const { marks } = clickseg.viewer;
            const box = marks.getBoundingClientRect();
            const scale = marks.width / box.width;
            const [left, top] = [(x - box.left) * scale, (y - box.top) * scale].map(Math.round);
            const reach = (across, down) => {
                for (let far = 400; far; far--) {
                    const pixel = marks.getContext("2d").getImageData(left + across * far, top + down * far, 1, 1).data;
                    if (Math.min(...pixel) > 200) return far / scale;
                }
            };
            return [reach(1, 0), reach(0, 1)];
        }""",
        at,
    )
    page.mouse.click(*at)
    settle(page)
    painted = np.argwhere(map_in_file_order(page) == 1)
    beside = page.evaluate("clickseg.viewer.placeOf([29, 23, 7])")
    pixels = np.abs(np.subtract(beside, at)) / SPACING[:2]  # of a mm
    assert np.allclose([right, down], 10 * pixels, atol=1.5)
    halves = (np.ptp(painted, axis=0)[[2, 1]]) / 2 * SPACING[:2]
    assert np.all((halves <= 10) & (halves > 10 - SPACING[:2]))


def test_a_label_that_the_model_does_not_know_is_painted_and_locks_hold(page):
    page.locator("#model").select_option("unet2d_labels")
    settle(page)
    page.keyboard.press("Escape")
    page.locator("#new-label").fill("tumour")
    page.keyboard.press("Enter")
    refusal = "does not know the label tumour: choose another model for it, or paint it with the brush"
    assert refusal in page.locator("#status").inner_text()
    page.locator("#brush").click()
    page.locator("#add-label button").click()
    assert page.locator("#labels [aria-current=true]").inner_text().startswith("tumour")
    page.evaluate("clickseg.viewer.moveTo([30, 24, 7])")
    page.get_by_label("Hide tumour", exact=True).click()
    drag(page, (10, 10, 7), (30, 10, 7), AXIAL)
    assert page.get_by_label("Hide tumour", exact=True).get_attribute("aria-pressed") == "false", "it is shown"
    tumour = map_in_file_order(page)
    assert tumour.any()
    page.keyboard.press("l")
    settle(page)
    drag(page, (10, 20, 7), (30, 20, 7), AXIAL)
    assert "tumour is locked: unlock it first" in page.locator("#status").inner_text()
    assert np.array_equal(map_in_file_order(page), tumour)
    choose(page, "liver")
    drag(page, (20, 5, 7), (20, 30, 7), AXIAL)
    after = map_in_file_order(page)
    assert np.array_equal(after[tumour > 0], tumour[tumour > 0])
    assert (after[tumour == 0] > 0).any()
    choose(page, "tumour")
    page.keyboard.press("b")
    page.mouse.click(*place(page, (40, 40, 7), AXIAL))
    assert refusal in page.locator("#status").inner_text()
    assert clicks(page) == 0


def test_what_is_painted_while_an_answer_is_awaited_comes_upon_it_and_a_study_that_is_left_asks(page):
    page.evaluate("clickseg.viewer.moveTo([30, 24, 7])")
    settle(page)
    choose(page, "spleen")
    page.keyboard.press("b")
    held = []
    page.route("**/infer/**", lambda route: held.append(route))
    with page.expect_request("**/infer/**"):
        page.mouse.click(*place(page, (31, 24, 7), AXIAL))
    page.keyboard.press("b")
    press(page, (30, 10, 7), AXIAL)
    page.mouse.move(*place(page, (50, 10, 7), AXIAL))
    page.mouse.up()
    choose(page, "liver")
    press(page, (30, 40, 7), AXIAL)
    held[0].continue_()
    page.wait_for_function("clickseg.editor().map.some((value) => value)")
    page.unroute("**/infer/**")
    liver = page.evaluate("clickseg.editor().labels.value('liver')")
    assert page.evaluate("(value) => clickseg.editor().display.includes(value)", liver), "what goes on stays to be seen"
    page.mouse.up()
    settle(page)
    both = map_in_file_order(page)
    spleen, dab = (((30, 10, 7), (50, 10, 7)), ((30, 40, 7), (30, 40, 7)))
    assert (both[stored_map(passed(*spleen, AXIAL)) > 0] == 1).all()
    assert (both[stored_map(passed(*dab, AXIAL)) > 0] == liver).all()
    for _ in range(2):
        page.keyboard.press("z")
    settle(page)
    assert clicks(page) == 1, "the click is a step of its own"

    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.keyboard.press("z")
    page.keyboard.press("y")
    page.keyboard.press("y")
    settle(page)
    assert clicks(page) == 0
    page.locator("#studies button[title=other]").click()
    page.wait_for_function("document.getElementById('loading').hidden")
    assert asked == ["The label of thick is not saved. Leave it?"]

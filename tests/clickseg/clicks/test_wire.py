import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.clicks import Click, wire

INDEX = st.integers(0, 600)
POSITION = st.tuples(INDEX, INDEX, INDEX)
CLICK = st.builds(Click, position=POSITION, label=st.sampled_from([wire.OUTSIDE, wire.INSIDE]))
NAMES = ("liver", "right kidney", "spleen")
NAMED = st.dictionaries(st.sampled_from((*NAMES, "background")), st.lists(POSITION, min_size=1, max_size=4), min_size=1)
TEXT = st.text('[]{}",0123456789 ae.-', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=12,
)
NOT_WHOLE = st.floats().filter(lambda value: not value.is_integer())  # NaN and the infinities among them
REPLY_WISHES = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}


def over_the_wire(request):
    return json.loads(json.dumps(request))


def inside_first(clicks):
    return sorted(clicks, key=lambda click: -click.label)


@given(st.lists(CLICK, min_size=1, max_size=6))
def test_a_one_structure_request_gives_back_the_clicks_it_was_made_of(clicks):
    assert wire.parse_structure(over_the_wire(wire.dump_structure(clicks))) == inside_first(clicks)


@given(NAMED)
def test_a_request_with_named_labels_gives_back_the_clicks_it_was_made_of(clicks):
    assert wire.parse_labels(over_the_wire(wire.dump_labels(clicks)), NAMES) == clicks


@given(st.lists(CLICK, min_size=1, max_size=6))
def test_points_may_come_as_json_strings_and_as_whole_floats(clicks):
    request = wire.dump_structure(clicks)
    as_strings = {name: json.dumps(points) for name, points in request.items()}
    as_floats = {name: [[float(value) for value in point] for point in points] for name, points in request.items()}
    assert wire.parse_structure(as_strings) == wire.parse_structure(as_floats) == wire.parse_structure(request)


@given(POSITION, st.integers(0, 2), NOT_WHOLE)
def test_a_coordinate_that_is_no_whole_number_is_refused(position, axis, value):
    point = list(position)
    point[axis] = value
    with pytest.raises(ValueError, match="three whole numbers"):
        wire.parse_structure({"foreground": [[1, 2, 3], point]})
    with pytest.raises(ValueError, match="three whole numbers"):
        wire.parse_labels({"liver": [point]}, NAMES)


@given(st.dictionaries(st.sampled_from([*NAMES, "foreground", "background", "label", "x"]), JSON))
def test_whatever_json_comes_is_parsed_or_refused_with_a_value_error(request):
    for parse in (wire.parse_structure, lambda request: wire.parse_labels(request, NAMES), wire.parse_reply):
        with contextlib.suppress(ValueError):
            parse(request)


def test_what_ohif_sends_for_one_structure_is_understood():
    request = {"foreground": [[64, 64, 31]], "background": [], "restore_label_idx": False, **REPLY_WISHES}
    assert wire.parse_structure(request) == [Click((64, 64, 31), 1)]
    assert wire.structure_name(request) == "foreground"


def test_ohif_leaves_out_the_foreground_when_it_has_no_points():
    assert wire.parse_structure({"background": [[64, 64, 31]]}) == [Click((64, 64, 31), 0)]


def test_what_slicer_sends_for_one_structure_is_understood():
    request = {"label": "tumour", "foreground": [[1, 2, 3]], "background": [[4, 5, 6]], "model": "unet2d", "image": "a"}
    assert wire.parse_structure(request) == [Click((1, 2, 3), 1), Click((4, 5, 6), 0)]
    assert wire.structure_name(request) == "tumour"


def test_what_ohif_and_slicer_send_for_named_labels_is_understood():
    request = {"background": [[86, 64, 31]], "liver": [[81, 64, 31], [99, 64, 31]], "spleen": [], "label": "liver"}
    assert wire.parse_labels({**request, **REPLY_WISHES}, {"background": 0, "liver": 1, "spleen": 2}) == {
        "background": [(86, 64, 31)],
        "liver": [(81, 64, 31), (99, 64, 31)],
    }


def test_empty_lists_under_the_labels_of_other_models_are_passed_over():
    assert wire.parse_labels({"liver": [[1, 2, 3]], "left hippocampus": []}, NAMES) == {"liver": [(1, 2, 3)]}


def test_an_unknown_label_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match=r"unknown label 'pancreas'; this model knows background, liver, right kidney"):
        wire.parse_labels({"liver": [[1, 2, 3]], "pancreas": [[4, 5, 6]]}, NAMES)
    with pytest.raises(ValueError, match=r"unknown label 'liver'; this model knows foreground, background"):
        wire.parse_structure({"liver": "[[1, 2, 3]]"})


@pytest.mark.parametrize(
    "request_", [{}, {"foreground": []}, {"foreground": "[]", "background": None}, {"label": "liver"}]
)
def test_no_clicks_at_all_are_refused(request_):
    with pytest.raises(ValueError, match="no clicks"):
        wire.parse_structure(request_)
    with pytest.raises(ValueError, match="no clicks"):
        wire.parse_labels({key: value for key, value in request_.items() if key != "foreground"}, NAMES)


@pytest.mark.parametrize(
    "points",
    [[1, 2, 3], [[1, 2]], [[1, 2, 3, 4]], [[True, 0, 0]], [["1", "2", "3"]], [[1e300, 0, 0]], {"x": 1}, 7, "[["],
)
def test_what_is_no_list_of_points_is_refused(points):
    with pytest.raises(ValueError, match="foreground"):
        wire.parse_structure({"foreground": points})


def test_the_reply_is_a_compressed_nifti_of_bytes_unless_the_client_wishes_otherwise():
    assert wire.parse_reply({}) == wire.Reply(".nii.gz", "uint8", False)
    assert wire.parse_reply(REPLY_WISHES) == wire.Reply(".nrrd", "uint8", False)
    assert wire.parse_reply(
        {"result_extension": "nrrd", "result_dtype": "int16", "result_compress": True}
    ) == wire.Reply(".nrrd", "int16", True)


@pytest.mark.parametrize("wish", [{"result_extension": ".png"}, {"result_dtype": "complex64"}, {"result_dtype": "O"}])
def test_a_reply_that_we_do_not_write_is_refused(wish):
    with pytest.raises(ValueError, match="not written here"):
        wire.parse_reply(wish)


class Asked(dict):
    """A request that notes which keys it is asked for."""

    def __init__(self):
        super().__init__()
        self.keys_asked = set()

    def get(self, key, default=None):
        self.keys_asked.add(key)
        return default


def test_no_key_that_is_read_beside_the_clicks_may_be_the_name_of_a_label():
    request = Asked()
    for read in (
        wire.parse_reply,
        wire.parse_reach,
        wire.structure_name,
        lambda asked: wire.parse_frozen(asked, NAMES),
    ):
        read(request)
    assert {"label", "frozen", "result_dtype"} <= request.keys_asked <= wire.RESERVED
    assert set(REPLY_WISHES) < wire.RESERVED
    assert wire.BACKGROUND in wire.RESERVED
    assert wire.RESERVED.isdisjoint([wire.FOREGROUND, *NAMES]), "what users call their structures"


@pytest.mark.parametrize("value", [["liver"], ("liver",), '["liver"]'])
def test_frozen_labels_are_a_list_or_its_json(value):
    assert wire.parse_frozen({"frozen": value}, ["spleen", "liver"]) == ["liver"]


@pytest.mark.parametrize("request_", [{}, {"frozen": None}, {"frozen": []}, {"frozen": ""}])
def test_nothing_is_frozen_unless_it_is_said(request_):
    assert wire.parse_frozen(request_, ["spleen"]) == []


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("[liver", "not JSON"),
        ({"liver": 1}, "must be a list"),
        ([3], "must be a list"),
        (["lung"], "unknown label lung"),
    ],
)
def test_what_cannot_be_frozen_is_refused(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        wire.parse_frozen({"frozen": value}, ["spleen", "liver"])


@pytest.mark.parametrize(
    ("value", "reach"), [(None, 0), (False, 0), ("", 0), ("False", 0), (0, 0), (3, 3), ("12", 12), (4.0, 4)]
)
def test_a_mask_goes_on_to_as_many_slices_as_are_asked_for(value, reach):
    assert wire.parse_reach({"propagate": value}) == reach
    assert wire.parse_reach({}) == 0


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_true_is_every_slice(value):
    assert wire.parse_reach({"propagate": value}) > 10**6


@pytest.mark.parametrize("value", [-1, "-1", 2.5, "both", [3], {"up": 2}, float("nan")])
def test_another_reach_is_refused(value):
    with pytest.raises(ValueError, match="propagate must be true, false or a number of slices"):
        wire.parse_reach({"propagate": value})

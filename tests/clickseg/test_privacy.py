"""What gives a patient away."""

import unicodedata

import pytest

from clickseg.privacy import Patient, gives_away, without_patients

MÜLLER = Patient("4711", "Müller^Hans Peter", "19700325")


@pytest.mark.parametrize(
    "text",
    [
        "MÜLLER",
        "mueller",
        "Muller",
        unicodedata.normalize("NFD", "Müller"),
        "Liver of Hans",
        "xPETERx",
        "1970-03-25",
        "25.03.1970",
    ],
)
def test_a_name_and_a_day_of_birth_are_hidden_however_they_are_spelled(text):
    hidden = without_patients(f"a {text} b", [MÜLLER])
    assert "***" in hidden
    assert not any(part in hidden.lower() for part in ("ller", "hans", "peter", "1970"))
    assert hidden.startswith("a ")
    assert hidden.endswith(" b")


@pytest.mark.parametrize("text", ["Abdomen venous 5.0", "CT CHEST", "20240101", "1.2.250325.7", ""])
def test_other_words_and_dates_stay(text):
    assert without_patients(text, [MÜLLER]) == text


def test_short_names_are_hidden_as_words_alone():
    patient = Patient("1", "Li^Wu")
    assert without_patients("liver of LI_WU, Wuhan", [patient]) == "liver of ***_***, Wuhan"


@pytest.mark.parametrize(
    ("number", "away"),
    [("4711", False), ("250370-1234", True), ("7003251234", True), ("HMUELLER", True), ("700325", True), ("", False)],
)
def test_a_number_that_has_the_name_or_the_day_of_birth_gives_away(number, away):
    assert gives_away(number, MÜLLER) is away


def test_what_stands_for_a_name_in_public_data_is_none():
    assert not gives_away("CRLM-CT-1004", Patient("CRLM-CT-1004", "CRLM-CT-1004"))
    assert gives_away("DOE", Patient("DOE", "DOE"))
    assert gives_away("DOE^JOHN7", Patient("DOE^JOHN7", "DOE^JOHN7"))


@pytest.mark.parametrize("born", ["", "1970", "unknown"])
def test_without_a_day_of_birth_none_is_hidden(born):
    assert without_patients("1970 unknown", [Patient("1", "", born)]) == "1970 unknown"


@pytest.mark.parametrize(
    "day",
    ["3.4.1960", "3.4.60", "4/3/1960", "1960-4-3", "3041960", "03APR1960", "3 April 1960", "Apr 3, 1960", "3-Apr-60"],
)
def test_a_day_of_birth_is_hidden_as_people_write_it(day):
    patient = Patient("1", "", "19600403")
    assert without_patients(f"born {day}, CT_{day}.", [patient]) == "born ***, CT_***."
    assert gives_away(day, patient)


@pytest.mark.parametrize(
    "text", ["13.4.1960", "3.4.19601", "1.3.4.60", "3.4.60.2", "3.5.1960", "13041960", "April 1960", "4.3 mm", "34360"]
)
def test_what_only_looks_like_a_day_of_birth_stays(text):
    assert without_patients(text, [Patient("1", "", "19600403")]) == text


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Wałęsa^Łukasz", "WALESA_LUKASZ"),
        ("Sørensen^Jørgen", "Sorensen_Jorgen"),
        ("Sørensen^Jørgen", "SOERENSEN_JOERGEN"),
        ("Đoković^Þór", "Dokovic_Thor"),
        ("Y\N{LATIN SMALL LETTER DOTLESS I}ld\N{LATIN SMALL LETTER DOTLESS I}z^Ægir", "YILDIZ_AEGIR"),
    ],
)
def test_letters_that_are_none_with_an_accent_are_known_in_other_spellings(name, written):
    assert without_patients(f"ct/{written}", [Patient("1", name)]) == "ct/***_***"

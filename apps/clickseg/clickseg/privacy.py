"""What gives a patient away by name or by day of birth, and texts without it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

HIDDEN = "***"
SHORT = 3  # letters of a name that are looked for as a whole word alone: Li is in liver
# How letters are spelled where there are none of them, and without what makes them others, which no accent is.
SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"})
BARE = str.maketrans(
    {
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "æ": "ae",
        "œ": "oe",
        "ß": "ss",
        "þ": "th",
    }
)
MONTHS = (
    "jan(?:uary?)?", "feb(?:ruary?)?", "mar(?:ch)?|märz?|mrz", "apr(?:il)?", "may|mai", "june?|juni", "july?|juli",
    "aug(?:ust)?", "sept?(?:ember)?", "o[ck]t(?:ober)?", "nov(?:ember)?", "de[cz](?:ember)?",
)  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """A patient as DICOM files have it, each part as it stands there. name: FAMILY^GIVEN. born: YYYYMMDD."""

    id: str = ""
    name: str = ""
    born: str = ""

    @property
    def words(self) -> frozenset[str]:
        """The words of the name, in small letters, as they may be spelled.

        None where a number stands for the name and the id, as in public data sets.
        """
        if self.name == self.id and "^" not in self.name and re.search(r"\d", self.name):
            return frozenset()
        words = re.findall(r"[^\W\d_]{2,}", _composed(self.name).lower())
        return frozenset(spelled for word in words for spelled in (word, _plain(word), word.translate(SPELLED)))


def without_patients(text: str, patients: Iterable[Patient]) -> str:
    """A text, with stars where the name of one of these patients, or the day of birth, stands in it."""
    text = _composed(text)
    for patient in patients:
        long, short = _days(patient.born)
        alone = [rf"(?<![\d.]){day}(?![\d.])" for day in short]
        names = map(_word, sorted(patient.words, key=len, reverse=True))
        for pattern in [*names, *long, *alone, *_written_days(patient.born)]:
            text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    return text


def gives_away(text: str, patient: Patient) -> bool:
    """Whether a name or a day of birth can be read from a text, such as the number that a country gives its people."""
    hidden = without_patients(text, [patient]) != _composed(text)
    return hidden or any(re.search(day, text) for day in _days(patient.born)[1])


def _word(word: str) -> str:
    """Where a word of a name stands: anywhere if it is long, and as a word of its own if it is short."""
    pattern = re.escape(word)
    return rf"(?<![^\W\d_]){pattern}(?![^\W\d_])" if len(word) <= SHORT else pattern


def _days(born: str) -> tuple[list[str], list[str]]:
    """A day of birth in the usual orders, with the whole year and with two digits of it, with or without signs."""
    found = re.fullmatch(r"(\d\d)(\d\d)(\d\d)(\d\d)", born)
    if not found:
        return [], []
    century, short, month, day = found.groups()
    years = (century + short, short)
    long, brief = (_in_each_order("[-._/ ]?", year, month, day) for year in years)
    return long, brief


def _written_days(born: str) -> list[str]:
    """A day of birth as people write it: without the zeros that its parts begin with, or with the name of its month."""
    found = re.fullmatch(r"(\d\d)(\d\d)(0[1-9]|1[0-2])(\d\d)", born)
    if not found:
        return []
    century, short, month, day = found.groups()
    year, named = f"(?:{century})?{short}", f"(?:{MONTHS[int(month) - 1]})"
    m, d = (re.sub("^0", "0?", number) for number in (month, day))
    days = [
        *_in_each_order("[-._/ ]", year, m, d),
        f"{d}{month}{century}{short}",
        f"{m}{day}{century}{short}",
        *_in_each_order("[-._/, ]*", year, named, d),
    ]
    return [rf"(?<![\d.]){each}(?!\d|\.\d)" for each in days]


def _in_each_order(sign: str, year: str, month: str, day: str) -> list[str]:
    return [sign.join(order) for order in ((year, month, day), (day, month, year), (month, day, year))]


def _composed(text: str) -> str:
    """A text in one spelling of its letters with accents: folders of a Mac have another."""
    return unicodedata.normalize("NFC", text)


def _plain(word: str) -> str:
    """A word without the accents of its letters."""
    letters = (letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))
    return "".join(letters).translate(BARE)

"""What the help says of every option."""

import argparse
import re
from pathlib import Path

from clickseg import cli


def commands(parser, name="clickseg"):
    """(name, parser) of every command, experiments among them."""
    kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not kinds:
        yield name, parser
    for kind in kinds:
        for part, found in kind.choices.items():
            yield from commands(found, f"{name} {part}")


OPTIONS = {
    f"{name} {'/'.join(action.option_strings) or action.dest}": (parser, action)
    for name, parser in commands(cli._parser())
    for action in parser._actions
}


def test_every_option_is_explained_by_a_phrase_that_does_not_read_on_from_its_name():
    helps = {option: action.help or "" for option, (_, action) in OPTIONS.items()}
    assert [option for option, said in helps.items() if not said] == []
    assert [option for option, said in helps.items() if re.match(r"(of|that|for|its|default)\b|\(", said)] == []


def test_the_help_of_an_option_says_its_default():
    """Where it has one: a switch, and what is empty until somebody names it, have none."""
    unsaid = []
    for option, (parser, action) in OPTIONS.items():
        if action.required or action.default in (None, False, argparse.SUPPRESS, []):
            continue
        said = parser._get_formatter()._expand_help(action)
        value = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
        value = value.replace(str(Path.home()), "~")
        if not (re.search(rf"{re.escape(value)}\b.*\bdefault|\(default: .*{re.escape(value)}", said)):
            unsaid.append(option)
    assert unsaid == []

"""Every option of `imunity` is given on a command line by some test, and documented."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

import pytest

from imunity_bids.cli.parser import build_parser

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs" / "options.md"
OPTIONS = {action.option_strings[-1]: action for action in build_parser()._actions if action.option_strings}


def words_in_tests() -> set[str]:
    """All string constants of all tests but this one, and their parts."""
    constants: set[str] = set()
    for path in TESTS.rglob("*.py"):
        if path != Path(__file__):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            constants |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {word for constant in constants for word in constant.split()}


@pytest.fixture(scope="module")
def named() -> set[str]:
    return words_in_tests()


@pytest.mark.parametrize("option", OPTIONS)
def test_some_test_gives_this_option(named: set[str], option: str) -> None:
    assert named & set(OPTIONS[option].option_strings), f"no test gives {option}"


@pytest.mark.parametrize("option", OPTIONS)
def test_this_option_is_documented(option: str) -> None:
    assert option in DOCS.read_text(encoding="utf-8"), "run docs/make_options.py"


def test_an_option_that_no_test_gives_would_be_noticed(named: set[str]) -> None:
    parser = argparse.ArgumentParser()
    unknown = parser.add_argument("--" + "-".join(("not", "given", "anywhere")))
    assert not named & set(unknown.option_strings)

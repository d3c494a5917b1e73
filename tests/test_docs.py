"""Pages that are made from the code are what the code makes now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_page_of_quality_measures() -> None:
    assert (DOCS / "quality.md").read_text(encoding="utf-8") == module("make_quality").page()


def test_the_page_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # how wide argparse writes
    assert (DOCS / "options.md").read_text(encoding="utf-8") == module("make_options").text()


def test_every_page_that_is_linked_is_there() -> None:
    import re

    for page in [DOCS.parent / "README.md", *DOCS.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"

"""HTML from the templates of `data/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

DATA = Path(__file__).parents[1] / "data"


def template(name: str, **filters: Any) -> jinja2.Template:
    """A file of `data/`; what is filled in is escaped."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= filters
    return environment.from_string((DATA / name).read_text(encoding="utf-8"))

"""Where harmonized images are written: the models' space always, and on request the scan's own voxels, other
templates, and coarser or finer grids of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imunity_bids.errors import Usage

MODELS, OWN = "template", "T1w"  # of `--output-spaces`: of the template that the models work in; the scan's voxels
FIRST = "1"  # resolution in TemplateFlow: 1 mm, the models' grid


@dataclass(frozen=True)
class OutputSpace:
    """A template's space on the grid of one of its resolutions, or the scan's own voxels."""

    template: str  # as `--template` takes it; "T1w" for the scan's own voxels
    resolution: str = FIRST

    @property
    def own(self) -> bool:
        """True for the scan's own voxels."""
        return self.template == OWN

    @property
    def label(self) -> str:
        """For the entity `space-`, and for names of transforms."""
        return space_label(self.template)

    @property
    def entities(self) -> dict[str, str]:
        """What tells this space in a file name; nothing for the scan's own voxels."""
        return {} if self.own else {"space": self.label, "res": self.resolution}

    def __str__(self) -> str:
        """As it is typed."""
        return self.template if self.own else f"{self.template}:res-{self.resolution}"


def space_label(template: str) -> str:
    """A template's name for the entity `space-`: letters and digits only."""
    return re.sub(r"[^A-Za-z0-9]", "", template.replace("cohort-", ""))


def read_space(text: str) -> OutputSpace:
    """`T1w`, or `NAME[:cohort-N][:res-N]` as fMRIPrep has it, the parts after the name in any order.

    Raises
    ------
    Usage
        It is neither.
    """
    name, *parts = text.split(":")
    known: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("-")
        if key not in ("cohort", "res") or key in known or not re.fullmatch(r"[A-Za-z0-9+]+", value):
            raise Usage(f"--output-spaces {text}: write template, T1w, or NAME[:cohort-N][:res-N]")
        known[key] = value
    if not re.fullmatch(r"[A-Za-z0-9]+", name) or (name == OWN and parts):
        raise Usage(f"--output-spaces {text}: write template, T1w, or NAME[:cohort-N][:res-N]")
    cohort = f":cohort-{known['cohort']}" if "cohort" in known else ""
    resolution = known.get("res", FIRST)
    return OutputSpace(name + cohort, resolution.lstrip("0") or resolution)


def spaces_besides(texts: Iterable[str], template: str) -> tuple[OutputSpace, ...]:
    """The spaces of `--output-spaces` besides that of the models, `template` at 1 mm, which is always written.

    `template:res-2` is another grid of the models' template.

    Raises
    ------
    Usage
        See `read_space`; two spaces whose files would have the same names.
    """
    main = OutputSpace(template)
    found: dict[tuple[str, str], OutputSpace] = {(main.label, main.resolution): main}
    for text in texts:
        space = read_space(re.sub(rf"^{MODELS}(?=:|$)", template, text))
        other = found.setdefault((space.label, space.resolution), space)
        if other != space:
            raise Usage(f"--output-spaces: files of {space} and {other} would have the same names")
    return tuple(space for space in found.values() if space != main)

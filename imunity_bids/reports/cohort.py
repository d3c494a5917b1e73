"""What is known of all images of an output folder, as tables: quality, person, site, stored features."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from imunity_bids.bids.participants import age_of, read_participants, sex_of
from imunity_bids.bids.sites import sites_of
from imunity_bids.bids.tables import FEATURES
from imunity_bids.errors import NothingSelected
from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.settings import Settings


@dataclass(frozen=True)
class Cohort:
    """Images, and what sites are compared by.

    Attributes
    ----------
    images
        A row per harmonized image: `report`, `filename`, `stem` of the scan, `label` for people, `participant_id`,
        `site` (empty: not known), `age`, `sex`, the quality measures, and the columns to keep (`kept`).
    features
        A row per image of the main reference and method (`qc.features`): `site`, `person`, `image` (row of `images`),
        `method`, ratios, volumes in mL, intensities and textures.
    shapes
        A row per image, the same index as `images`: shape of the mask.
    main
        `space-…_desc-…` of the images that sites are compared by: those of the first reference.
    site_from
        Where the sites come from, in words.
    kept
        Columns of participants.tsv that the user named and that are there.
    notes
        What was asked for or expected and is not there, in words.
    """

    images: pd.DataFrame
    features: pd.DataFrame
    shapes: pd.DataFrame
    main: str
    site_from: str
    kept: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def compared(self) -> pd.DataFrame:
        """Rows of `images` of the main reference."""
        return self.images[self.images.kind == self.main]


def read_cohort(settings: Settings) -> Cohort:
    """All that the participant level wrote.

    Raises
    ------
    NothingSelected
        No participant has quality measures yet.
    """
    images, notes = _quality(settings.output_dir), []
    people = _people(settings)
    sites, site_from = sites_of(settings.bids_dir, images.stem.unique(), settings.site_column, people)
    images["site"] = images.stem.map(sites)
    images["age"] = images.participant_id.map(lambda person: age_of(people.get(person, {})))
    images["sex"] = images.participant_id.map(lambda person: sex_of(people.get(person, {})))
    named = [name for name in dict.fromkeys(settings.keep) if name not in images]
    kept = tuple(name for name in named if any(name in row for row in people.values()))
    for name in kept:
        images[name] = images.participant_id.map(lambda person, name=name: people.get(person, {}).get(name, ""))
    notes += [f"participants.tsv has no column {name} (--keep)." for name in named if name not in kept]
    if nameless := int((images.site == "").sum()):
        notes.append(f"{nameless} images have no site and are in no comparison.")
    main = _main(images.kind)
    if others := sorted(set(images.kind) - {main}):
        notes.append(f"Sites are compared by {main}; {', '.join(others)}: in the list of images only.")
    stored = {row.Index: _stored(settings.output_dir, row) for row in images.itertuples() if row.kind == main}
    if lacking := sum("Images" not in content for content in stored.values()):
        notes.append(
            f"{lacking} of {len(stored)} images have no stored features (*_{FEATURES}.json): made by an earlier "
            "version, or no brain was found. Running the participant level again makes them."
        )
    return Cohort(images, _features(images, stored), _shapes(stored), main, site_from, kept, tuple(notes))


def _quality(output_dir: Path) -> pd.DataFrame:
    """All `*_scans.tsv`, and what the names say."""
    paths = sorted(output_dir.glob("sub-*/**/*_scans.tsv"))
    if not paths:
        raise NothingSelected(f"no quality measures in {output_dir}; run the participant level first")
    parts = []
    for path in paths:
        part = pd.read_csv(path, sep="\t", na_values="n/a", dtype={"reason": str, "filename": str})
        part["folder"] = path.parent.relative_to(output_dir).as_posix()
        part["report"] = path.name.removesuffix("_scans.tsv") + ".html"
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["filename"] = table.filename.str.removeprefix("anat/")
    names = table.filename.str.removesuffix("_T1w.nii.gz").str.split("_space-", n=1)
    table["stem"], table["kind"] = names.str[0], "space-" + names.str[1]
    table["participant_id"] = table.stem.str.split("_").str[0]
    table["label"] = labels([f"{stem}_{kind}" for stem, kind in zip(table.stem, table.kind, strict=True)])
    return table


def labels(names: list[str]) -> list[str]:
    """The subject's label, and what else differs between the names: `01 ses-2`."""
    entities = [dict(part.partition("-")[::2] for part in name.split("_")) for name in names]
    keys = list(dict.fromkeys(key for found in entities for key in found))
    differ = [key for key in keys if key != "sub" and len({found.get(key) for found in entities}) > 1]
    return [" ".join([found["sub"], *(f"{key}-{found[key]}" for key in differ if key in found)]) for found in entities]


def _people(settings: Settings) -> dict[str, dict[str, str]]:
    """Rows of participants.tsv by person: of the output folder, completed by the dataset's."""
    raw, own = (read_participants(folder) for folder in (settings.bids_dir, settings.output_dir))
    return {person: raw.get(person, {}) | own.get(person, {}) for person in {*raw, *own}}


def _main(kinds: pd.Series) -> str:
    """The kind of image that sites are compared by: the first reference's, in the space that most images have."""
    first = kinds[kinds.str.endswith("desc-harmonized")]
    return str((first if len(first) else kinds).mode()[0])


def _stored(output_dir: Path, row: Any) -> dict[str, Any]:
    """The features of one image; empty where there are none."""
    path = output_dir / row.folder / "anat" / row.filename.replace("_T1w.nii.gz", f"_{FEATURES}.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # counted by the caller, and said on the page
        return {}


def _features(images: pd.DataFrame, stored: dict[int, dict[str, Any]]) -> pd.DataFrame:
    rows = [
        {
            **{"site": images.site[index], "person": images.participant_id[index], "image": index, "method": method},
            **{name: number for part in parts.values() for name, number in part.items()},
        }
        for index, content in stored.items()
        for method, parts in content.get("Images", {}).items()
        if images.site[index] != ""
    ]
    table = pd.DataFrame(rows, columns=None if rows else ["site", "person", "image", "method", *TISSUES])
    numbers = table.columns[4:]
    return table.astype(dict.fromkeys(numbers, float))


def _shapes(stored: dict[int, dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame({index: content.get("MaskShape", {}) for index, content in stored.items()}).T.astype(float)

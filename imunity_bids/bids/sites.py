"""Which site a scan is of: as the tables of its dataset say, since a person may be at several; else its scanner."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from imunity_bids.bids.participants import known, read_participants, read_sessions
from imunity_bids.bids.scan import T1w
from imunity_bids.bids.scanners import scanners
from imunity_bids.errors import InputMissing, NothingSelected, Usage

MOST_OF_A_SITE = 10  # participants whose mean stands for a site: more cost time and change the mean little


def sites_of(
    bids_dir: Path, stems: Collection[str], column: str, people: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, str], str]:
    """Site by stem of a scan, and where it comes from, in words: the tables, else the sidecars, else the dataset."""
    named = named_sites(bids_dir, stems, column, people)
    if any(named.values()):
        return named, f"column {column} of participants.tsv" + " and of sessions.tsv" * _by_session(named)
    made_by = scanners(bids_dir, stems)
    if any(made_by.values()):
        return made_by, "scanner in the sidecars of the scans (manufacturer, model, field strength)"
    where = f"participants.tsv has no column {column}, and the sidecars of the scans name no scanner"
    return dict.fromkeys(stems, bids_dir.name), f"the dataset: {where}"


def named_sites(
    bids_dir: Path, stems: Iterable[str], column: str, people: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Site by stem of a scan (`sub-X[_ses-Y]…`), empty where no table names one.

    `sub-X_sessions.tsv` of the dataset counts first, since it knows of the session; then `people`, the rows of
    participants.tsv.
    """

    @cache
    def sessions(subject: str) -> dict[str, dict[str, str]]:
        return read_sessions(bids_dir, subject)

    sites = {}
    for stem in stems:
        subject, session = [*stem.split("_"), ""][:2]
        rows = (sessions(subject).get(session, {}), people.get(subject, {}))
        sites[stem] = next((site for row in rows if (site := known(row.get(column, "")))), "")
    return sites


def first_of_site(images: list[T1w]) -> list[T1w]:
    """The first scan of each of the first `MOST_OF_A_SITE` participants, by label, of scans of one site."""
    first = {image.subject: image for image in reversed(images)}
    return [first[subject] for subject in sorted(first)][:MOST_OF_A_SITE]


def _by_session(sites: Mapping[str, str]) -> bool:
    """Some person was at two sites."""
    persons = {(stem.split("_")[0], site) for stem, site in sites.items()}
    return len(persons) > len({person for person, _ in persons})


def scans_of_site(images: list[T1w], bids_dir: Path, column: str, site: str) -> list[T1w]:
    """Those of the dataset's images whose `column` is `site`.

    Raises
    ------
    InputMissing, Usage, NothingSelected
        There is no participants.tsv; no table has the column; no image is of that site.
    """
    people = read_participants(bids_dir)
    sites = named_sites(bids_dir, [image.stem for image in images], column, people)
    if not people and not any(sites.values()):
        raise InputMissing(f"--reference site:{site} needs {bids_dir / 'participants.tsv'}")
    if not any(sites.values()) and column not in (columns := list(next(iter(people.values())))):
        raise Usage(
            f"{bids_dir / 'participants.tsv'} has no column {column}; name one with --site-column: {', '.join(columns)}"
        )
    found = [image for image in images if sites[image.stem] == site]
    if not found:
        raise NothingSelected(
            f"no T1w image with {column} = {site}; there are: {sorted({name for name in sites.values() if name})}"
        )
    return found

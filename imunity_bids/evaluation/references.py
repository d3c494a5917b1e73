"""Which scan, or which site's mean, makes a good reference: by what the participant level stored; no image is read."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imunity_bids.bids.description import raw_dataset
from imunity_bids.bids.outputs import plain, write_json
from imunity_bids.bids.participants import read_participants
from imunity_bids.bids.sites import MOST_OF_A_SITE, sites_of
from imunity_bids.bids.tables import FEATURES
from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.metrics.tissue_ratios import RATIOS
from imunity_bids.qc.features import BEFORE

log = logging.getLogger(__name__)

HARMONIZED = "desc-harmonized"
LEVELS = [f"q{percent:02d}" for percent in range(5, 100, 10)]  # of the brain's intensities, stored with each image
CONTRAST = list(RATIOS)
VERDICTS = ["ok", "check", "failed"]
FEWEST = 3  # persons, for a candidate and others that it stands among
LEFT_OUT = 100  # persons at most, one at a time, to see whether the ranks hold
MEASURES = {
    "noise": "Noise in white matter, white matter at 0.7, all scans at the contrast of one reference",
    "clipped": "Share of the brain's voxels that were cut at the top",
    "contrast_from_site": "Mean absolute difference of gray/white and CSF/white from the median of its site's scans; "
    "none where nobody else was scanned there",
    "contrast_from_pool": "The same from the median of the sites' medians",
    "histogram_move": "How far the others must move: mean Wasserstein distance (10 quantiles of the brain's "
    "intensities, white matter at 0.7) to the scans of other persons, each site counting once",
    "contrast_move": "The same for the mean absolute difference of gray/white and CSF/white",
}  # of all of them less is better
COLUMNS = {
    "rank": "1 is best: by the verdict, then by the score",
    "reference": "What --reference takes, together with --reference-dataset; a site only by its column of the tables",
    "kind": "scan, or site: the mean of the first scans of its first persons",
    "site": "Site of the candidate",
    "dataset": "Raw dataset",
    "scans": "How many make it",
    "verdict": "Worst verdict of these scans: ok, check or failed",
    **MEASURES,
    "histogram_move_most": "The largest of these distances, of the scan that lies farthest away",
    "score": "Mean of the ranks in " + ", ".join(MEASURES) + ", as shares of the candidates: less is better",
    "best_rank": "The best rank with any one other person left out",
    "worst_rank": "The worst rank with any one other person left out",
}


def evaluate_references(folders: list[Path], output: Path, site_column: str = "site") -> pd.DataFrame:
    """Rank all scans and all sites' means as references; writes `references.tsv` and `references.json`.

    Parameters
    ----------
    folders
        Derivative datasets of the participant level; a site is what `site_column` says, else the scanner, else the
        dataset.

    Returns
    -------
    DataFrame
        A row per candidate, the best first, columns `COLUMNS`.

    Raises
    ------
    InputMissing
        A folder holds no stored features.
    DataUnusable
        Fewer than three persons have all numbers.
    """
    parts, origins = zip(*(_scans(folder, site_column) for folder in folders), strict=True)
    scans = pd.concat(parts, ignore_index=True)
    if (persons := scans.person.nunique()) < FEWEST:
        raise DataUnusable(f"{persons} persons with stored features: a reference is chosen among {FEWEST} at least")
    ranked = _with_stability(ranks(scans), scans)
    output.mkdir(parents=True, exist_ok=True)
    ranked.to_csv(output / "references.tsv", sep="\t", index=False, float_format="%.5g", na_rep="n/a")
    write_json(
        output / "references.json",
        {
            "Description": "Scans and sites' means ranked as references for harmonization",
            "SiteFrom": dict(zip(map(str, folders), origins, strict=True)),
            "Columns": COLUMNS,
            "Candidates": plain(ranked.to_dict("records")),
        },
    )
    return ranked


def ranks(scans: pd.DataFrame) -> pd.DataFrame:
    """Candidates of these scans, the best first: `COLUMNS` without the last two.

    `scans` has a row per scan: `dataset`, `site`, `person`, `reference`, `verdict`, `noise`, `clipped`, `LEVELS` and
    `CONTRAST`.
    """
    candidates = pd.concat([_single(scans), _means(scans)], ignore_index=True)
    site_levels = scans.groupby("site")[CONTRAST].median()
    of_site = site_levels[scans.groupby("site").person.nunique() > 1].reindex(candidates.site).to_numpy()
    candidates["contrast_from_site"] = np.abs(candidates[CONTRAST].to_numpy() - of_site).mean(axis=1)
    of_pool = site_levels.median().to_numpy()
    candidates["contrast_from_pool"] = np.abs(candidates[CONTRAST].to_numpy() - of_pool).mean(axis=1)
    away = _distances(candidates, scans, LEVELS)
    candidates["histogram_move"] = _mean_of_sites(away, scans.site)
    candidates["histogram_move_most"] = np.nanmax(away, axis=1)
    candidates["contrast_move"] = _mean_of_sites(_distances(candidates, scans, CONTRAST), scans.site)
    candidates["score"] = candidates[list(MEASURES)].rank(pct=True).mean(axis=1)
    worse = candidates.verdict.map(VERDICTS.index)
    ordered = candidates.assign(worse=worse).sort_values(["worse", "score"], kind="stable", ignore_index=True)
    return ordered.assign(rank=ordered.index + 1).reindex(columns=[*list(COLUMNS)[:-2], *CONTRAST, "person"])


def _single(scans: pd.DataFrame) -> pd.DataFrame:
    return scans.assign(kind="scan", scans=1)


def _means(scans: pd.DataFrame) -> pd.DataFrame:
    """A row per site of a dataset with two persons and more: as `--reference site:NAME` makes its mean."""
    rows = []
    for (dataset, site), part in scans.groupby(["dataset", "site"]):
        first = part.drop_duplicates("person").head(MOST_OF_A_SITE)
        if len(first) < 2:
            continue
        about = {"dataset": dataset, "site": site, "person": "", "reference": f"site:{site}", "kind": "site"}
        worst = max(first.verdict, key=VERDICTS.index)
        numbers = first[["noise", "clipped", *LEVELS, *CONTRAST]].mean()
        rows.append({**about, "scans": len(first), "verdict": worst, **numbers})
    return pd.DataFrame(rows)


def _distances(candidates: pd.DataFrame, scans: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Mean absolute difference of columns, (candidates, scans); NaN between scans of one person.

    Of evenly spaced quantiles that is the Wasserstein-1 distance of the two distributions.
    """
    away = np.abs(candidates[names].to_numpy()[:, None] - scans[names].to_numpy()[None]).mean(axis=2)
    same = candidates.person.to_numpy()[:, None] == scans.person.to_numpy()[None]
    return np.where(same, np.nan, away)


def _mean_of_sites(away: np.ndarray, sites: pd.Series) -> np.ndarray:
    """Mean over sites of the mean over a site's scans, (candidates,); a site of which nobody is left does not count."""
    return pd.DataFrame(away.T).groupby(sites.to_numpy()).mean().mean().to_numpy()


def _with_stability(ranked: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """The candidates with their best and worst rank where any one person is left out."""
    persons = scans.person.unique()
    chosen = persons[np.unique(np.linspace(0, len(persons) - 1, LEFT_OUT).astype(int))]
    key = ["dataset", "kind", "reference"]
    each = pd.concat([ranks(scans[scans.person != person]).set_index(key)["rank"] for person in chosen])
    extremes = each.groupby(level=key).agg(["min", "max"]).rename(columns={"min": "best_rank", "max": "worst_rank"})
    return ranked.join(extremes, on=key)[[*COLUMNS, *CONTRAST]]


def _scans(folder: Path, site_column: str) -> tuple[pd.DataFrame, str]:
    """A row per scan of a folder whose numbers are all there, and where its sites come from."""
    found = sorted(folder.glob(f"sub-*/**/*_{HARMONIZED}_{FEATURES}.json"))
    if not found:
        raise InputMissing(f"{folder} holds no *_{HARMONIZED}_{FEATURES}.json; run the participant level first")
    rows = [row for path in found if (row := _row(path)) is not None]
    if lacking := len(found) - len(rows):
        log.warning("%s: %d of %d scans lack some of the numbers and are left out", folder, lacking, len(found))
    scans, raw = pd.DataFrame(rows, columns=None if rows else ["stem"]), raw_dataset(folder)
    scans = scans.drop_duplicates("stem")  # in one template's space
    sites, origin = sites_of(raw, list(scans.stem), site_column, read_participants(folder))
    person = str(raw) + "/" + scans.stem.str.split("_").str[0]
    reference = [_typed(raw, stem) for stem in scans.stem]
    site = scans.stem.map(sites).replace("", "n/a")
    return scans.assign(dataset=str(raw), site=site, person=person, reference=reference), origin


def _typed(raw: Path, stem: str) -> str:
    """What `--reference` takes for a scan: person and session, or the file where they do not tell it from others."""
    if re.fullmatch(r"sub-[^_]+(_ses-[^_]+)?", stem):
        return stem
    subject, session = stem.split("_")[:2]
    folder = raw / subject / (session if session.startswith("ses-") else "") / "anat"
    return str(folder / f"{stem}_T1w.nii.gz")


def _row(features: Path) -> dict[str, Any] | None:
    """Verdict and numbers of one scan before harmonization; None where some are missing."""
    sidecar = features.with_name(features.name.replace(f"_{FEATURES}.json", "_T1w.json"))
    try:
        before = json.loads(features.read_text(encoding="utf-8"))["Images"][BEFORE]
        quality = json.loads(sidecar.read_text(encoding="utf-8"))["QualityControl"]
        numbers: dict[str, Any] = {name: float(quality[name]) for name in ("noise_before", "clipped")}
        numbers["verdict"] = quality["verdict"]
        numbers |= {name: float({**before["Ratios"], **before["Intensities"]}[name]) for name in (*CONTRAST, *LEVELS)}
    except (OSError, ValueError, KeyError, TypeError):  # the caller counts them
        return None
    numbers["noise"] = numbers.pop("noise_before")
    return {"stem": features.name.partition("_space-")[0], **numbers}

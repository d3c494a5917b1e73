"""One row per site: images, persons, ages, verdicts, medians of all measures, and what lies outside."""

from __future__ import annotations

import pandas as pd

from imunity_bids.qc.measures import MEASURES

FENCE = 1.5  # Tukey's: outside the quartiles by more than this many interquartile ranges
FEWEST = 4  # images, for quartiles
VERDICTS = ("ok", "check", "failed")
COLUMNS = {
    "site": "Site",
    "images": "Number of images",
    "persons": "Number of persons",
    "age_mean": "Mean age of the persons in years",
    "age_min": "Age of the youngest in years",
    "age_max": "Age of the oldest in years",
    "female": "Number of women",
    "male": "Number of men",
    "sex_unknown": "Number of persons whose sex is not known",
    **{verdict: f"Number of images with the verdict {verdict}" for verdict in VERDICTS},
    "outliers": "Number of values of quality measures outside the site's quartiles by over 1.5 interquartile ranges",
    **{measure.name: f"Median: {measure.text}" for measure in MEASURES},
}


def site_table(images: pd.DataFrame) -> pd.DataFrame:
    """A row per site, columns `COLUMNS`; `images` as in `Cohort`. Without a site: `n/a`."""
    rows = []
    for site, part in images.groupby(images.site.replace("", "n/a")):
        persons = part.drop_duplicates("participant_id")
        rows.append(
            {
                "site": site,
                "images": len(part),
                "persons": len(persons),
                "age_mean": persons.age.mean(),
                "age_min": persons.age.min(),
                "age_max": persons.age.max(),
                "female": (persons.sex == "F").sum(),
                "male": (persons.sex == "M").sum(),
                "sex_unknown": (persons.sex == "").sum(),
                **{verdict: (part.verdict == verdict).sum() for verdict in VERDICTS},
                "outliers": outliers(measures_of(part)).to_numpy().sum(),
                **measures_of(part).median().to_dict(),
            }
        )
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def measures_of(images: pd.DataFrame) -> pd.DataFrame:
    """The columns that are quality measures, as numbers; NaN where an image lacks one."""
    return images.reindex(columns=[measure.name for measure in MEASURES]).apply(pd.to_numeric, errors="coerce")


def outliers(numbers: pd.DataFrame) -> pd.DataFrame:
    """True where a measure lies outside Tukey's fences, for four images and more (Tukey 1977)."""
    low, high = numbers.quantile(0.25), numbers.quantile(0.75)
    reach = FENCE * (high - low)
    marked = (numbers < low - reach) | (numbers > high + reach)
    return marked if len(numbers) >= FEWEST else marked & False


def outliers_within(images: pd.DataFrame) -> pd.DataFrame:
    """The same, each site by its own quartiles; index as `images`."""
    numbers = measures_of(images)
    parts = [outliers(part) for _, part in numbers.groupby(images.site)]
    return pd.concat(parts).loc[images.index]

"""The page of the group level, from tables and comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from imunity_bids.metrics.tissue_ratios import RATIOS
from imunity_bids.qc.features import AFTER, BEFORE, MATCHED
from imunity_bids.qc.measures import MEASURES
from imunity_bids.reports import sites
from imunity_bids.reports.cohort import Cohort
from imunity_bids.reports.group_pictures import Strip, colours, contrast_picture, feature_picture, strip
from imunity_bids.reports.pages import template
from imunity_bids.reports.sentences import RATIO_NAMES, TISSUE_NAMES, change_of, digits, headlines, warnings

MOST_OUTLIERS = 10  # images that are named


def render(cohort: Cohort, by_site: pd.DataFrame, comparison: dict[str, Any]) -> str:
    """One HTML file without anything from elsewhere."""
    images = cohort.compared.replace({"site": {"": "n/a"}})
    images = images.assign(href=images.report + "#" + images.stem)
    colour = colours(list(by_site.site))
    features = cohort.features
    measures = [measure for measure in MEASURES if by_site[measure.name].notna().any()]
    return template("group.html.j2", digits=digits).render(
        images=len(images),
        persons=images.participant_id.nunique(),
        counts=images.verdict.value_counts().to_dict(),
        site_from=cohort.site_from,
        sites=by_site.to_dict("records"),
        colour=colour,
        comparison=comparison,
        headlines=headlines(comparison),
        warnings=warnings(comparison),
        contrast_picture=contrast_picture(features, colour) if set(RATIOS) <= set(features) else "",
        feature_picture=feature_picture(features, colour) if set(RATIOS) <= set(features) else "",
        ratio_names=RATIO_NAMES,
        tissue_names=TISSUE_NAMES,
        methods={BEFORE: "before", MATCHED: "plain histogram matching", AFTER: "after"},
        change_of=change_of,
        strips=_strips(_contrasts(cohort, images) + _series(images, folded=False), images, colour),
        folded=_strips(_series(images, folded=True), images, colour),
        outlying=_outlying(images),
        all_measures=measures,
        measures=[measure for measure in measures if not measure.folded],
        rows=_rows(cohort),
        is_number=lambda value: isinstance(value, int | float | np.number) and bool(np.isfinite(value)),
    )


Series = tuple[str, str, pd.Series, pd.Series | None]  # name, text, values of the images, what the axis spans


def _strips(series: list[Series], images: pd.DataFrame, colour: dict[str, str]) -> list[Strip]:
    """Those that some image has."""
    drawn = (strip(name, text, values, images, colour, span) for name, text, values, span in series)
    return [one for one in drawn if one is not None]


def _contrasts(cohort: Cohort, images: pd.DataFrame) -> list[Series]:
    """Tissue ratios before and after."""
    if not set(RATIOS) <= set(cohort.features):
        return []
    by_method = {name: part.set_index("image") for name, part in cohort.features.groupby("method")}
    text, both = "Tissue level relative to white matter", cohort.features.method.isin((BEFORE, AFTER))
    return [
        (f"{ratio}, {when}", text, by_method[when][ratio].reindex(images.index), cohort.features[ratio][both])
        for ratio in RATIOS
        for when in (BEFORE, AFTER)
    ]


def _series(images: pd.DataFrame, folded: bool) -> list[Series]:
    """Quality measures."""
    numbers = sites.measures_of(images)
    return [(m.name, m.text, numbers[m.name], None) for m in MEASURES if m.folded == folded]


def _outlying(images: pd.DataFrame) -> list[dict[str, Any]]:
    """Images with the most values outside those of their site."""
    marked = sites.outliers_within(images)
    most = marked.sum(axis=1).sort_values(ascending=False, kind="stable")
    return [
        {
            "label": images.label[index],
            "href": images.href[index],
            "site": images.site[index],
            "measures": ", ".join(marked.columns[marked.loc[index]]),
        }
        for index in most.index[most > 0][:MOST_OUTLIERS]
    ]


def _rows(cohort: Cohort) -> list[dict[str, Any]]:
    """All images, of other references, too: a cell (value, whether it lies outside) per quality measure."""
    images = cohort.images
    numbers = sites.measures_of(images)
    marked = pd.concat([sites.outliers(part) for _, part in numbers.groupby(images.kind)]).loc[images.index]
    return [
        {
            "label": images.label[index],
            "filename": images.filename[index],
            "href": f"{images.report[index]}#{images.stem[index]}",
            "site": images.site[index],
            "verdict": images.verdict[index],
            "reason": images.reason[index] if isinstance(images.reason[index], str) else "",
            "cells": {name: (numbers.at[index, name], bool(marked.at[index, name])) for name in numbers.columns},
        }
        for index in images.index
    ]

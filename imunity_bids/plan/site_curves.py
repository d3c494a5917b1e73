"""`--curve site`: the mean contrast of a site, from which all of its scans get one curve.

A curve made from one scan follows the volumes of this person's tissues a little; that of the mean of a site cannot.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from imunity_bids.bids.inputs import Dataset, T1w, check_twin, find_t1w
from imunity_bids.bids.participants import read_participants
from imunity_bids.bids.sites import first_of_site, sites_of
from imunity_bids.errors import ImunityError, Usage
from imunity_bids.image.conform import check_readable
from imunity_bids.plan.requests import ReferenceRequest, of_images
from imunity_bids.settings import Settings

log = logging.getLogger(__name__)

FEW = 3  # persons whose mean is still much of one person


def site_curves(
    settings: Settings, card: dict[str, Any], dataset: Dataset, images: Iterable[T1w]
) -> dict[str, ReferenceRequest]:
    """Whose mean contrast is that of each image, by its stem; nothing by `--curve scan`.

    An image whose site is not known is not there, and keeps a curve of its own. Whoever else is in the run changes
    nothing: the mean is that of the whole dataset, but for participants that are excluded.

    Raises
    ------
    Usage
        The models paint: they make no curve.
    """
    if settings.curve == "scan":
        return {}
    if card["architecture"]["kind"] != "curves":
        raise Usage(f"--curve site: the models of {card['name']} paint, there is no curve to share")
    found = find_t1w(dataset, filter_file=settings.bids_filter_file, excluded=settings.excluded)
    everybody = [image for image in found if _is_readable(image)]
    stems = {image.stem: image for image in (*everybody, *images)}
    sites, where = sites_of(settings.bids_dir, list(stems), settings.site_column, read_participants(settings.bids_dir))
    scans = defaultdict(list)
    for image in everybody:
        scans[sites[image.stem]].append(image)
    wanted = {image.stem: sites[image.stem] for image in images}
    log.info("--curve site: site from %s", where)
    if unknown := [stem for stem, site in wanted.items() if not site]:
        log.warning("--curve site: the site of %s is not known: a curve of its own", ", ".join(unknown))
    means = {site: of_images(site, "site", first_of_site(scans[site])) for site in sorted({*wanted.values()} - {""})}
    if few := [site for site, mean in means.items() if len(mean.images) < FEW]:
        log.warning("--curve site: fewer than %d persons at %s, so that single ones show", FEW, ", ".join(few))
    return {stem: means[site] for stem, site in wanted.items() if site}


def _is_readable(image: T1w) -> bool:
    """One that is not is told of when its turn comes."""
    try:
        check_readable(image.path)
        check_twin(image)
    except ImunityError:
        return False
    return True

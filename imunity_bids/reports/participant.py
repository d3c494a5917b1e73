"""One self-contained HTML file per participant and session, made from the derivatives on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.outputs import sidecar_of, write_text
from imunity_bids.bids.products import Products
from imunity_bids.errors import ImunityError, is_disk_error
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.template import load_template
from imunity_bids.plan.crash import Failure
from imunity_bids.plan.plan import Plan, await_marks
from imunity_bids.qc.measures import COLUMNS, MEASURES
from imunity_bids.reports import figures
from imunity_bids.reports.methods import citation
from imunity_bids.reports.pages import template

log = logging.getLogger(__name__)


def write_reports(plan: Plan, images: list[T1w], failures: Mapping[str, Failure], methods: str) -> list[str]:
    """Reports of all participants that the run touched, as many at once as the run may use processes.

    Returns the names of those that could not be written; why is logged. One of them does not stop the others.
    """
    images = sorted(images, key=lambda image: (image.person, image.stem))
    groups = [tuple(group) for _, group in groupby(images, key=lambda image: image.person)]
    workers = min(len(groups), plan.settings.nprocs)
    if workers < 2:
        jobs = [partial(write_report, plan, group, failures, methods) for group in groups]
        return _names_of_failed(groups, jobs)
    with ProcessPoolExecutor(workers, get_context("forkserver")) as pool:
        waiting = [pool.submit(write_report, plan, group, dict(failures), methods) for group in groups]
        return _names_of_failed(groups, [future.result for future in waiting])


def _names_of_failed(groups: list[tuple[T1w, ...]], jobs: list[Callable[[], Path]]) -> list[str]:
    failed = []
    for group, job in zip(groups, jobs, strict=True):
        try:
            job()
        except Exception as error:  # whatever it is, the other reports are written, as long as there is a disk
            if is_disk_error(error):
                raise
            log.error("the report of %s could not be written: %s: %s", group[0].person, type(error).__name__, error)
            log.debug("its traceback", exc_info=error)
            failed.append(group[0].person)
    return failed


def write_report(plan: Plan, images: tuple[T1w, ...], failures: Mapping[str, Failure], methods: str) -> Path:
    """The report of one participant and session."""
    name = images[0].person
    sections = [_section(plan, image, failures.get(image.stem)) for image in images]
    return write_text(plan.settings.output_dir / f"{name}.html", render(plan, name, sections, methods))


def _section(plan: Plan, image: T1w, failure: Failure | None) -> dict[str, Any]:
    """As `section`, and once more where another run on the participant took a mark away meanwhile."""
    try:
        return section(plan, image, failure)
    except FileNotFoundError:
        await_marks(plan, image)
        return section(plan, image, failure)


def render(plan: Plan, name: str, sections: list[dict[str, Any]], methods: str) -> str:
    """The HTML of one participant."""
    folded = {measure.name: measure.text for measure in MEASURES if measure.folded}
    return template("report.html.j2").render(
        name=name,
        sections=sections,
        columns={name: text for name, text in COLUMNS.items() if name not in folded},
        folded=folded,
        references=[f"{r.label} ({r.kind})" for r in plan.references],
        bundle=f"{plan.card['name']} {plan.card['version']}",
        template=plan.settings.template,
        status=plan.card.get("status"),
        methods=citation(methods),
        toml=plan.settings.to_toml(),
    )


def section(plan: Plan, image: T1w, failure: Failure | None) -> dict[str, Any]:
    """What the template shows of one image: pictures and numbers, or why it failed, or which files are missing."""
    content: dict[str, Any] = {"stem": image.stem, "path": str(image.path), "failure": failure, "results": []}
    products = plan.products(image)
    if failure or not sidecar_of(products.harmonized(plan.descriptions[0])).is_file():
        return content
    if missing := [path.name for path in plan.promised(image) if not path.is_file()]:
        return content | {"missing": missing}
    native = _read(products.native_t1w)
    native_mask = _read(products.native_mask)[1] > 0
    striped = _read(products.template_t1w)[1]
    mask = _read(products.template_mask)[1] > 0
    template = load_template(plan.settings.template)
    box = figures.mask_box(mask | template.mask)
    lesion = _read(products.template_lesion)[1] > 0 if image.lesions else None
    ones = (1.0, 1.0, 1.0)
    brain = np.asarray(template.brain.dataobj)
    content |= {
        "mask": figures.mosaic(native[1], figures.mask_box(native_mask, 12), native[0].header.get_zooms(), native_mask),
        "registered": figures.mosaic(striped, box, ones, template.mask, limits=(0, 1)),
        "template": figures.mosaic(brain, box, ones, template.mask),
        "before": figures.mosaic(striped, box, ones, lesion, limits=(0, 1)),
    }
    curves = {"raw": _raw_density(image), "white-striped": figures.density(striped[mask], (0, 1))}
    content["results"] = [_result(products, name, mask, lesion, striped, box, curves) for name in plan.descriptions]
    content["sidecar"] = content["results"][0]["sidecar"]
    return content


def _result(
    products: Products,
    description: str,
    mask: np.ndarray,
    lesion: np.ndarray | None,
    striped: np.ndarray,
    box: tuple[slice, ...],
    before: dict[str, Any],
) -> dict[str, Any]:
    """One harmonized image: after, difference, uncertainty, histograms (beside the curves from before), numbers."""
    path = products.harmonized(description)
    sidecar = json.loads(sidecar_of(path).read_text(encoding="utf-8"))
    after = _read(path)[1]
    uncertainty = _read(products.uncertainty(description))[1]
    quantiles = np.array(sidecar["Harmonization"]["ReferenceQuantiles"])
    curves = {
        **before,
        "harmonized": figures.density(after[mask], (0, 1)),
        "reference": figures.density_of_quantiles(quantiles, (0, 1)),
    }
    ones = (1.0, 1.0, 1.0)
    return {
        "sidecar": sidecar,
        "after": figures.mosaic(after, box, ones, lesion, limits=(0, 1)),
        "difference": figures.mosaic(
            np.where(mask, after - striped, np.nan),
            box,
            ones,
            limits=(-0.3, 0.3),
            cmap="RdBu_r",
            bar="after minus before",
        ),
        "uncertainty": figures.mosaic(uncertainty, box, ones, limits=(0, 0.1), cmap="magma", bar="uncertainty"),
        "histograms": figures.histograms({name: curve for name, curve in curves.items() if curve is not None}),
    }


def _raw_density(image: T1w) -> tuple[np.ndarray, np.ndarray] | None:
    """Of what is not empty in the raw image; None where it cannot be read any more."""
    try:
        data = np.asarray(conform(*read_image(image.path))[0].dataobj)
    except ImunityError as error:
        log.warning("no raw histogram in the report: %s", error)
        return None
    return figures.density(data[data > 0])


def _read(path: Path) -> tuple[nib.Nifti1Image, np.ndarray]:
    image = nib.load(path)
    return image, np.asarray(image.dataobj)

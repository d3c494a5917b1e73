"""The real judge: how far real sites lie apart in contrast, and whether a classifier tells them, before and after.

It decides together with the simulated travelers (`travelers`): what gains there and loses here is not better.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import delayed
from scipy import ndimage

from imunity_bids.bids.outputs import brought_elsewhere, sidecar_of
from imunity_bids.bids.participants import read_participants
from imunity_bids.errors import InputMissing
from imunity_bids.evaluation import baselines
from imunity_bids.evaluation.sites import site_accuracy
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.harmonize.references import REFERENCE_SLICES, make_reference
from imunity_bids.metrics.matching import matching_to
from imunity_bids.metrics.similarity import gray_white_contrast
from imunity_bids.metrics.spread import order_kept, spread
from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.metrics.tissue_ratios import RATIOS, tissue_ratios, well_inside
from imunity_bids.metrics.volumes import tissue_volumes
from imunity_bids.models.bundle import Reference, load_bundle
from imunity_bids.models.card import DEFAULT
from imunity_bids.parallel import in_parallel
from imunity_bids.qc.features import coarse_intensities
from imunity_bids.unlearning.probe import probe_in_order

RAW = "raw"


@dataclass(frozen=True)
class _Image:
    """One image of a site: white-striped, and harmonized by the app."""

    site: str
    person: str
    description: str
    preproc: Path
    harmonized: Path


def evaluate_sites(
    folders: list[Path],
    output: Path,
    description: str = "harmonized",
    models: tuple[Path, ...] = (),
    reference_scans: tuple[Path, ...] = (),
    min_age: float = 0.0,
    jobs: int = 1,
) -> dict[str, object]:
    """Real sites, raw, by histogram matching, by Nyúl and by ours: derivatives of the participant level, one per site.

    Writes `sites.tsv`, a line per image and method, and `sites.json`: how far the sites lie apart in the levels of gray
    matter and CSF relative to white matter (`tissue_ratios`, `spread`), whether the order of tissue volumes is kept,
    what a classifier finds (`accuracy`: the paper's; `probe`: as on the group level's page), and the contrast between
    gray and white matter.

    Parameters
    ----------
    folders
        Derivative datasets.
    output
        Folder for both files.
    description
        `desc-` of the harmonized images that are judged where there are no `models`.
    models
        Bundles that harmonize the preprocessed images here and now, to their references `default`; each is a method by
        its folder's name. The first is what the others are compared with.
    reference_scans
        White-striped brains, masks beside them, to harmonize to instead. Without them matching and Nyúl go to the
        quantiles of the first bundle's reference, or to those in the sidecars of the harmonized images.
    min_age
        In years: persons whom participants.tsv says to be younger are left out.
    jobs
        Images that are done at the same time.

    Raises
    ------
    InputMissing
        A folder holds no image to judge, a site has less than two persons, or the reference is not known.
    """
    images = [image for folder in folders for image in _site_images(folder, description, bool(models), min_age)]
    if missing := [str(path) for path in reference_scans if not path.is_file()]:
        raise InputMissing(f"--reference-scans {' '.join(missing)}: no such file")
    names = _method_names(models, description)
    references = {name: _reference(model, reference_scans) for name, model in zip(names, models, strict=False)}
    target = _target(references, images, reference_scans)
    bundles = dict(zip(names, models, strict=False))
    to_judge = [delayed(_image_rows)(image, bundles, references, target) for image in images]
    parts = in_parallel(to_judge, jobs, "images")
    table = pd.DataFrame([row for rows in parts for row in rows])
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "sites.tsv", sep="\t", index=False, float_format="%.6g")
    summary = summarise_sites(table, names[0])
    (output / "sites.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def summarise_sites(table: pd.DataFrame, first: str) -> dict[str, object]:
    """What `sites.json` holds, from the rows of `sites.tsv`; `first` is the method that others are compared with."""
    features = table.drop(columns=["image", "gray_white_contrast", *RATIOS, *TISSUES])
    contrast = table.groupby(["method", "site"]).gray_white_contrast.agg(["mean", "std"])
    return {
        "images": table[table.method == RAW].site.value_counts().to_dict(),
        "persons": table.groupby("site").person.nunique().to_dict(),
        "ratios": {ratio: spread(table, ratio, first) for ratio in RATIOS},
        "volume_order": {tissue: order_kept(table, tissue, RAW) for tissue in ("gray", "white")},
        "accuracy": {method: site_accuracy(part) for method, part in features.groupby("method")},
        "probe": {method: _probe(part) for method, part in features.groupby("method")},
        "chance": 1 / table.site.nunique(),
        "gray_white_contrast": {
            method: {site: row.to_dict() for (_, site), row in part.iterrows()}
            for method, part in contrast.groupby(level="method")
        },
    }


def sites_table(summary: dict[str, object]) -> pd.DataFrame:
    """The summary as it is printed: a row per ratio and method."""
    rows = []
    for ratio, methods in summary["ratios"].items():
        for method, found in methods.items():
            low, high = found["between_interval"]
            least, most = found["relative_interval"]
            rows.append(
                {
                    "ratio": ratio,
                    "method": method,
                    **found["sites"],
                    "between": f"{found['between']:.4f} ({low:.4f} to {high:.4f})",
                    "relative": f"{found['relative']:.2f} ({least:.2f} to {most:.2f})",
                    "within": found["within"],
                    "classifier": summary["accuracy"][method],
                    "probe": _told(summary["probe"][method]),
                    **{f"order_{t}": order[method]["all"] for t, order in summary["volume_order"].items()},
                }
            )
    return pd.DataFrame(rows).set_index(["ratio", "method"])


def _probe(part: pd.DataFrame) -> dict[str, object] | None:
    """What fresh classifiers find, as on the group level's page."""
    features = part.drop(columns=["site", "method", "person"]).to_numpy(float)
    found = probe_in_order(features, part.site.to_numpy(str), part.person.to_numpy(str))
    return found and found.to_dict()


def _told(probe: dict[str, object] | None) -> str:
    return f"{probe['accuracy']:.3f} ({probe['low']:.3f} to {probe['high']:.3f})" if probe else "n/a"


def _method_names(models: tuple[Path, ...], description: str) -> list[str]:
    """Of the harmonizations that are judged: the bundles' folder names, with their parents' where they are the same."""
    names = [model.name for model in models]
    names = [n if names.count(n) == 1 else "/".join(m.parts[-2:]) for n, m in zip(names, models, strict=True)]
    return names or [description]


def _reference(model: Path, scans: tuple[Path, ...]) -> Reference:
    """The bundle's default one, or one that it makes of scans."""
    bundle = load_bundle(model)
    if not scans:
        return bundle.references[DEFAULT]
    return make_reference("scans", "file", "", (cut_brain(path)[:2] for path in scans), bundle, REFERENCE_SLICES)


def _target(references: dict[str, Reference], images: list[_Image], scans: tuple[Path, ...]) -> np.ndarray:
    """Quantiles (101) of the reference that matching and Nyúl go to."""
    if references:
        return next(iter(references.values())).quantiles.numpy()
    if scans:
        return np.mean([np.percentile(brain[mask], range(101)) for brain, mask, _ in map(cut_brain, scans)], axis=0)
    for image in images:
        if (sidecar := sidecar_of(image.harmonized)).is_file():
            return np.array(json.loads(sidecar.read_text())["Harmonization"]["ReferenceQuantiles"])
    raise InputMissing(
        "no sidecar says what reference the images were harmonized to: give --reference-scans or --model"
    )


def _site_images(folder: Path, description: str, model: bool, min_age: float) -> list[_Image]:
    wanted = "preproc" if model else description
    paths = sorted(folder.glob(f"**/*_space-*_res-1_desc-{wanted}_T1w.nii.gz"))
    found = [path for path in paths if not brought_elsewhere(path)]
    if not found:
        raise InputMissing(f"{folder} holds no *_space-*_res-1_desc-{wanted}_T1w.nii.gz")
    ages = {person: _number(row.get("age", "")) for person, row in read_participants(folder).items()}
    images = []
    for path in found:
        stem = path.name.removesuffix(f"desc-{wanted}_T1w.nii.gz")
        person = stem.split("_")[0]
        if ages.get(person, math.inf) >= min_age:  # unknown: not known to be a child
            preproc, harmonized = (path.with_name(f"{stem}desc-{name}_T1w.nii.gz") for name in ("preproc", description))
            images.append(_Image(folder.name, f"{folder.name}/{person}", description, preproc, harmonized))
    if len({image.person for image in images}) < 2:
        raise InputMissing(f"{folder}: a site's spread needs two persons at least ({min_age:g} years old or older)")
    return images


def _number(text: str) -> float:
    """Infinity where there is none."""
    try:
        number = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(number) else number


def cut_brain(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[slice, ...]]:
    """White-striped brain and its mask, both cut to the box around the mask, and this box."""
    mask = np.asarray(nib.load(path.with_name(path.name.replace("preproc_T1w", "brain_mask"))).dataobj) > 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return np.asarray(nib.load(path).dataobj, np.float32)[box], mask[box], box


def _image_rows(
    image: _Image, models: dict[str, Path], references: dict[str, Reference], target: np.ndarray
) -> list[dict[str, object]]:
    """A row per method."""
    import torch

    torch.set_num_threads(1)
    brain, mask, box = cut_brain(image.preproc)
    outputs = {
        RAW: brain,
        "matching": matching_to(brain, mask, target),
        "Nyúl": baselines.nyul_to(brain, mask, target[list(baselines.LANDMARKS)]),
    }
    for name, model in models.items():
        outputs[name] = harmonize(brain, mask, load_bundle(model), references[name], Compute()).image
    if not models:
        outputs[image.description] = np.asarray(nib.load(image.harmonized).dataobj, np.float32)[box]
    inside = well_inside(brain, mask)
    about = {"person": image.person, "site": image.site, "image": image.preproc.name}
    return [
        {
            **about,
            "method": method,
            **tissue_ratios(output, inside),
            **tissue_volumes(output, mask, inside),
            "gray_white_contrast": gray_white_contrast(output, mask),
            **coarse_intensities(output, mask),
        }
        for method, output in outputs.items()
    ]

"""A model on new scans: a table in the style of BIDS phenotypes, or label images; what `imunity-predict` does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from imunity_bids.bids.description import DESCRIPTION, is_other_dataset
from imunity_bids.bids.outputs import sidecar_of, write_json, write_nifti, write_text
from imunity_bids.bids.sidecars import BIDS_VERSION, generated_by
from imunity_bids.errors import ImunityError, Usage
from imunity_bids.unlearning.model import Model, load_model
from imunity_bids.unlearning.scans import Scan, find_scans, load_scan

log = logging.getLogger(__name__)


def predict(model_folder: Path, derivatives: list[Path], output: Path, description: str | None, device: str) -> int:
    """Write what the model says of every scan; returns how many could not be used.

    Regression and classification: `phenotype/<task>.tsv` with a row per scan, and its JSON. Segmentation:
    `*_desc-unlearned_dseg.nii.gz` on the grid of each image, with sidecars. A scan that cannot be read is said and left
    out; the others go on.

    Raises
    ------
    Usage
        The output folder is another dataset: raw data, what is looked at, another model's predictions.
    """
    model = load_model(model_folder, device)
    scans = find_scans(derivatives, description)
    about = _description(model, derivatives)
    if is_other_dataset(output, about["Name"]):
        raise Usage(f"{output} holds another dataset; name a new or empty folder for the predictions")
    write_json(output / DESCRIPTION, about)
    rows, failed = [], 0
    for scan in scans:
        try:
            rows.append(_segment(model, scan, output, device) if _is_map(model) else _answer(model, scan, device))
        except ImunityError as error:
            log.error("%s", error)
            failed += 1
    if not _is_map(model) and rows:
        _write_table(model, rows, output)
    return failed


def _answer(model: Model, scan: Scan, device: str) -> dict[str, Any]:
    volume, _ = load_scan(scan.path, model.architecture.spacing_mm)
    outputs = model(volume[None, None].to(device)).cpu()
    row = {"participant_id": scan.participant, **_entities(scan.path), "image": scan.path.name}
    row[model.task.name] = model.task.answers(outputs)[0]
    if model.task.kind == "classification":
        chances = outputs.softmax(dim=1)[0].tolist()
        row |= {f"probability_{name}": chance for name, chance in zip(model.task.classes, chances, strict=True)}
    return row


def _segment(model: Model, scan: Scan, output: Path, device: str) -> dict[str, Any]:
    volume, grid = load_scan(scan.path, model.architecture.spacing_mm)
    slices = volume.movedim(2, 0)[:, None]
    classes = torch.cat([model(part.to(device)).cpu().argmax(dim=1) for part in slices.split(16)]).movedim(0, 2)
    image = nib.load(scan.path)
    place = Path(*scan.path.parts[scan.path.parts.index(scan.participant) :])
    path = output / place.with_name(f"{scan.path.name.partition('_desc-')[0]}_desc-unlearned_dseg.nii.gz")
    data = grid.restore(classes) * (np.asarray(image.dataobj) > 0)
    write_nifti(path, data.astype(np.uint8), image.affine, code=4)
    write_json(
        sidecar_of(path),
        {
            "Description": f"Segmentation by a network that forgot the {' and the '.join(model.card['unlearned'])}",
            "Sources": [f"bids:{scan.folder}:{place.as_posix()}"],
            "SpatialReference": scan.path.name.partition("_space-")[2].partition("_")[0],
            "Resolution": "the grid of the image; the network saw "
            f"{model.architecture.spacing_mm:g} mm, labels are the nearest",
            "Manual": False,
            "LabelMap": {str(number): name for number, name in enumerate(model.task.classes)},
            "Model": {"Name": model.card["name"], "SHA256": model.card["sha256"]},
        },
    )
    return {"image": path.name}


def _write_table(model: Model, rows: list[dict[str, Any]], output: Path) -> None:
    task = model.task
    table = pd.DataFrame(rows)
    text = table.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.4g")
    write_text(output / "phenotype" / f"{task.name}.tsv", text)
    training = model.card["training"]
    columns = {
        "participant_id": {"Description": "Participant"},
        "image": {"Description": "Image that was looked at"},
        task.name: {
            "Description": f"{task.name} as predicted from the image, not measured",
            "Derivative": True,
            "ValidationError": training["validation_error"],
        },
    }
    columns |= {name: {"Description": f"BIDS entity {name}"} for name in table if name not in columns}
    for name in task.classes:
        columns[f"probability_{name}"] = {"Description": f"Share that the network gives {name}; not calibrated"}
    measure = {"Description": f"Network that forgot {', '.join(model.card['unlearned'])}", "Model": model.card["name"]}
    write_json(output / "phenotype" / f"{task.name}.json", {"MeasurementToolMetadata": measure, **columns})


def _entities(path: Path) -> dict[str, str]:
    """session and run, where the name has them."""
    pairs = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
    names = {"ses": "session", "run": "run"}
    return {name: pairs[key] for key, name in names.items() if key in pairs}


def _description(model: Model, derivatives: list[Path]) -> dict[str, Any]:
    return {
        "Name": f"Predictions of {model.card['name']}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": "see the license of the source dataset",
        "Authors": ["The ImUnity-BIDS developers", "The ImUnity-BIDS contributors"],
        "GeneratedBy": generated_by(),
        "SourceDatasets": [{"URL": folder.resolve().as_uri()} for folder in derivatives],
        "DatasetLinks": {folder.name: folder.resolve().as_uri() for folder in derivatives},
    }


def _is_map(model: Model) -> bool:
    return model.task.kind == "segmentation"

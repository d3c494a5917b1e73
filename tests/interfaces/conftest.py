"""A scan that is the template, as every step leaves it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.products import Products
from imunity_bids.image.template import Template


@pytest.fixture
def template(coarse_template: Template) -> Template:
    return coarse_template


@pytest.fixture(autouse=True)
def tiny_template(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imunity_bids.image.template.load_template", lambda name: template)


@pytest.fixture
def files(tmp_path: Path, template: Template) -> dict[str, str]:
    """A scan that is the template, as every step leaves it, and the identity."""
    import ants

    affine, data = template.brain.affine, np.asarray(template.brain.dataobj, dtype=np.float32)
    data = 0.7 * data / np.percentile(data[template.mask], 90)
    volumes = {"image": data, "mask": template.mask.astype(np.uint8), "uncertainty": 0.02 * template.mask}
    paths = {}
    for name, volume in volumes.items():
        paths[name] = str(tmp_path / f"{name}.nii")
        nib.Nifti1Image(volume.astype(np.uint8 if name == "mask" else np.float32), affine).to_filename(paths[name])
    raw = tmp_path / "bids" / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    raw.parent.mkdir(parents=True)
    nib.Nifti1Image(data, affine).to_filename(raw)
    paths |= {"raw": str(raw), "transform": str(tmp_path / "identity.mat")}
    ants.write_transform(ants.create_ants_transform("AffineTransform", dimension=3), paths["transform"])
    return paths


@pytest.fixture
def products(tmp_path: Path, files: dict[str, str]) -> Products:
    return Products(tmp_path / "out", T1w.from_path(Path(files["raw"]), tmp_path / "bids"), "tiny")

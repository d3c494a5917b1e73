from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.cli.run import main
from imunity_bids.image.template import BUILT_IN
from imunity_bids.simulation.demo import Scanner, scan, template_head

STRIPPED = Scanner("S", (0.62, 0.95, 0.22, 0.0, 0.0, 0.0, 0.0), 0.2, (3.0, 3.0, 3.0), 0.0, 500.0)


@pytest.fixture(scope="session")
def small_brain() -> nib.Nifti1Image:
    """A brain of 3 mm voxels without skull: seconds instead of a minute through the whole chain."""
    maps, affine = template_head()
    data, grid = scan(maps, affine, STRIPPED, np.random.default_rng(0))
    return nib.Nifti1Image(data, grid)


@pytest.fixture(scope="session")
def make_bids(small_brain: nib.Nifti1Image) -> Callable[[Path, dict[str, float]], Path]:
    """Write a dataset with one image per name, its intensities to the power of the number."""

    def make(folder: Path, images: dict[str, float]) -> Path:
        data = np.asarray(small_brain.dataobj, dtype=np.float32) / 500
        for name, gamma in images.items():
            subject, _, rest = name.partition("_")
            session = next((part for part in rest.split("_") if part.startswith("ses-")), "")
            anat = folder / subject / session / "anat"
            anat.mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image((500 * data**gamma).astype(np.int16), small_brain.affine)
            image.to_filename(anat / f"{name}_T1w.nii.gz")
        describe(folder)
        return folder

    return make


def describe(folder: Path) -> None:
    content = {"Name": "test", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def imunity(bundle_folder: Path) -> Callable[..., int]:
    """Run the app with the tiny bundle and the built-in template."""

    def run(dataset: Path, out: Path, *options: object) -> int:
        common = ["--model", bundle_folder, "--template", BUILT_IN, "--skull-strip", "none"]
        return main([str(a) for a in (dataset, out, "participant", *common, *options)])

    return run

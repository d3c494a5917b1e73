from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from imunity_bids.image.template import Template, built_in
from imunity_bids.models.bundle import Bundle, Reference, save_bundle
from imunity_bids.models.card import AXES
from imunity_bids.models.imunity import Architecture, Generator

torch.set_num_threads(1)  # tiny networks: more threads only wait for each other
# ITK reads it once, when ants is first imported; with more threads its sums, and so the bits of a registration, vary
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

DATA = Path(os.environ.get("IMUNITY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """Real scans, where there are any."""
    if not DATA.is_dir():
        pytest.skip(f"real data not found at {DATA}; set IMUNITY_TEST_DATA")
    return DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def ball() -> np.ndarray:
    """A bright ball of radius 20 in 60³ voxels, bool."""
    grid = np.indices((60, 60, 60)) - 29.5
    return (grid**2).sum(0) < 20**2


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained bundle: nearly histogram matching."""
    torch.manual_seed(0)
    architecture = Architecture(width=4, code=8, hidden=16)
    generators = {axis: Generator(architecture).eval() for axis in AXES}
    codes = {axis: torch.zeros(1, architecture.code) for axis in AXES}
    default = Reference("default", "bundle", "", codes, torch.linspace(0, 1, 101))
    folder = tmp_path_factory.mktemp("bundle")
    card = {"name": "tiny", "version": "0", "license": "CC0"}
    save_bundle(folder, Bundle(card, generators, {"default": default}))
    return folder


@pytest.fixture(scope="session")
def coarse_template() -> Template:
    """The built-in one at 4 mm, named "tiny": a second instead of half a minute."""
    full = built_in()
    part = (slice(None, None, 4),) * 3
    mask = full.mask[part]
    brain = ndimage.gaussian_filter(np.asarray(full.brain.dataobj), 1.5)[part] * mask
    return Template("tiny", nib.Nifti1Image(brain, full.brain.affine @ np.diag([4, 4, 4, 1])), mask)

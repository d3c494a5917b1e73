"""Changed between two runs on one output: the image is made again, also with a kept work folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from imunity_bids.models.bundle import load_bundle
from imunity_bids.models.weights import save_weights
from tests.integration.conftest import SMALL

HARMONIZED = f"sub-01/anat/sub-01_space-{SMALL}_res-1_desc-harmonized_T1w"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    return make_bids(tmp_path_factory.mktemp("redo"), {"sub-01": 1.0})


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Path:
    """The tiny bundle with a second reference whose codes move every intensity."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    references = load_file(folder / "references.safetensors")
    other = {name.replace("default", "other"): value + 3 for name, value in references.items()}
    save(folder, "references", {**references, **other}, references=["default", "other"])
    return folder


def save(folder: Path, name: str, tensors: dict[str, torch.Tensor], **card: object) -> None:
    """New weights under the old name, and their hash in the card, as a training in the same folder leaves them."""
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    content["sha256"][name] = save_weights(folder / f"{name}.safetensors", tensors, half=False)
    path.write_text(json.dumps({**content, **card}))
    load_bundle.cache_clear()  # a new process would read it anew


def voxels(out: Path) -> np.ndarray:
    return np.asarray(nib.load(out / f"{HARMONIZED}.nii.gz").dataobj)


def record(out: Path) -> dict:
    return json.loads((out / f"{HARMONIZED}.json").read_text())["Harmonization"]


def test_the_contrast_of_another_reference_replaces_that_of_the_first(
    dataset: Path, bundle: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    """The main reference is always desc-harmonized: another one must not find it "done"."""
    out, options = tmp_path / "out", ["--model", bundle, "--nprocs", 1]
    assert imunity(dataset, out, *options) == 0
    first, mark = voxels(out), record(out)
    assert imunity(dataset, out, *options, "--reference", "other") == 0
    assert record(out)["Reference"]["label"] == "other"
    assert record(out)["Reference"]["sha256"] != mark["Reference"]["sha256"]
    assert np.abs(voxels(out) - first).max() > 0.01
    assert imunity(dataset, out, *options) == 0  # and back
    np.testing.assert_array_equal(voxels(out), first)


def test_weights_changed_in_place_reach_the_image_though_the_work_folder_is_kept(
    dataset: Path, bundle: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    work = ["--model", bundle, "--nprocs", 1, "-w", tmp_path / "work"]
    out = tmp_path / "out"
    assert imunity(dataset, out, *work) == 0
    first, mark = voxels(out), record(out)
    weights = load_file(bundle / "axial.safetensors")
    weights["curve.layers.6.bias"] = (
        weights["curve.layers.6.bias"].float() + 3
    )  # a tenth of it is added to all quantiles
    save(bundle, "axial", weights)
    coronal = load_file(bundle / "coronal.safetensors")
    coronal["curve.layers.6.bias"] = coronal["curve.layers.6.bias"].float() + 3
    save(bundle, "coronal", coronal)
    assert imunity(dataset, out, *work) == 0
    again = voxels(out)
    assert record(out)["Bundle"]["SHA256"]["axial"] != mark["Bundle"]["SHA256"]["axial"]
    assert np.median((again - first)[first > 0]) > 0.1  # the median of three axes, of which two were raised by 0.3
    assert imunity(dataset, tmp_path / "fresh", "--model", bundle, "--nprocs", 1) == 0
    np.testing.assert_array_equal(again, voxels(tmp_path / "fresh"))


def test_a_file_that_was_lost_comes_back_though_the_work_folder_is_kept(
    dataset: Path, bundle: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    out, work = tmp_path / "out", ["--model", bundle, "--nprocs", 1, "-w", tmp_path / "work"]
    assert imunity(dataset, out, *work) == 0
    lost = [out / f"{HARMONIZED}.nii.gz", out / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz"]
    for path in lost:
        path.unlink()
    assert imunity(dataset, out, *work) == 0
    assert all(path.is_file() for path in lost)

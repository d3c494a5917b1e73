"""Steps that write in other spaces, on a scan that is the template."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.bids.outputs import brought_elsewhere, sidecar_of
from imunity_bids.bids.products import Products
from imunity_bids.bids.spaces import OutputSpace, read_space
from imunity_bids.harmonize.curves import FINE
from imunity_bids.image.ants_bridge import read_motion
from imunity_bids.image.template import Template
from imunity_bids.interfaces.spaces import BridgeTemplates, WriteInSpace
from tests.interfaces.writing import STRIPE, common, write_harmonized, write_preprocessed

OWN, COARSE = read_space("T1w"), read_space("tiny:res-2")


@pytest.fixture(autouse=True)
def coarse_grid(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template's grid with voxels twice as large, borders on borders."""
    shape = tuple(length // 2 for length in template.mask.shape)
    affine = template.brain.affine @ nib.affines.from_matvec(2 * np.eye(3), np.full(3, 0.5))
    grid = nib.Nifti1Image(np.zeros(shape, np.float32), affine)
    monkeypatch.setattr("imunity_bids.image.template.grid_of", lambda space: grid)


def write_in(space: OutputSpace, files: dict[str, str], products: Products, folder: Path) -> list[str]:
    """A curve that changes nothing."""
    np.save(folder / "curve.npy", np.linspace(0, 1, FINE, dtype=np.float32))
    step = WriteInSpace(
        **common(files, products), space=str(space), native_t1w=files["image"], native_mask=files["mask"],
        template_t1w=files["image"], harmonized=files["image"], curve=str(folder / "curve.npy"),
        forward=files["transform"], backward=files["transform"], stripe=STRIPE | {"scale": 1.0},
        description="harmonized", waited_for=[],
    )  # fmt: skip
    return step.work(folder)["done"]


def test_own_voxels(files: dict[str, str], products: Products, tmp_path: Path) -> None:
    path = products.harmonized_in(OWN, "harmonized")
    assert write_in(OWN, files, products, tmp_path) == [path.name] == ["sub-1_desc-harmonized_T1w.nii.gz"]
    image, mask = (np.asarray(nib.load(files[name]).dataobj) for name in ("image", "mask"))
    np.testing.assert_allclose(nib.load(path).dataobj, image.clip(0, 1) * mask, atol=1e-5)
    sidecar = json.loads(sidecar_of(path).read_text())
    assert sidecar["SpatialReference"].startswith("bids:raw:sub-1") and "Resolution" not in sidecar
    assert sidecar["SameBrainAs"] == "bids::sub-1/anat/sub-1_space-tiny_res-1_desc-harmonized_T1w.nii.gz"


def test_a_coarser_grid(files: dict[str, str], products: Products, tmp_path: Path) -> None:
    """Brightness stays within what a spline overshoots; mask and image have the same grid and cover each other."""
    written = write_in(COARSE, files, products, tmp_path)
    assert written == [
        "sub-1_space-tiny_res-2_desc-brain_mask.nii.gz",
        "sub-1_space-tiny_res-2_desc-harmonized_T1w.nii.gz",
    ]
    brain, mask = nib.load(products.harmonized_in(COARSE, "harmonized")), nib.load(products.mask_in(COARSE))
    inside = np.asarray(mask.dataobj) > 0
    assert brain.shape == mask.shape
    assert not np.asarray(brain.dataobj)[~inside].any()
    fine, fine_mask = (np.asarray(nib.load(files[name]).dataobj) for name in ("image", "mask"))
    assert inside.sum() * 8 == pytest.approx(fine_mask.sum(), rel=0.05)  # what is bent outwards loses at 8 mm
    assert np.asarray(brain.dataobj)[inside].mean() == pytest.approx(fine[fine_mask > 0].mean(), rel=0.02)
    assert json.loads(sidecar_of(products.mask_in(COARSE)).read_text())["Resolution"].startswith("8 x 8 x 8 mm")


def test_what_an_earlier_run_brought_elsewhere_does_not_stay(
    files: dict[str, str],
    products: Products,
    tmp_path: Path,
) -> None:
    """It would show an image that is there no more; what another run harmonized in another template's space stays."""
    other = Products(products.out, products.source, "elsewhere")
    for kept in (other.harmonized("harmonized"), other.template_mask):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
        sidecar_of(kept).write_text("{}")
    write_preprocessed(files, products, "harmonized").work(tmp_path)
    for space in (OWN, COARSE):
        write_in(space, files, products, tmp_path)
    write_harmonized(files, products).work(tmp_path)
    promised = products.files(["harmonized"], [OWN, COARSE])
    assert [path for path in promised if not path.is_file()] == []
    brought = [
        products.harmonized_in(OWN, "harmonized"),
        products.harmonized_in(COARSE, "harmonized"),
        products.mask_in(COARSE),
    ]
    assert all(map(brought_elsewhere, brought))
    further = read_space("further")
    for kept in (products.mask_in(further), products.way_to(further)):
        kept.touch()
    sidecar_of(products.mask_in(further)).write_text('{"SameBrainAs": ""}')
    write_preprocessed(files, products, "harmonized").work(tmp_path)
    assert not any(path.exists() or sidecar_of(path).exists() for path in brought)
    assert not products.mask_in(further).exists() and not products.way_to(further).exists()
    assert products.forward.exists()
    assert other.harmonized("harmonized").exists() and other.template_mask.exists()


def test_a_template_is_bridged_to_itself_by_standing_still(tmp_path: Path) -> None:
    made = BridgeTemplates(template="tiny", other="tiny").work(tmp_path)
    motion = read_motion(Path(made["out_file"]))
    assert np.abs(motion[:3, :3] - np.eye(3)).max() < 0.02  # voxels have 4 mm
    assert np.abs(motion[:3, 3]).max() < 1

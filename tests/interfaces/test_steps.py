"""Steps that write: what they take away first, what they leave when they are stopped in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.bids import outputs
from imunity_bids.bids.outputs import sidecar_of
from imunity_bids.bids.products import Products
from imunity_bids.errors import DataUnusable
from imunity_bids.image.template import Template
from imunity_bids.interfaces import harmonize, preprocess
from imunity_bids.plan.crash import read_crash
from imunity_bids.qc.measures import MEASURES
from tests.interfaces.writing import write_harmonized, write_preprocessed


def test_everything_is_written_and_the_mark_last(
    files: dict[str, str], products: Products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    write = outputs.write_atomically
    monkeypatch.setattr(outputs, "write_atomically", lambda path, fill: (order.append(path), write(path, fill))[1])
    write_preprocessed(files, products, "harmonized").work(tmp_path)
    write_harmonized(files, products).work(tmp_path)
    promised = products.files(["harmonized"])
    assert {path for path in promised if not path.is_file()} == set()
    assert order[-1] == sidecar_of(products.harmonized("harmonized"))
    sidecar = json.loads(order[-1].read_text())
    assert sidecar["Harmonization"]["Precision"] == "bfloat16+float32"
    assert sidecar["Harmonization"]["Fallbacks"] == ["out of GPU memory: ran on the CPU"]
    assert sidecar["Harmonization"]["Reference"]["scans"][0]["SHA256"] == "bb"
    assert sidecar["Sources"][1] == "bids:raw:sub-2/anat/sub-2_T1w.nii.gz"
    assert sidecar["QualityControl"]["verdict"] == "ok"
    assert "one intensity curve" in sidecar["Harmonization"]["Method"]
    assert {measure.name for measure in MEASURES} <= set(sidecar["QualityControl"])


def test_a_contrast_agent_is_in_the_verdict(files: dict[str, str], products: Products, tmp_path: Path) -> None:
    write_harmonized(files, products, agent="GADOLINIUM").work(tmp_path)
    sidecar = json.loads(sidecar_of(products.harmonized("harmonized")).read_text())
    assert sidecar["QualityControl"]["verdict"] == "check"
    assert sidecar["QualityControl"]["reason"].startswith("contrast agent (GADOLINIUM)")
    assert sidecar["Scan"]["VoxelSizeMM"] == [1.0, 1.0, 1.0]


def test_a_redo_that_is_stopped_leaves_no_mark(
    files: dict[str, str], products: Products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first file of the redo, and between the image and its sidecar."""
    mark = sidecar_of(products.harmonized("harmonized"))

    def finish() -> None:
        write_preprocessed(files, products, "harmonized").work(tmp_path)
        write_harmonized(files, products).work(tmp_path)

    for step, stopped_at in ((write_preprocessed, products.native_mask), (write_harmonized, mark)):
        finish()
        assert mark.is_file()
        write = outputs.write_atomically

        def stopping(path: Path, fill: object, last: Path = stopped_at, write=write) -> Path:
            if path == last:
                raise KeyboardInterrupt
            return write(path, fill)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(outputs, "write_atomically", stopping)
            made = step(files, products, "harmonized") if step is write_preprocessed else step(files, products)
            made.work(tmp_path)
        assert not mark.exists()
        assert products.harmonized("harmonized").exists()


def test_an_image_of_another_reference_is_named_and_kept(
    files: dict[str, str], products: Products, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = products.harmonized("harmonized+B")
    other.parent.mkdir(parents=True)
    other.touch()
    write_preprocessed(files, products, "harmonized").work(tmp_path)
    assert other.exists()
    assert other.name in caplog.text


def test_from_a_scan_to_the_models_scale(files: dict[str, str], tmp_path: Path, template: Template) -> None:
    """Conform, mask, field and white stripe on a scan that is the template: nothing moves, white matter at 0.7."""
    conformed = preprocess.Conform(in_file=files["raw"]).work(tmp_path)
    assert conformed["info"]["fixes"] == []
    brain = preprocess.ExtractBrain(in_file=conformed["out_file"], method="none").work(tmp_path)
    mask = np.asarray(nib.load(brain["out_file"]).dataobj) > 0
    assert (mask & template.mask).sum() / template.mask.sum() > 0.97  # its darkest rim is empty
    assert brain["info"]["method"] == "none"
    scan = {"in_file": conformed["out_file"], "mask": brain["out_file"], "template": "tiny"}
    moved = preprocess.Register(**scan).work(tmp_path)
    assert moved["overlap"] == moved["info"]["template_dice"] > 0.95
    where = {name: moved[name] for name in ("forward", "backward", "overlap")} | {"template_mask": moved["mask"]}
    bias = preprocess.CorrectBias(**scan, **where).work(tmp_path)
    assert bias["info"]["method"] == "smooth field through white matter"
    assert 0 < bias["info"]["measures"]["inu_range"] < 0.4  # the template has next to no field
    raw, made, field = (
        np.asarray(nib.load(f).dataobj) for f in (conformed["out_file"], bias["out_file"], bias["field"])
    )
    np.testing.assert_allclose(made * field, raw, atol=1e-4 * raw.max())
    stripe = preprocess.WhiteStripe(in_file=bias["moved"], mask=moved["mask"], template="tiny").work(tmp_path)
    data = np.asarray(nib.load(stripe["out_file"]).dataobj)
    assert np.median(data[template.white_core & mask]) == pytest.approx(0.7, abs=0.01)
    assert stripe["info"]["from_template"] and stripe["info"]["agrees"]


def test_where_the_registration_failed_the_template_says_nothing(
    files: dict[str, str], tmp_path: Path, template: Template
) -> None:
    """Masks that do not lie on each other (Dice below 0.85): plain N4, and the sidecar's text says so."""
    scan = {"in_file": files["image"], "mask": files["mask"], "template": "tiny"}
    where = dict.fromkeys(("forward", "backward"), files["transform"]) | {"overlap": 0.84}
    where["template_mask"] = files["mask"]
    made = preprocess.CorrectBias(**scan, **where).work(tmp_path)
    assert made["info"]["method"] == "N4 (the template does not tell where white matter lies)"
    shifted = tmp_path / "shifted.nii"
    nib.Nifti1Image(np.roll(template.mask, 12, 0).astype(np.uint8), template.brain.affine).to_filename(shifted)
    stripe = preprocess.WhiteStripe(in_file=files["image"], mask=str(shifted), template="tiny").work(tmp_path)
    assert not stripe["info"]["from_template"]


def test_a_field_is_written_where_it_was_asked_for_and_an_old_one_goes(
    files: dict[str, str], products: Products, tmp_path: Path
) -> None:
    """A field left from an earlier run would belong to an image that is there no more."""
    step = write_preprocessed(files, products, "harmonized")
    step.inputs.field = files["image"]
    step.work(tmp_path)
    fields = json.loads(sidecar_of(products.field).read_text())
    assert fields["BiasFieldCorrection"] == "N4"
    assert products.field.is_file() and products.field in products.files(["harmonized"], field=True)
    assert products.field not in products.files(["harmonized"])
    write_preprocessed(files, products, "harmonized").work(tmp_path)
    assert not products.field.exists() and not sidecar_of(products.field).exists()


def test_a_reference_is_encoded_kept_and_used(
    files: dict[str, str], bundle_folder: Path, tmp_path: Path, template: Template
) -> None:
    cache = tmp_path / "cache" / "reference.safetensors"
    encode = harmonize.EncodeReference(
        in_files=[files["image"]], masks=[files["mask"]], label="B", kind="file", sha256="dd",
        model=str(bundle_folder), slices=3, cache=str(cache),
    )  # fmt: skip
    assert encode.work(tmp_path) == {"out_file": str(cache)}
    made = harmonize.Harmonize(
        in_file=files["image"], mask=files["mask"], model=str(bundle_folder), reference_file=str(cache)
    ).work(tmp_path)
    assert made["info"]["reference"] == {"label": "B", "type": "file", "sha256": "dd"}
    assert made["info"]["compute"] == {"device": "cpu", "precision": "float32", "fallbacks": []}
    after = np.asarray(nib.load(made["out_file"]).dataobj)
    before = np.asarray(nib.load(files["image"]).dataobj)
    assert (after[~template.mask] == 0).all()
    assert np.abs(after - before)[template.mask].mean() < 0.05  # an untrained bundle is near the identity


def test_a_step_that_fails_leaves_its_reason(tmp_path: Path) -> None:
    scan = tmp_path / "sub-1_T1w.nii.gz"
    nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.diag([4, 4, 4, 1])).to_filename(scan)
    step = preprocess.Conform(in_file=str(scan), crash_file=str(tmp_path / "crash.txt"))
    with pytest.raises(DataUnusable):
        step.run(cwd=str(tmp_path))
    crash = read_crash(tmp_path / "crash.txt")
    assert (crash["code"], crash["step"]) == (65, "Conform")
    assert "every voxel is zero" in crash["message"]

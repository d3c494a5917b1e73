"""The hash that says "done" holds all that decides a voxel: each part is changed in turn."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.outputs import sidecar_of
from imunity_bids.bids.spaces import read_space
from imunity_bids.errors import InputMissing
from imunity_bids.image.template import BUILT_IN, built_in
from imunity_bids.models.card import read_card, reference_hashes
from imunity_bids.plan import parameters, plan
from imunity_bids.plan.parameters import parameters_hash, precision_serves, preprocessing
from imunity_bids.plan.plan import Plan, is_done, make_plan
from imunity_bids.run.failures import set_unreadable_aside
from imunity_bids.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, bundle_folder: Path) -> Settings:
    """A dataset of two scans, a bundle of its own, and a brain network that is a card only."""
    for label in ("01", "02"):
        path = tmp_path / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.Nifti1Image(np.full((8, 8, 8), float(label), np.float32), np.eye(4)).to_filename(path)
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    references = load_file(tmp_path / "bundle" / "references.safetensors")
    other = {name.replace("default", "other"): value + 0.1 for name, value in references.items()}
    save_file({**references, **other}, tmp_path / "bundle" / "references.safetensors")
    edit(tmp_path / "bundle" / "bundle.json", references=["default", "other"])
    (tmp_path / "brain").mkdir()
    (tmp_path / "brain" / "card.json").write_text('{"sha256": "aa"}')
    return Settings(
        tmp_path / "bids",
        tmp_path / "out",
        participants=("01",),
        model=str(tmp_path / "bundle"),
        brain_model=tmp_path / "brain",
        template=BUILT_IN,
        device="cpu",
    )


def edit(card: Path, **changes: object) -> None:
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def write_all(made: Plan, precision: str = "float32", fallbacks: tuple[str, ...] = ()) -> T1w:
    """What a run leaves of its image, as empty files, and the sidecars that say how it was made."""
    (image,) = (*made.images, *made.done)
    products = made.products(image)
    for path in products.files(made.descriptions, made.spaces):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    for reference in made.references:
        values = made.parameters(image, plan.sha256(image.path), reference)
        record = {"ParametersHash": parameters_hash(values, precision), "Precision": precision}
        sidecar = sidecar_of(made.harmonized(image, reference))
        sidecar.write_text(json.dumps({"Harmonization": record | {"Fallbacks": list(fallbacks)}}))
    return image


def is_redone(settings: Settings) -> bool:
    return bool(make_plan(settings).images)


def test_what_is_done_is_not_done_again_unless_forced(settings: Settings) -> None:
    assert is_redone(settings)
    write_all(make_plan(settings))
    assert not is_redone(settings)
    assert is_redone(replace(settings, force=True))
    same = replace(settings, nprocs=7, omp_nthreads=3, mem_gb=1.0, batch_size=3, run_id="x", precision="bfloat16")
    assert not is_redone(same)  # a CPU runs in float32 whatever is asked


@pytest.mark.parametrize(
    "changes",
    [
        {"references": ("other",)},
        {"references": ("default", "other")},
        {"references": ("sub-02",)},
        {"reference_slices": 3},
        {"denoise": "nlm"},
        {"target_fwhm": "5"},
        {"skull_strip": "none"},
        {"skull_strip": "ants"},
        {"brain_border": 1.0},
        {"registration": "rigid"},
        {"random_seed": 2},
        {"output_spaces": ("template", "T1w")},
        {"output_spaces": ("MNI152NLin2009aSym:res-2",)},
        {"bias_correction": "plain"},
        {"save_bias_field": True},
        {"curve": "site"},
    ],
    ids=str,
)
def test_another_option_is_another_image(settings: Settings, changes: dict[str, object]) -> None:
    write_all(make_plan(settings))
    assert is_redone(replace(settings, **changes))


def _other_weights(settings: Settings) -> None:
    card = Path(settings.model) / "bundle.json"
    edit(card, sha256={**read_card(card)["sha256"], "axial": "other"})


def _other_architecture(settings: Settings) -> None:
    card = Path(settings.model) / "bundle.json"
    edit(card, architecture={**read_card(card)["architecture"], "knots": 5})


def _other_reference_tensors(settings: Settings) -> None:
    path = Path(settings.model) / "references.safetensors"
    tensors = load_file(path)
    tensors["default/quantiles"] = torch.linspace(0, 0.9, 101)
    save_file(tensors, path)


def _other_brain_weights(settings: Settings) -> None:
    (settings.brain_model / "card.json").write_text('{"sha256": "bb"}')


def _other_scan(settings: Settings) -> None:
    path = settings.bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)).to_filename(path)


@pytest.mark.parametrize(
    "change", [_other_weights, _other_architecture, _other_reference_tensors, _other_brain_weights, _other_scan]
)
def test_files_changed_in_place_are_another_image(settings: Settings, change: Callable[[Settings], None]) -> None:
    write_all(make_plan(settings))
    change(settings)
    assert is_redone(settings)


def test_tensors_of_another_reference_change_nothing(settings: Settings) -> None:
    write_all(make_plan(settings))
    path = Path(settings.model) / "references.safetensors"
    tensors = load_file(path)
    tensors["other/quantiles"] = torch.linspace(0, 0.9, 101)
    save_file(tensors, path)
    assert not is_redone(settings)


def test_another_version_of_the_app_is_another_image(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(make_plan(settings))
    monkeypatch.setattr(parameters, "version", lambda: "99")
    assert is_redone(settings)


def test_another_release_of_the_template_is_another_image(settings: Settings) -> None:
    template = built_in()
    shifted = nib.Nifti1Image(np.asarray(template.brain.dataobj) + 1, template.brain.affine)
    released = replace(template, brain=shifted)
    assert preprocessing(settings, template) == preprocessing(settings, built_in())
    assert preprocessing(settings, template) != preprocessing(settings, released)


def test_brain_weights_matter_only_where_they_are_used(settings: Settings) -> None:
    template, stripped = built_in(), replace(settings, skull_strip="none")
    before = preprocessing(stripped, template)
    _other_brain_weights(settings)
    assert preprocessing(stripped, template) == before
    with pytest.raises(InputMissing, match="no card"):
        preprocessing(replace(settings, brain_model=Path("/nowhere")), template)


def test_weights_of_synthstrip_are_known_by_their_content(settings: Settings, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    chosen = replace(settings, skull_strip="synthstrip", synthstrip_model=weights)
    seen = set()
    for content in ("a", "b"):
        weights.write_text(content)
        seen.add(preprocessing(chosen, built_in())["brain_weights"])
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("device", "asked", "ran", "fallbacks", "serves"),
    [
        ("cpu", "float32", "float32", [], True),
        ("auto", "bfloat16", "float32", [], True),  # made on a CPU: exact, and good enough
        ("cuda", "bfloat16", "bfloat16", [], True),
        ("cuda", "bfloat16", "float32", [], False),
        ("cuda", "bfloat16", "float32", ["out of GPU memory"], True),
        ("cuda", "bfloat16", "bfloat16+float32", ["out of GPU memory"], True),
        ("cuda", "float32", "bfloat16", [], False),
        ("auto", "float32", "bfloat16+float32", ["out of GPU memory"], False),
        ("cuda", "float16", "bfloat16", [], False),
    ],
)
def test_the_precision_that_ran_decides(
    settings: Settings, device: str, asked: str, ran: str, fallbacks: list[str], serves: bool
) -> None:
    assert precision_serves(replace(settings, device=device, precision=asked), ran, fallbacks) == serves
    chosen = replace(settings, device=device, precision=asked)
    write_all(make_plan(chosen), ran, tuple(fallbacks))
    assert is_redone(chosen) != serves


def test_every_file_must_be_there(settings: Settings) -> None:
    """A user removes one to save space; the next run makes it again."""
    both = replace(settings, references=("default", "other"), output_spaces=("template", "T1w"))
    made = make_plan(both)
    image = write_all(made)
    files = made.products(image).files(made.descriptions, made.spaces)
    assert len(set(files)) == len(files) == 2 * (4 + 2 * 3) + 2 + 2  # images and sidecars, features, transforms
    for path in files:
        content = path.read_text()
        path.unlink()
        assert not is_done(made, image), path
        path.write_text(content)
    assert is_done(made, image)


def test_scans_that_share_a_space_depend_on_each_other(settings: Settings) -> None:
    """A new scan of the person moves the middle; one scan alone has nothing to share."""
    write_all(make_plan(settings))
    longitudinal = replace(settings, longitudinal=True)
    assert not is_redone(longitudinal)
    first = settings.bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    second = first.with_name("sub-01_run-2_T1w.nii.gz")
    shutil.copyfile(first, second)
    assert [image.stem for image in make_plan(settings).images] == ["sub-01_run-2"]
    made = make_plan(longitudinal)
    assert [image.stem for image in made.images] == ["sub-01", "sub-01_run-2"]
    hashes = {str(made.parameters(image, "", made.references[0])) for image in made.images}
    assert len(hashes) == 1  # but for the scan itself, the same decides both
    nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)).to_filename(second)
    again = make_plan(longitudinal)
    assert str(again.parameters(again.images[0], "", again.references[0])) not in hashes
    assert pickle.loads(pickle.dumps(again)).together == again.together  # reports are written in processes of their own


def test_a_scan_that_cannot_be_read_takes_those_that_share_its_space_along(settings: Settings) -> None:
    link = settings.bids_dir / "sub-01" / "anat" / "sub-01_run-2_T1w.nii.gz"
    link.symlink_to("nowhere")
    settings.logs.mkdir(parents=True)
    left, failures = set_unreadable_aside(make_plan(replace(settings, longitudinal=True)))
    assert not left.images
    assert {failure.image.stem for failure in failures} == {"sub-01", "sub-01_run-2"}
    assert all("run-2_T1w.nii.gz does not exist" in failure.message for failure in failures)
    left, failures = set_unreadable_aside(make_plan(settings))
    assert [image.stem for image in left.images] == ["sub-01"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"Harmonization": {}}'])
def test_a_broken_sidecar_is_no_mark(settings: Settings, content: str) -> None:
    made = make_plan(settings)
    image = write_all(made)
    sidecar_of(made.harmonized(image, made.references[0])).write_text(content)
    assert not is_done(made, image)


def test_marks_go_first_and_other_images_stay(settings: Settings, tmp_path: Path) -> None:
    """Killed in the middle of a redo, nothing says "done" over new voxels; the other marks stay."""
    both = replace(settings, participants=(), references=("default", "other"), output_spaces=("template", "T1w"))
    made = make_plan(both)
    for image in made.images:
        write_all(replace(made, images=(image,)))
    first, second = (made.products(image) for image in made.images)
    first.unmark(["harmonized"])
    assert not sidecar_of(first.harmonized("harmonized")).exists()
    assert first.harmonized("harmonized").exists()
    assert not first.harmonized_in(read_space("T1w"), "harmonized").exists()  # the next run may not be asked for it
    assert sidecar_of(first.harmonized("harmonized+other")).exists()
    assert first.others(["harmonized"]) == [first.harmonized("harmonized+other")]
    assert all(path.exists() for path in second.files(made.descriptions, made.spaces))


def test_products_of_names_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    short, long = (
        Plan.products(
            Plan(Settings(tmp_path, tmp_path / "out"), (), (), (), tmp_path, {}, "X", {}),
            T1w.from_path(tmp_path / name, tmp_path),
        )
        for name in ("sub-01_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz")
    )
    for products in (short, long):
        path = products.harmonized("harmonized")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert short.others([]) == [short.harmonized("harmonized")]
    assert short.uncertainty("harmonized+harmonizedB").name.endswith("_desc-uncertainty+harmonizedB_T1w.nii.gz")


def test_each_reference_of_a_bundle_has_its_own_hash(settings: Settings) -> None:
    folder = Path(settings.model)
    hashes = reference_hashes(folder, read_card(folder / "bundle.json"))
    assert len(set(hashes.values())) == 2
    assert all(len(value) == 64 for value in hashes.values())
    (folder / "references.safetensors").unlink()
    with pytest.raises(InputMissing, match="references are missing"):
        reference_hashes(folder, {"references": ["default"]})

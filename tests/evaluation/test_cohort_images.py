"""Images as rows: derivatives of the participant level, and the simulated cohort with a planted diagnosis."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imunity_bids.cli.evaluate import main
from imunity_bids.errors import Usage
from imunity_bids.evaluation.cohort_images import HARMONIZED, IMAGES, NYUL, SHAPE, STRIPED, UNSTRIPED, derivative_table
from imunity_bids.evaluation.planted import ONE_CURVE, ONE_SCANNER, PATIENT, Plan, planted, planted_table
from imunity_bids.qc.brain import brain_of
from imunity_bids.qc.features import image_features
from imunity_bids.simulation.scanners import SCANNERS
from tests.simulation.people import ball_brain
from tests.simulation.test_cohort import maps as maps  # a fixture

QUANTILES = np.linspace(0.1, 0.9, 101)


def derivative(folder: Path, person: str, seed: int) -> None:
    """What the participant level leaves of one scan, as far as it is read."""
    brain, mask = ball_brain(seed, 48)
    anat = folder / person / "anat"
    anat.mkdir(parents=True)
    stem = anat / f"{person}_space-X_res-1_desc"
    stored = image_features(brain_of(brain, brain**1.2, mask), QUANTILES)
    Path(f"{stem}-harmonized_features.json").write_text(json.dumps(stored))
    Path(f"{stem}-harmonized_T1w.json").write_text(
        json.dumps({"Harmonization": {"ReferenceQuantiles": QUANTILES.tolist()}})
    )
    nib.Nifti1Image(brain, np.eye(4)).to_filename(f"{stem}-preproc_T1w.nii.gz")
    nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)).to_filename(f"{stem}-brain_mask.nii.gz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = [tmp_path_factory.mktemp("derivatives") / name for name in ("here", "there")]
    for number, folder in enumerate(found):
        lines = ["participant_id\tage\tgender\tgroup"]
        for person in range(10):
            derivative(folder, f"sub-{person:02d}", person + 10 * number)
            lines.append(f"sub-{person:02d}\t{30 + person}\tf\t{'depr' if person % 2 else 'control'}")
        (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return found


def test_stored_features_and_two_methods_more(folders: list[Path]) -> None:
    table = derivative_table(folders, ["group"])
    assert set(table.method) == set(IMAGES)
    assert table.groupby("method").subject.nunique().eq(20).all()
    assert set(table.site) == {"here", "there"}
    assert (table.sex == "F").all()
    by_method = {method: part.set_index("subject") for method, part in table.groupby("method")}
    stored = json.loads(next(folders[0].glob("sub-00/anat/*features.json")).read_text())["Images"]["before"]
    assert by_method[STRIPED].f_q55["here/sub-00"] == pytest.approx(stored["Intensities"]["q55"])
    assert by_method[UNSTRIPED].f_q95["here/sub-00"] > by_method[STRIPED].f_q95["here/sub-00"]  # its brightest are 1
    assert by_method[NYUL].f_q55["here/sub-00"] == pytest.approx(np.quantile(QUANTILES, 0.55), abs=0.02)
    assert by_method[SHAPE].f_q55.isna().all()


def test_a_method_that_some_images_lack_is_left_out(
    folders: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    derivative(tmp_path / "more", "sub-00", 1)
    next((tmp_path / "more").glob("sub-00/anat/*preproc*")).unlink()
    table = derivative_table([folders[0], tmp_path / "more"], ["group"])
    assert set(table.method) == {*IMAGES} - {UNSTRIPED, NYUL}
    assert "left out, since not all images have it: Nyúl, no white stripe" in caplog.text


def test_the_command_on_derivatives(folders: list[Path], tmp_path: Path) -> None:
    words = [tmp_path / "out", *folders, "--target", "group", "--methods", "ComBat", "--folds", "2", "--seeds", "1"]
    assert main(["diagnosis", *(str(word) for word in [*words, "--combinations", "1", "--jobs", "1"])]) == 0
    table = pd.read_csv(tmp_path / "out" / "diagnosis.tsv", sep="\t")
    assert set(table.method) == {*IMAGES, "ComBat on features"}
    assert (table[table.method == STRIPED].gain == 0).all()
    drawn = pd.read_csv(tmp_path / "out" / "derivatives_group_combinations.tsv", sep="\t")
    assert set(drawn.method) == set(table.method)
    assert main(["diagnosis", str(tmp_path / "out"), str(tmp_path)]) == 66


def test_a_diagnosis_at_one_site_is_told_within_it(folders: list[Path], tmp_path: Path) -> None:
    words = [tmp_path / "out", folders[0], "--target", "group", "--folds", "2", "--seeds", "1"]
    assert main(["diagnosis", *(str(word) for word in words)]) == 0
    table = pd.read_csv(tmp_path / "out" / "diagnosis.tsv", sep="\t")
    assert set(table.scheme) == {"persons left out"}
    assert "site" not in table


def test_sites_have_their_share_of_patients_with_wide_ventricles() -> None:
    people = pd.DataFrame(
        [{"widening": traits.widening_mm - traits.age / 10, "site": site, "dx": dx} for traits, site, dx in
         planted(Plan(8, (0.25, 0.75), widening_mm=5.0))]
    )  # fmt: skip
    assert people.groupby("site").dx.apply(lambda dx: (dx == PATIENT).sum()).to_dict() == {
        SCANNERS[0].name: 2,
        SCANNERS[1].name: 6,
    }
    means = people.groupby("dx").widening.mean()
    assert means[PATIENT] - means["control"] == pytest.approx(5.0, abs=1.0)  # persons scatter by 0.5 mm


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 1.5), (0.5,) * 7])
def test_shares_that_make_no_sense(shares: tuple[float, ...]) -> None:
    with pytest.raises(Usage, match="--shares takes two to 6 numbers from 0 to 1"):
        list(planted(Plan(8, shares)))


def test_ages_are_of_the_span_that_is_asked_for() -> None:
    ages = [one.traits.age for one in planted(Plan(20, ages=(30.0, 40.0)))]
    assert 30 < min(ages) < 32 < 38 < max(ages) < 40
    with pytest.raises(Usage, match="--ages takes two numbers from 20 to 80"):
        list(planted(Plan(8, ages=(10.0, 40.0))))


def test_a_planted_cohort_has_every_method_and_the_bound(maps: Path, bundle_folder: Path, tmp_path: Path) -> None:
    table = planted_table(maps, bundle_folder, Plan(1, (0.0, 1.0), 6.0, spacing_mm=3.0), tmp_path)
    assert set(table.method) == {*IMAGES, ONE_CURVE, ONE_SCANNER}
    assert table.family.isin(["a", "b", "c"]).all()  # persons of one label map stay on one side
    bound = table[table.method == ONE_SCANNER].set_index("dx")
    assert len(bound) == 2
    numbers = bound.filter(regex="^f_").dropna(axis=1, how="all")  # not those of the mask's shape
    assert numbers.shape == (2, 3 + 10 + 4 + 8)  # volumes, quantiles, moments, textures
    assert numbers.notna().to_numpy().all()
    assert numbers.f_csf["patient"] != numbers.f_csf["control"]
    own, shared = (table[table.method == name].set_index("dx").f_mean for name in (HARMONIZED, ONE_CURVE))
    # each site has one person, so that its mean is this anatomy scanned once more, with another T1 and noise
    assert np.abs(own - shared).between(1e-6, 0.1).all()


def test_persons_of_a_killed_run_are_not_made_again(
    maps: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr("imunity_bids.evaluation.planted._features", lambda member, *_: made.append(member) or {})
    plan = Plan(2, (0.0, 1.0), spacing_mm=6.0)
    planted_table(maps, bundle_folder, plan, tmp_path)
    next(tmp_path.glob("a-001_*.json")).unlink()
    planted_table(maps, bundle_folder, plan, tmp_path)
    assert [member.name for member in made] == ["a-000", "a-001", "b-000", "c-000", "a-001"]
    planted_table(maps, bundle_folder, replace(plan, seed=2), tmp_path)
    assert len(made) == 9  # others

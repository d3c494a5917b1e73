"""How far sites lie apart in the contrast of tissues: on brains whose levels are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation import baselines
from imunity_bids.metrics.matching import matching_to
from imunity_bids.metrics.spread import order_kept, spread
from imunity_bids.metrics.tissue_ratios import tissue_ratios, well_inside
from imunity_bids.metrics.volumes import tissue_volumes
from imunity_bids.models.quantiles import match, quantiles
from tests.simulation.people import ball_brain

LEVELS = {"csf": 0.2, "gray": 0.5, "white": 0.7}  # of `ball_brain`


def test_tissues_well_inside_have_the_level_that_they_were_drawn_with() -> None:
    """A tenth of the gray voxels lie on a border and are between two levels: whole classes would miss it."""
    brain, mask = ball_brain(3, 64)
    inside = well_inside(brain, mask)
    for tissue, level in LEVELS.items():
        assert brain[inside[tissue]].mean() == pytest.approx(level, abs=0.006)
        assert brain[inside[tissue]].std() < 0.02  # noise is 0.01
    ratios = tissue_ratios(brain, inside)
    assert ratios["gray_white"] == pytest.approx(0.5 / 0.7, abs=0.005)
    assert ratios["csf_white"] == pytest.approx(0.2 / 0.7, abs=0.01)


def test_ratios_of_a_changed_image_follow_the_change() -> None:
    brain, mask = ball_brain(3, 64)
    ratios = tissue_ratios(brain**1.5, well_inside(brain, mask))
    assert ratios["gray_white"] == pytest.approx((0.5 / 0.7) ** 1.5, abs=0.006)


def test_csf_is_that_of_the_middle_and_gray_matter_that_of_the_rim() -> None:
    """Masks differ in how much outer CSF they keep; deep nuclei are brighter than the cortex."""
    brain, mask = ball_brain(3, 64)
    radius = np.sqrt(((np.indices(mask.shape) - 31.5) ** 2).sum(axis=0))
    inside = well_inside(brain, mask)
    assert radius[inside["csf"]].max() < 12
    assert radius[inside["gray"]].min() > 12


def test_a_brain_without_one_of_the_tissues_has_no_ratio_of_it() -> None:
    brain, mask = ball_brain(3, 48)
    nothing = np.zeros(mask.shape, bool)
    ratios = tissue_ratios(brain, {"csf": nothing, "gray": mask, "white": mask})
    assert np.isnan(ratios["csf_white"])
    assert ratios["gray_white"] == 1


def test_tissue_volumes_of_shells() -> None:
    brain, mask = ball_brain(0, 64)
    volumes = tissue_volumes(brain, mask, well_inside(brain, mask))
    assert sum(volumes.values()) == pytest.approx(mask.sum())
    nearest = np.abs(brain[mask][:, None] - np.array(list(LEVELS.values()))).argmin(axis=1)
    for number, tissue in enumerate(LEVELS):
        assert volumes[tissue] == pytest.approx((nearest == number).sum(), rel=0.03)  # levels are measured


def _table() -> pd.DataFrame:
    """Site means 0.6 and 0.8 raw, 0.65 and 0.75 by half; persons of a site 0.02 apart."""
    rows = []
    for site, level in (("A", 0.6), ("B", 0.8)):
        for number, offset in enumerate((-0.02, 0.0, 0.02)):
            for method, share in (("raw", 1.0), ("half", 0.5)):
                value = 0.7 + share * (level - 0.7) + offset
                about = {"site": site, "person": f"{site}{number}", "image": f"{number}", "method": method}
                rows.append({**about, "gray_white": value, "gray": 600.0 + number * (10 if site == "A" else 20)})
    return pd.DataFrame(rows)


def test_spread_between_and_within_sites() -> None:
    found = spread(_table(), "gray_white", "raw")
    assert found["raw"]["sites"] == pytest.approx({"A": 0.6, "B": 0.8})
    assert found["raw"]["between"] == pytest.approx(0.2 / np.sqrt(2))
    assert found["half"]["relative"] == pytest.approx(0.5)
    assert found["half"]["within"] == pytest.approx(0.02)
    low, high = found["raw"]["between_interval"]
    assert 0.16 / np.sqrt(2) <= low < 0.2 / np.sqrt(2) < high <= 0.24 / np.sqrt(2)  # no draw is beyond the extremes
    low, high = found["half"]["relative_interval"]
    assert low < 0.5 < high < 0.6  # the same persons are drawn for both


def test_a_person_counts_once_however_many_scans_there_are() -> None:
    table = _table()
    again = table[table.person == "A0"].assign(image="again")
    assert spread(pd.concat([table, again]), "gray_white", "raw") == spread(table, "gray_white", "raw")


def test_the_order_of_volumes() -> None:
    table = _table()
    swapped = (table.method == "half") & (table.site == "B")
    table.loc[swapped, "gray"] = table.loc[swapped, "gray"].to_numpy()[::-1]
    kept = order_kept(table, "gray")
    assert kept["raw"] == {"all": pytest.approx(1), "least_of_a_site": pytest.approx(1)}
    assert kept["half"]["least_of_a_site"] == pytest.approx(-1)
    assert kept["half"]["all"] < 0.9


def test_matching_and_nyul_reach_the_quantiles_that_they_are_given() -> None:
    brain, mask = ball_brain(1)
    other, there = ball_brain(2)
    target = quantiles(torch.from_numpy(other[there] ** 1.3)).numpy()
    matched = matching_to(brain, mask, target)
    own = quantiles(torch.from_numpy(brain[mask]))
    expected = match(torch.from_numpy(brain[mask])[None], own[None], torch.from_numpy(target)[None])[0]
    assert np.abs(matched[mask] - expected.numpy()).max() < 1e-3  # the histogram matching of the harmonizer
    moved = baselines.nyul_to(brain, mask, target[list(baselines.LANDMARKS)])
    assert np.percentile(moved[mask], 50) == pytest.approx(target[50], abs=1e-3)


@pytest.fixture
def two_sites(tmp_path: Path) -> Path:
    """Two sites that differ by a γ before and by nothing after; person 5 of each is a child."""
    quantile = quantiles(torch.from_numpy(np.concatenate([b[m] for b, m in (ball_brain(n, 32) for n in range(6))])))
    record = {"Harmonization": {"ReferenceQuantiles": quantile.tolist()}}
    for site, power in (("A", 1.0), ("B", 1.5)):
        folder = tmp_path / site
        for number in range(6):
            brain, mask = ball_brain(number + 10 * (site == "B"), size=32)
            stem = folder / f"sub-{number}" / "anat" / f"sub-{number}_space-T_res-1_"
            stem.parent.mkdir(parents=True)
            for name, data in (("preproc_T1w", brain**power), ("harmonized_T1w", brain), ("brain_mask", mask)):
                nib.Nifti1Image(data.astype(np.float32), np.eye(4)).to_filename(f"{stem}desc-{name}.nii.gz")
            Path(f"{stem}desc-harmonized_T1w.json").write_text(json.dumps(record))
        ages = "".join(f"sub-{number}\t{'n/a' if number == 0 else 60 - 11 * number}\n" for number in range(6))
        (folder / "participants.tsv").write_text("participant_id\tage\n" + ages)
    return tmp_path


def test_sites_before_and_after(two_sites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sites = two_sites / "out", [str(two_sites / "A"), str(two_sites / "B")]
    assert main(["sites", str(out), *sites]) == 0
    summary = json.loads((out / "sites.json").read_text())
    assert summary["accuracy"]["raw"] == 1
    assert summary["accuracy"]["harmonized"] <= 0.85  # 12 images: chance, give or take
    assert summary["probe"]["raw"]["accuracy"] > 0.9 > summary["probe"]["harmonized"]["accuracy"]
    contrast = summary["gray_white_contrast"]
    assert contrast["harmonized"]["A"]["mean"] == pytest.approx(contrast["harmonized"]["B"]["mean"], rel=0.1)
    assert contrast["raw"]["B"]["mean"] > 1.2 * contrast["raw"]["A"]["mean"]
    gray = summary["ratios"]["gray_white"]
    assert gray["raw"]["sites"] == pytest.approx({"A": 0.714, "B": 0.714**1.5}, abs=0.02)
    assert gray["harmonized"]["between"] < 0.1 * gray["raw"]["between"]
    assert gray["Nyúl"]["between"] < 0.5 * gray["raw"]["between"]  # the sites' persons are alike
    assert gray["raw"]["relative"] > 10
    assert gray["harmonized"]["relative"] == 1
    assert summary["volume_order"]["gray"]["raw"]["all"] == pytest.approx(1)
    printed = capsys.readouterr().out
    assert "between" in printed and "matching" in printed
    table = pd.read_csv(out / "sites.tsv", sep="\t")
    assert len(table) == 4 * 12
    assert main(["sites", str(out), sites[0]]) == 64
    assert main(["sites", str(out), sites[0], str(two_sites)[:-1]]) == 66


def test_children_are_left_out_and_persons_of_unknown_age_are_not(two_sites: Path) -> None:
    assert main(["sites", str(two_sites / "out"), str(two_sites / "A"), str(two_sites / "B"), "--min-age", "18"]) == 0
    table = pd.read_csv(two_sites / "out" / "sites.tsv", sep="\t")
    persons = {name.split("/")[1] for name in table.person}
    assert persons == {"sub-0", "sub-1", "sub-2", "sub-3"}  # of 60 - 11 n years; the first one's are not known


def test_bundles_harmonize_here_and_now(two_sites: Path, bundle_folder: Path) -> None:
    """Two copies of one bundle do the same, so they lie equally far apart; the reference may be scans."""
    for name in ("today", "variant"):
        shutil.copytree(bundle_folder, two_sites / name)
    words = ["sites", str(two_sites / "out"), str(two_sites / "A"), str(two_sites / "B"), "--model"]
    words += [str(two_sites / name) for name in ("today", "variant")]
    assert main(words) == 0
    gray = json.loads((two_sites / "out" / "sites.json").read_text())["ratios"]["gray_white"]
    assert set(gray) == {"raw", "matching", "Nyúl", "today", "variant"}
    assert gray["variant"]["relative"] == 1
    scan = two_sites / "A" / "sub-1" / "anat" / "sub-1_space-T_res-1_desc-preproc_T1w.nii.gz"
    assert main([*words, "--reference-scans", str(scan)]) == 0
    other = json.loads((two_sites / "out" / "sites.json").read_text())["ratios"]["gray_white"]
    brain = nib.load(scan).get_fdata()
    inside = well_inside(brain, brain > 0)
    assert other["matching"]["sites"]["B"] == pytest.approx(tissue_ratios(brain, inside)["gray_white"], abs=0.02)
    assert main([*words, "--reference-scans", str(two_sites / "none.nii.gz")]) == 66

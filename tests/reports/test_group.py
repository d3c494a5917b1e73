"""The group level on two tiny sites, and on what is too little to compare."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imunity_bids.bids.outputs import write_json
from imunity_bids.bids.tables import write_scans_table
from imunity_bids.cli.parser import parse
from imunity_bids.evaluation.real_sites import evaluate_sites
from imunity_bids.qc.brain import brain_of
from imunity_bids.qc.features import image_features
from imunity_bids.qc.measures import COLUMNS
from imunity_bids.reports import telling
from imunity_bids.reports.cohort import labels
from imunity_bids.reports.comparison import as_numbers, confounded
from imunity_bids.reports.group import write_group
from imunity_bids.reports.sentences import change_of, digits, headlines, warnings
from imunity_bids.settings import Settings
from imunity_bids.unlearning import probe
from tests.simulation.people import ball_brain

QUANTILES = [round(q, 5) for q in np.percentile(ball_brain(99, 32)[0][ball_brain(99, 32)[1]], range(101)).tolist()]
PERSONS = 6


def add_image(out: Path, person: str, seed: int, power: float) -> None:
    """A participant as the participant level leaves it: contrast changed by a power before, by nothing after."""
    brain, mask = ball_brain(seed, size=32)
    before = (brain**power).astype(np.float32)
    anat = out / person / "anat"
    anat.mkdir(parents=True)
    stem = f"{anat}/{person}_space-T_res-1_desc-"
    for name, data in (("preproc_T1w", before), ("harmonized_T1w", brain), ("brain_mask", mask)):
        nib.Nifti1Image(data.astype(np.float32), np.eye(4)).to_filename(f"{stem}{name}.nii.gz")
    quality = {"verdict": "ok", "reason": "", "brain_volume_ml": 1400.0 + seed, "clipped": 0.001 * seed}
    if seed == 5:
        del quality["clipped"]
    record = {"QualityControl": quality, "Harmonization": {"ReferenceQuantiles": QUANTILES}}
    write_json(Path(f"{stem}harmonized_T1w.json"), record)
    features = image_features(brain_of(before, brain, mask), np.array(QUANTILES))
    write_json(Path(f"{stem}harmonized_features.json"), features)
    write_scans_table(anat, person, COLUMNS)


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sites A and B as folders of their own, and pooled in `out`; B is older, sexes are balanced."""
    folder = tmp_path_factory.mktemp("sites")
    rows = []
    for site, power in (("A", 1.0), ("B", 1.5)):
        for number in range(PERSONS):
            seed = number + 10 * (site == "B")
            add_image(folder / site, f"sub-{seed}", seed, power)
            rows.append(f"sub-{seed}\t{site}\t{20 + seed}\t{'MF'[number % 2]}\t{['low', 'high'][number % 2]}\n")
    for site in "AB":
        shutil.copytree(folder / site, folder / "out", dirs_exist_ok=True)
    (folder / "bids").mkdir()
    table = "participant_id\tsite\tage\tgender\tdose\n" + "".join(rows)
    (folder / "out" / "participants.tsv").write_text(table)
    return folder


@pytest.fixture(scope="module")
def report(two_sites: Path) -> Path:
    """The group level ran."""
    settings = parse([str(two_sites / "bids"), str(two_sites / "out"), "group", "--keep", "dose", "lost"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telling, "SEEDS", 1)  # seconds
        write_group(replace(settings, nprocs=1))
    return two_sites / "out"


@pytest.fixture(scope="module")
def told(report: Path) -> dict:
    return json.loads((report / "sites.json").read_text())["Comparison"]


def test_the_numbers_are_those_of_the_judge(two_sites: Path, told: dict) -> None:
    """The same derivatives, by `imunity-evaluate sites` from the voxels and by the group level from what is stored."""
    judged = evaluate_sites([two_sites / "A", two_sites / "B"], two_sites / "judged")
    for ratio in ("gray_white", "csf_white"):
        for method, name in (("before", "raw"), ("matching", "matching"), ("after", "harmonized")):
            mine, theirs = told["contrast"][ratio][method], judged["ratios"][ratio][name]
            for number in ("between", "within", "sites"):
                assert mine[number] == pytest.approx(theirs[number], rel=1e-9), (ratio, method, number)
            assert mine["between_interval"] == pytest.approx(theirs["between_interval"], rel=1e-9)
        assert told["contrast"][ratio]["before"]["relative"] == 1
    assert told["contrast"]["gray_white"]["after"]["relative"] < 0.1  # nothing but persons differs after


def test_probes_tell_the_site_before_and_not_after(told: dict) -> None:
    probes = {row["name"]: row for row in told["probes"]}
    assert list(probes) == [
        "before", "matching", "after", "blurred", "histogram before", "mask shape", "age, sex, volumes",
    ]  # fmt: skip
    assert probes["before"]["accuracy"] > 0.9
    assert probes["histogram before"]["accuracy"] > 0.9
    assert probes["after"]["accuracy"] <= 0.85  # 12 images: chance, give or take
    assert probes["mask shape"]["accuracy"] <= 0.85
    assert probes["before"]["chance"] == 0.5
    assert [row["role"] for row in told["probes"]].count("floor") == 2


def test_tables_of_images_and_sites(report: Path) -> None:
    images = pd.read_csv(report / "group.tsv", sep="\t")
    assert len(images) == 2 * PERSONS
    assert set(COLUMNS) < set(images.columns)
    assert images.site.tolist().count("A") == PERSONS
    assert images.loc[images.site == "A", "gray_white_before"].mean() == pytest.approx(0.714, abs=0.02)
    assert images.loc[images.site == "B", "gray_white_before"].mean() == pytest.approx(0.714**1.5, abs=0.02)
    assert images.loc[images.site == "B", "gray_white_after"].mean() == pytest.approx(0.714, abs=0.02)
    by_site = pd.read_csv(report / "sites.tsv", sep="\t").set_index("site")
    assert by_site.loc["B", ["images", "persons", "female", "male", "ok"]].tolist() == [6, 6, 3, 3, 6]
    assert by_site.loc["B", ["age_mean", "age_min", "age_max"]].tolist() == [32.5, 30, 35]
    assert by_site.loc["A", "brain_volume_ml"] == 1402.5  # the median
    for name in ("group", "sites"):
        described = json.loads((report / f"{name}.json").read_text())
        assert set(pd.read_csv(report / f"{name}.tsv", sep="\t").columns) <= set(described)


def test_biology_and_what_cannot_be_told_apart(told: dict) -> None:
    columns = {row["column"] for row in told["biology"]}
    assert columns == {"age", "sex", "dose", "age, permuted"}
    for row in told["biology"]:
        assert row["methods"]["before"]["persons"] == 12
    assert told["confounded"] == [{"covariate": "age", "sites": ["A", "B"], "delta": -1.0}]
    assert "participants.tsv has no column lost (--keep)." in told["unsaid"]
    assert warnings(told)[0].startswith("Age hardly overlaps between A and B")


def test_the_page_is_whole_and_readable(report: Path) -> None:
    page = (report / "group.html").read_text()
    assert not re.search(r"(src|href)=\"https?:", page)
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.S)
    assert not re.search(r"\bnan\b", page, flags=re.I)
    assert max(len(word) for word in text.split()) < 50  # no file names
    assert '<a href="sub-3.html#sub-3">' in page
    assert "<title>3 (A): " in page
    assert page.count("not measured in this image") == 1  # the dash of the one that is missing
    assert page.count("data:image/svg+xml") == 2


def group(settings: Settings) -> dict:
    write_group(settings)
    return json.loads((settings.output_dir / "sites.json").read_text())["Comparison"]


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FEWEST", 99)  # no site has that many


def test_one_site_is_no_comparison(tmp_path: Path) -> None:
    for seed in range(3):
        add_image(tmp_path / "out", f"sub-{seed}", seed, 1.0)
    (tmp_path / "my study").mkdir()
    found = group(Settings(tmp_path / "my study", tmp_path / "out"))
    assert found["contrast"] == {} and found["confounded"] == []
    assert all("two sites" in row["reason"] for row in found["probes"])
    assert found["site_from"].startswith("the dataset: participants.tsv has no column site")
    assert any("two sites with 2 persons" in said for said in found["unsaid"])
    page = (tmp_path / "out" / "group.html").read_text()
    assert "3 images of 3 persons, 1 site<" in page
    assert "my study" in page


def test_images_without_features_are_in_the_list(two_sites: Path, tmp_path: Path, no_probe: Callable) -> None:
    shutil.copytree(two_sites / "out", tmp_path / "out")
    for path in tmp_path.glob("out/sub-*/anat/*_features.json"):
        path.unlink()
    found = group(Settings(tmp_path, tmp_path / "out"))
    assert any(said.startswith("12 of 12 images have no stored features") for said in found["unsaid"])
    assert found["probes"] == found["biology"] == []
    assert len(pd.read_csv(tmp_path / "out" / "group.tsv", sep="\t")) == 12


def test_sites_from_scanners_and_of_some_persons(two_sites: Path, tmp_path: Path, no_probe: Callable) -> None:
    shutil.copytree(two_sites / "out", tmp_path / "out")
    settings = Settings(tmp_path / "bids", tmp_path / "out", site_column="centre")
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "T1w.json").write_text('{"Manufacturer": "GE"}')
    for number in (10, 11):
        anat = tmp_path / "bids" / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        (anat / f"sub-{number}_T1w.json").write_text('{"Manufacturer": "Philips", "MagneticFieldStrength": 1.5}')
    assert group(settings)["site_from"].startswith("scanner in the sidecars")
    assert pd.read_csv(tmp_path / "out" / "sites.tsv", sep="\t").images.tolist() == [10, 2]
    centres = "".join(f"sub-{number}\t{'X' if number else 'n/a'}\n" for number in range(4))
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\tcentre\n" + centres)
    found = group(settings)  # the dataset's table completes that of the output
    assert found["site_from"] == "column centre of participants.tsv"
    assert "9 images have no site and are in no comparison." in found["unsaid"]


def test_labels_say_what_differs() -> None:
    names = ["sub-1_ses-a_acq-x_space-T", "sub-1_ses-b_acq-x_space-T", "sub-2_acq-x_space-T"]
    assert labels(names) == ["1 ses-a", "1 ses-b", "2"]


def test_columns_as_numbers() -> None:
    assert as_numbers(pd.Series(["3", "n/a", "5.5"])).tolist() == pytest.approx([3, np.nan, 5.5], nan_ok=True)
    assert as_numbers(pd.Series(["no", "yes", ""])).tolist() == pytest.approx([0, 1, np.nan], nan_ok=True)
    assert as_numbers(pd.Series(["a", "b", "c"])) is None


def test_sexes_that_do_not_overlap_are_named() -> None:
    images = pd.DataFrame({"site": list("AAABBB"), "participant_id": list("123456"), "age": [np.nan] * 6})
    assert [row["covariate"] for row in confounded(images.assign(sex=list("FFFMMM")))] == ["sex"]
    assert confounded(images.assign(sex=list("FFMMMF"))) == []


def test_what_became_of_an_association() -> None:
    intervals = {
        "there": (0.3, 0.2, 0.4),
        "gone": (0.0, -0.1, 0.1),
        "turned": (-0.3, -0.4, -0.2),
        "weak": (0.25, 0.0, 0.5),
    }
    shown = {name: dict(zip(("r", "low", "high"), values, strict=True)) for name, values in intervals.items()}
    for before, after, word in (
        ("there", "there", "kept"), ("there", "gone", "lost"), ("gone", "there", "new"), ("gone", "gone", "none"),
        ("there", "turned", "reversed"), ("there", "weak", "unclear"), ("weak", "there", "unclear"),
    ):  # fmt: skip
        assert change_of({"before": shown[before], "after": shown[after]}) == word


def test_biology_in_a_sentence() -> None:
    def row(column: str, tissue: str, before: float, after: float) -> dict:
        methods = {"before": before, "after": after, "matching": 0.05}
        return {
            "column": column,
            "tissue": tissue,
            "methods": {name: {"r": r, "low": r - 0.2, "high": r + 0.2} for name, r in methods.items()},
        }

    rows = [row("age", "gray", -0.61, -0.5), row("sex", "csf", 0.1, 0.1), row("age, permuted", "gray", 0.4, 0.4)]
    told = headlines({"contrast": {}, "probes": [], "biology": rows})
    assert told == [
        "What goes with the volume of a tissue (rank correlation within sites): age with gray matter -0.61 before, "
        "-0.50 after (kept), 0.05 after plain histogram matching."
    ]
    assert headlines({"contrast": {}, "probes": [], "biology": rows[1:]}) == [
        "Whether biology is kept cannot be seen here: volumes of tissues go with none of sex."
    ]


def test_digits() -> None:
    assert [digits(x) for x in (1420.7, 99.96, 0.012345, 12345)] == ["1 421", "100", "0.0123", "12 345"]

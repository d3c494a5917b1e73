"""References are ranked by what a user can act on, from stored numbers alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imunity_bids.bids.outputs import write_json
from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation.references import COLUMNS, CONTRAST, LEVELS, ranks


def scan(person: str, site: str, level: float, contrast: float, **changes: object) -> dict[str, object]:
    """A scan whose quantiles all lie at one level and whose ratios are one number."""
    return {
        "dataset": "d", "site": site, "person": person, "reference": person, "verdict": "ok", "noise": 0.01,
        "clipped": 0.0, **dict.fromkeys(LEVELS, level), **dict.fromkeys(CONTRAST, contrast), **changes,
    }  # fmt: skip


@pytest.fixture
def scans() -> pd.DataFrame:
    """Site A around 0.50, site B around 0.60; the last of B is the odd one out."""
    levels = {"a1": ("A", 0.48), "a2": ("A", 0.50), "a3": ("A", 0.52), "b1": ("B", 0.60), "b2": ("B", 0.62)}
    return pd.DataFrame(
        [scan(name, site, level, level) for name, (site, level) in levels.items()] + [scan("b3", "B", 0.9, 0.9)]
    )


def by_name(ranked: pd.DataFrame) -> pd.DataFrame:
    return ranked.set_index("reference")


def test_distances_are_those_of_the_other_persons_each_site_counting_once(scans: pd.DataFrame) -> None:
    found = by_name(ranks(scans))
    # a2 to a1 and a3: 0.02 on average; to b1, b2 and b3: 0.10, 0.12 and 0.40
    assert found.histogram_move["a2"] == pytest.approx((0.02 + 0.62 / 3) / 2)
    assert found.histogram_move_most["a2"] == pytest.approx(0.40)
    assert found.contrast_from_site["a3"] == pytest.approx(0.02)  # the median of A is 0.50
    assert found.contrast_from_pool["a3"] == pytest.approx(0.04)  # medians of the sites: 0.50 and 0.62
    assert found.histogram_move["site:A"] == pytest.approx((0.04 / 3 + 0.62 / 3) / 2)
    assert found.loc["site:A", [*CONTRAST]].tolist() == pytest.approx([0.5, 0.5])


def test_who_is_alone_at_a_site_is_not_typical_of_it(scans: pd.DataFrame) -> None:
    alone = pd.concat([scans, pd.DataFrame([scan("c1", "C", 0.55, 0.55)])])
    found = by_name(ranks(alone))
    assert np.isnan(found.contrast_from_site["c1"])
    assert "site:C" not in found.index
    assert found.score.notna().all()


def test_what_is_odd_noisy_or_not_ok_comes_last(scans: pd.DataFrame) -> None:
    found = by_name(ranks(scans))
    assert found.index[0] in ("a2", "a3", "site:A")
    assert found["rank"]["b3"] == len(found)
    assert by_name(ranks(scans.assign(noise=[0.01, 0.01, 0.05, 0.01, 0.01, 0.01])))["rank"]["a3"] > found["rank"]["a3"]
    bad = by_name(ranks(scans.assign(verdict=["ok", "check", "ok", "ok", "failed", "ok"])))
    assert bad.index[-1] in ("b2", "site:B")
    assert set(bad.index[-4:]) == {"a2", "site:A", "b2", "site:B"}  # a mean is as good as the worst scan in it


def test_the_mean_of_a_site_takes_a_scan_each_of_its_first_persons() -> None:
    rows = [scan(f"p{number:02d}", "A", 0.5 + number / 100, 0.5) for number in range(12)]
    rows.append(scan("p00", "A", 0.9, 0.5, reference="p00_ses-2"))
    found = by_name(ranks(pd.DataFrame(rows))).loc["site:A"]
    assert found.scans == 10
    # the first ten: 0.500 to 0.590, mean 0.545; the first person's second scan is not in it, but has to move
    assert found.histogram_move == pytest.approx(np.mean([abs(row[LEVELS[0]] - 0.545) for row in rows]))


def store(folder: Path, stem: str, level: float, noise: float | None = 0.01) -> None:
    anat = folder / stem.split("_")[0] / "anat"
    name = f"{stem}_space-T_res-1_desc-harmonized"
    before = {"Ratios": dict.fromkeys(CONTRAST, level), "Intensities": dict.fromkeys(LEVELS, level)}
    write_json(anat / f"{name}_features.json", {"Images": {"before": before}})
    quality = {"verdict": "ok", "clipped": 0.0} | ({} if noise is None else {"noise_before": noise})
    write_json(anat / f"{name}_T1w.json", {"QualityControl": quality})


def test_the_command_writes_a_table_numbers_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    raw, folder = tmp_path / "raw", tmp_path / "derived"
    raw.mkdir()
    (raw / "participants.tsv").write_text("participant_id\tcentre\nsub-1\tA\nsub-2\tA\nsub-3\tB\nsub-4\tB\n")
    write_json(folder / "dataset_description.json", {"DatasetLinks": {"raw": raw.as_uri()}})
    for stem, level in {"sub-1": 0.5, "sub-2": 0.52, "sub-3_run-2": 0.6}.items():
        store(folder, stem, level)
    store(folder, "sub-4", 0.6, noise=None)
    output = tmp_path / "ranked"
    assert main(["references", str(output), str(folder), "--site-column", "centre"]) == 0
    assert "site:A" in capsys.readouterr().out
    assert "1 of 4 scans lack" in caplog.text
    table = pd.read_csv(output / "references.tsv", sep="\t")
    assert table.columns.tolist() == [*COLUMNS, *CONTRAST]
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert set(table.reference) == {"sub-1", "sub-2", "site:A", f"{raw}/sub-3/anat/sub-3_run-2_T1w.nii.gz"}
    assert (table.best_rank <= table["rank"]).all()
    told = json.loads((output / "references.json").read_text())
    assert told["SiteFrom"] == {str(folder): "column centre of participants.tsv"}
    assert told["Candidates"][0]["reference"] == table.reference[0]
    assert (output / "references.png").stat().st_size > 5000


def test_nothing_to_choose_from(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["references", str(tmp_path / "o"), str(tmp_path / "empty")]) == 66
    assert "run the participant level first" in capsys.readouterr().err
    for stem in ("sub-1", "sub-2"):
        store(tmp_path / "few", stem, 0.5)
    assert main(["references", str(tmp_path / "o"), str(tmp_path / "few")]) == 65
    assert "2 persons" in capsys.readouterr().err

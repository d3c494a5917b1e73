"""Pages of participants and of the group: what a person reads when all went well, and when it did not."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pandas as pd
import pytest

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.tables import write_scans_table
from imunity_bids.errors import NothingSelected
from imunity_bids.plan.crash import Failure, read_crash, write_crash
from imunity_bids.plan.plan import Plan
from imunity_bids.plan.requests import ReferenceRequest
from imunity_bids.qc.measures import COLUMNS
from imunity_bids.reports import participant
from imunity_bids.reports.group import write_group
from imunity_bids.reports.methods import citation
from imunity_bids.reports.sites import outliers
from imunity_bids.settings import Settings


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    images = tuple(
        T1w.from_path(tmp_path / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz", tmp_path) for name in ("1", "<2>")
    )
    settings = Settings(tmp_path, tmp_path / "out", nprocs=1)
    card = {"name": "tiny", "version": "3", "status": "not for use"}
    return Plan(settings, images, (), (ReferenceRequest("default", "bundle", "aa"),), tmp_path, card, "X", {})


def test_a_failure_is_told_with_step_code_and_reason(plan: Plan) -> None:
    image = plan.images[0]
    failure = Failure(image, 65, "Conform", "every voxel is <zero>")
    page = participant.write_report(plan, (image,), {image.stem: failure}, "What was done.").read_text()
    assert "failed in step Conform with code 65" in page
    assert "every voxel is &lt;zero&gt;" in page
    assert "not for use" in page
    assert "What was done." in page
    assert "<img" not in page


def test_names_are_escaped(plan: Plan) -> None:
    page = participant.write_report(plan, plan.images[1:], {}, "").read_text()
    assert "sub-&lt;2&gt;" in page
    assert "<2>" not in page
    assert "no result" in page


def test_a_page_that_fails_is_named_and_the_others_are_written(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    section = participant.section

    def broken(plan: Plan, image: T1w, failure: Failure | None) -> dict:
        if image.subject == "1":
            raise RuntimeError("out of ink")
        return section(plan, image, failure)

    monkeypatch.setattr(participant, "section", broken)
    assert participant.write_reports(plan, list(plan.images), {}, "") == ["sub-1"]
    assert "out of ink" in caplog.text
    assert (plan.settings.output_dir / "sub-<2>.html").is_file()


def test_a_full_disk_is_not_the_trouble_of_one_page(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(participant, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        participant.write_reports(plan, list(plan.images), {}, "")


def test_a_crash_file_holds_one_line_for_the_app_and_the_traceback(tmp_path: Path) -> None:
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        write_crash(tmp_path / "crash.txt", "Conform", error)
    assert read_crash(tmp_path / "crash.txt") == {
        "code": 74, "step": "Conform", "message": "OSError: [Errno 28] No space left on device",
    }  # fmt: skip
    assert "Traceback (most recent call last)" in (tmp_path / "crash.txt").read_text()


def table(out: Path, subject: str, clipped: float, reason: str = "") -> None:
    anat = out / f"sub-{subject}" / "anat"
    anat.mkdir(parents=True)
    stem = anat / f"sub-{subject}_space-X_res-1_desc-harmonized_T1w"
    stem.with_suffix(".nii.gz").touch()
    quality = {"verdict": "check" if reason else "ok", "reason": reason, "clipped": clipped}
    stem.with_suffix(".json").write_text(json.dumps({"QualityControl": quality}))
    write_scans_table(anat, f"sub-{subject}", COLUMNS)


def test_outliers_of_four_and_of_three_images(tmp_path: Path) -> None:
    assert outliers(pd.DataFrame({"clipped": [0.010, 0.011, 0.012, 0.013, 0.5]})).clipped.tolist() == [False] * 4 + [
        True
    ]
    assert not outliers(pd.DataFrame({"clipped": [0.0, 0.0, 9.0]})).to_numpy().any()
    with pytest.raises(NothingSelected, match="run the participant level first"):
        write_group(Settings(tmp_path, tmp_path))


def test_an_image_without_its_mark_is_in_no_table(tmp_path: Path) -> None:
    table(tmp_path, "1", 0.01)
    sidecar = next(tmp_path.glob("sub-1/anat/*.json"))
    sidecar.unlink()
    (tmp_path / "sub-1" / "sub-1_scans.tsv").unlink()
    write_scans_table(sidecar.parent, "sub-1", COLUMNS)
    assert not (tmp_path / "sub-1" / "sub-1_scans.tsv").exists()


def test_papers_are_cited_where_their_method_is_named() -> None:
    text = citation("The brain was extracted with SynthStrip; N4 corrected the field.")
    assert "Hoopes" in text and "Cackowski" in text and "N4ITK" in text
    assert "Shinohara" not in text
    assert "Hoopes" not in citation("N4 corrected the field.")


def test_papers_of_the_field_are_cited_where_it_ran() -> None:
    text = citation("Corrected by a smooth field (after Dawant et al. 1993 and Wells et al. 1996).")
    assert "computer-aided tissue classification" in text and "Adaptive segmentation" in text
    assert "Dawant" not in citation("N4 corrected the field.")
    assert "spatially varying noise" in citation("Denoised (Manjon et al. 2010).")

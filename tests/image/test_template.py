from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.errors import InputMissing, TryAgain, Usage
from imunity_bids.image.template import BUILT_IN, load_template


def test_the_built_in_template_is_a_brain_at_1_mm() -> None:
    template = load_template(BUILT_IN)
    assert template.label == BUILT_IN
    assert template.mask.sum() / 1e6 == pytest.approx(1.88, abs=0.05)  # litres; ICBM brains are large
    np.testing.assert_allclose(template.brain.header.get_zooms(), 1)
    assert (np.asarray(template.brain.dataobj)[~template.mask] == 0).all()


def test_a_cohort_must_be_written_as_such() -> None:
    with pytest.raises(Usage, match="cohort"):
        load_template("MNIPediatricAsym:2")


def ask(home: Path, name: str) -> str:
    """In a process of its own, since TemplateFlow reads its home at import; no network is reachable."""
    code = (
        "import sys\nfrom imunity_bids.image.template import load_template\n"
        "from imunity_bids.errors import ImunityError\n"
        "try: t = load_template(sys.argv[1]); print(t.label, t.brain.shape)\n"
        "except ImunityError as e: print(e.code, e)"
    )
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "NO_PROXY": "", "no_proxy": "", "TEMPLATEFLOW_HOME": str(home)}
    return subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, env=environment).stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """TemplateFlow's folder as its skeleton makes it: files of a template that is there, empty ones of another."""
    for name, content in {
        "tpl-Own/tpl-Own_res-1_desc-brain_mask.nii.gz": True,
        "tpl-Own/tpl-Own_res-1_desc-brain_T1w.nii.gz": True,
        "tpl-Far/tpl-Far_res-1_desc-brain_mask.nii.gz": False,
        "tpl-Far/tpl-Far_res-1_T1w.nii.gz": False,
        "tpl-Kids/cohort-1/tpl-Kids_cohort-1_res-1_desc-brain_mask.nii.gz": True,
        "tpl-Kids/cohort-2/tpl-Kids_cohort-2_res-1_desc-brain_mask.nii.gz": True,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if content:
            nib.Nifti1Image(np.ones((9, 10, 11), np.uint8), np.eye(4)).to_filename(path)
    return tmp_path


def test_a_template_in_the_cache_needs_no_network(home: Path) -> None:
    assert ask(home, "Own") == "Own (9, 10, 11)\n"


def test_a_template_that_does_not_exist_is_code_66(home: Path) -> None:
    answer = ask(home, "nonsense")
    assert answer.startswith(f"{InputMissing.code} template nonsense is not in TemplateFlow's cache")
    assert "TEMPLATEFLOW_HOME" in answer
    assert BUILT_IN in answer


def test_a_download_that_fails_is_code_75(home: Path) -> None:
    answer = ask(home, "Far")
    assert answer.startswith(f"{TryAgain.code} template Far is not in the cache and could not be fetched")
    assert "TEMPLATEFLOW_HOME" in answer
    assert BUILT_IN in answer


def test_a_template_of_several_cohorts_needs_one_named(home: Path) -> None:
    answer = ask(home, "Kids")
    assert answer.startswith(f"{Usage.code} template Kids comes in several cohorts")
    assert "Kids:cohort-N" in answer


def test_the_default_template_from_a_copied_cache(data: Path, tmp_path: Path) -> None:
    for source in (data / "templateflow").rglob("*.nii.gz"):
        target = tmp_path / source.relative_to(data / "templateflow")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    assert ask(tmp_path, "MNI152NLin2009cAsym") == "MNI152NLin2009cAsym (193, 229, 193)\n"

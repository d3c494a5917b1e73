from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imunity_bids.errors import Usage
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
    """In a process of its own, since TemplateFlow reads its home at import."""
    code = (
        "import sys\nfrom imunity_bids.image.template import load_template\n"
        "from imunity_bids.errors import ImunityError\n"
        "try: t = load_template(sys.argv[1]); print(t.label, t.brain.shape)\n"
        "except ImunityError as e: print(e.code, e)"
    )
    environment = {**os.environ, "TEMPLATEFLOW_HOME": str(home)}
    return subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, env=environment).stdout


def test_templateflow_offline(data: Path, tmp_path: Path) -> None:
    for source in (data / "templateflow").rglob("*.nii.gz"):
        target = tmp_path / source.relative_to(data / "templateflow")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    assert ask(tmp_path, "MNI152NLin2009cAsym") == "MNI152NLin2009cAsym (193, 229, 193)\n"
    for name in ("MNIPediatricAsym:cohort-2", "nonsense"):
        answer = ask(tmp_path, name)
        assert answer[:2] in ("66", "75")
        assert "TEMPLATEFLOW_HOME" in answer
        assert BUILT_IN in answer

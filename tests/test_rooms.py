"""DESIGN, section 2: imports run one way, down the list of rooms; no file is too long; `evaluation` is a leaf."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "imunity_bids"
ROOMS = (
    *("cli", "run", "workflows", "interfaces", "reports", "plan", "evaluation", "training", "unlearning"),
    *(
        "simulation",
        "qc",
        "harmonize",
        "image",
        "models",
        "metrics",
        "bids",
        "settings",
        "hashes",
        "parallel",
        "errors",
    ),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "imunity_bids":
            tail = node.module.split(".")[1:]
            yield from [".".join(tail)] if len(tail) > 1 else [".".join([*tail, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.startswith("imunity_bids."))


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_runs_back_up(path: Path) -> None:
    own = room(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    if own == "__init__":
        return
    for module in imports(path):
        if room(module) != "version":  # of the package itself
            assert ROOMS.index(room(module)) >= ROOMS.index(own), f"{own} imports {module}"
            assert room(module) != "evaluation" or own in ("evaluation", "cli"), f"{own} imports {module}"


def test_no_circle_between_files() -> None:
    """Within a room, too."""
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): set(imports(path)) for path in FILES}
    waiting = {name: {target for target in targets if target in modules} for name, targets in modules.items()}
    while ready := [name for name, targets in waiting.items() if not targets]:
        for name in ready:
            del waiting[name]
        for targets in waiting.values():
            targets -= set(ready)
    assert not waiting, f"in a circle: {sorted(waiting)}"


def test_no_file_is_two_rooms() -> None:
    long = {str(path): count for path in FILES if (count := len(path.read_text(encoding="utf-8").splitlines())) > 350}
    assert not long


def test_a_dry_run_needs_no_torch(tmp_path: Path) -> None:
    """So that --dry-run, imunity-slurm and the check of an array answer at once."""
    scan = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    words = [
        str(tmp_path / "bids"),
        str(tmp_path / "out"),
        "participant",
        "--dry-run",
        "--template",
        "MNI152NLin2009aSym",
    ]
    code = f"import sys; from imunity_bids.cli.run import main; print(main({words}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "run   " in done.stdout

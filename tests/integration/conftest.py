"""Datasets of simulated heads of 3 mm voxels, and the app with a template of 3 mm: seconds, through every step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.cli.run import main
from imunity_bids.simulation.demo import Scanner, scan, template_head

SMALL = "Small"  # the built-in template at 3 mm, on request at 6: an eighth of the time, the same steps
HARMONIZED = f"_space-{SMALL}_res-1_desc-harmonized_T1w"
STRIPPED = Scanner("S", (0.62, 0.95, 0.22, 0.0, 0.0, 0.0, 0.0), 0.2, (3.0, 3.0, 3.0), 0.0, 500.0)
WHOLE = Scanner("W", (0.62, 0.95, 0.22, 0.05, 1.10, 0.45, 0.20), 0.2, (3.0, 3.0, 3.0), 0.02, 500.0)
SMALLER = 0.93  # the template's brain is larger than most: 1.7 L instead of 2.1


@pytest.fixture(scope="session", autouse=True)
def small_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A TemplateFlow folder with the one template `SMALL`; TemplateFlow reads where it is when it is imported."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    home = tmp_path_factory.mktemp("templateflow")
    folder = home / f"tpl-{SMALL}"
    folder.mkdir()
    load_mni152_template(resolution=3).to_filename(folder / f"tpl-{SMALL}_res-1_desc-brain_T1w.nii.gz")
    for index, mm in ((1, 3), (2, 6)):
        mask = load_mni152_brain_mask(resolution=mm)
        mask.to_filename(folder / f"tpl-{SMALL}_res-{index}_desc-brain_mask.nii.gz")
    forget_templateflow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLATEFLOW_HOME", str(home))
        yield home
    forget_templateflow()


def forget_templateflow() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "templateflow"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def head_maps() -> tuple[np.ndarray, np.ndarray]:
    """Tissues of a whole head at 1 mm, and the affine."""
    return template_head()


def seen_by(
    scanner: Scanner, maps: tuple[np.ndarray, np.ndarray], scale: float = SMALLER, seed: int = 0
) -> nib.Nifti1Image:
    """What a scanner makes of a head, `scale` times as large."""
    data, affine = scan(*maps, scanner, np.random.default_rng(seed))
    return nib.Nifti1Image(data, np.diag([scale, scale, scale, 1.0]) @ affine)


@pytest.fixture(scope="session")
def small_brain(head_maps: tuple[np.ndarray, np.ndarray]) -> nib.Nifti1Image:
    """A brain without skull."""
    return seen_by(STRIPPED, head_maps)


@pytest.fixture(scope="session")
def small_head(head_maps: tuple[np.ndarray, np.ndarray]) -> nib.Nifti1Image:
    """A whole head."""
    return seen_by(WHOLE, head_maps)


@pytest.fixture(scope="session")
def make_bids(small_brain: nib.Nifti1Image) -> Callable[[Path, dict[str, float]], Path]:
    """Write a dataset with one image per name, its intensities to the power of the number."""

    def make(folder: Path, images: dict[str, float]) -> Path:
        for name, gamma in images.items():
            write(folder, name, with_gamma(small_brain, gamma))
        describe(folder)
        return folder

    return make


def with_gamma(image: nib.Nifti1Image, gamma: float) -> nib.Nifti1Image:
    data = np.asarray(image.dataobj, dtype=np.float32) / 500
    return nib.Nifti1Image((500 * data**gamma).astype(np.int16), image.affine)


def write(folder: Path, name: str, image: nib.Nifti1Image | bytes, extension: str = ".nii.gz") -> Path:
    """An image, or what is none, under its BIDS name."""
    session = next((part for part in name.split("_") if part.startswith("ses-")), "")
    path = folder / name.split("_")[0] / session / "anat" / f"{name}_T1w{extension}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.to_filename(path)
    return path


def describe(folder: Path) -> None:
    content = {"Name": "test", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(content))


def fixed(bundle: Path) -> list[str]:
    """Options that all runs share; one process, since starting others takes longer than a small brain."""
    return ["--model", str(bundle), "--template", SMALL, "--skull-strip", "none", "--nprocs", "1"]


@pytest.fixture(scope="session")
def imunity(bundle_folder: Path) -> Callable[..., int]:
    """Run the app in this process with the tiny bundle and the small template; later options win."""

    def run(dataset: Path, out: Path, *options: object) -> int:
        return main([str(a) for a in (dataset, out, "participant", *fixed(bundle_folder), *options)])

    return run


@pytest.fixture(scope="session")
def command(bundle_folder: Path) -> Callable[..., list[str]]:
    """The same as words of a command line, for a process of its own."""

    def words(dataset: Path, out: Path, *options: object) -> list[str]:
        call = (sys.executable, "-m", "imunity_bids.cli.run", dataset, out, "participant", *fixed(bundle_folder))
        return [str(word) for word in (*call, *options)]

    return words


def sidecar(out: Path, name: str, description: str = "harmonized") -> Path:
    """Sidecar of a harmonized image, by the stem of its source."""
    session = next((part for part in name.split("_") if part.startswith("ses-")), "")
    anat = out / name.split("_")[0] / session / "anat"
    return anat / f"{name}{HARMONIZED.replace('harmonized', description)}.json"


def told(out: Path, name: str, description: str = "harmonized") -> dict:
    """What that sidecar says."""
    return json.loads(sidecar(out, name, description).read_text())


def voxels(out: Path, name: str, description: str = "harmonized") -> np.ndarray:
    """Voxels of that image."""
    return nib.load(sidecar(out, name, description).with_suffix(".nii.gz")).get_fdata(dtype=np.float32)


@contextmanager
def mounted(target: Path, *options: str) -> Iterator[bool]:
    """`mount OPTIONS… TARGET`, undone afterwards; False where that is not allowed."""
    done = subprocess.run(["mount", *options, str(target)], capture_output=True) if os.geteuid() == 0 else None
    allowed = done is not None and done.returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "--lazy", str(target)], check=True)

"""What all interfaces share: an error leaves its traceback and one clear line, then stops its image only."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, traits

from imunity_bids.bids.outputs import write_text
from imunity_bids.errors import DiskError, ImunityError


class Inputs(BaseInterfaceInputSpec):
    """Where a failure is described; takes no part in the node's hash."""

    crash_file = traits.Str("", nohash=True, desc="crash file of this image and run")
    threads = traits.Int(1, usedefault=True, desc="threads for torch; part of the hash, since sums depend on it")


class Interface(SimpleInterface):
    """A step of the workflow: subclasses implement `work`."""

    def work(self, folder: Path) -> dict[str, Any]:
        """Do it in `folder`; returns the outputs."""
        raise NotImplementedError

    def _run_interface(self, runtime: Any) -> Any:
        import torch

        torch.set_num_threads(self.inputs.threads)
        try:
            self._results.update(self.work(Path(runtime.cwd)))
        except Exception as error:
            if self.inputs.crash_file:
                write_crash(Path(self.inputs.crash_file), type(self).__name__, error)
            raise
        return runtime


def write_crash(path: Path, step: str, error: Exception) -> None:
    """First line: a JSON object with code, step and message; below it the traceback."""
    code = error.code if isinstance(error, ImunityError) else DiskError.code if isinstance(error, OSError) else 1
    message = str(error) if isinstance(error, ImunityError) else f"{type(error).__name__}: {error}"
    first = json.dumps({"code": code, "step": step, "message": message}, ensure_ascii=False)
    write_text(path, f"{first}\n\n{''.join(traceback.format_exception(error))}")  # whole or, on a full disk, not at all


def read_crash(path: Path) -> dict[str, Any]:
    """The first line of a crash file."""
    return json.loads(path.read_text(encoding="utf-8").partition("\n")[0])


def load(path: str) -> tuple[nib.Nifti1Image, np.ndarray]:
    """An intermediate image and its voxels."""
    image = nib.load(path)
    return image, np.asarray(image.dataobj)


def save(path: Path, data: np.ndarray, like: nib.Nifti1Image) -> str:
    """An intermediate image: uncompressed, since it is read once and thrown away."""
    nib.Nifti1Image(data, like.affine).to_filename(path)
    return str(path)

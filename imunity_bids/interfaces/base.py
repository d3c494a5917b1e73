"""What all interfaces share: an error leaves its traceback and one clear line, then stops its image only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, isdefined, traits

from imunity_bids.errors import DataUnusable
from imunity_bids.plan.crash import write_crash


class Inputs(BaseInterfaceInputSpec):
    """What every step is told: where a failure is described (no part of the node's hash), what else it depends on."""

    crash_file = traits.Str("", nohash=True, desc="crash file of this image and run")
    depends_on = traits.Str(
        "", usedefault=True, desc="version of the app, weights: what decides the result beyond the other inputs"
    )
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


@contextmanager
def naming(file: str) -> Iterator[None]:
    """An error about data says of which file."""
    try:
        yield
    except DataUnusable as error:
        raise DataUnusable(f"{file}: {error}") from error


def load(path: str) -> tuple[nib.Nifti1Image, np.ndarray]:
    """An intermediate image and its voxels."""
    image = nib.load(path)
    return image, np.asarray(image.dataobj)


def seen_of(inputs: BaseInterfaceInputSpec, mask: np.ndarray) -> np.ndarray:
    """The input `seen`, a mask (bool) of what counts in estimates; all of `mask` where there is none."""
    return load(inputs.seen)[1] > 0 if isdefined(inputs.seen) else mask


def save(path: Path, data: np.ndarray, like: nib.Nifti1Image) -> str:
    """An intermediate image: uncompressed, since it is read once and thrown away."""
    nib.Nifti1Image(data, like.affine).to_filename(path)
    return str(path)

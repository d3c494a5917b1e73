"""antspyx for nibabel images: bias field, linear registration, transforms.

`import ants` takes seconds, so it happens inside the functions. nibabel counts mm to the right, front and top (RAS),
ITK to the left, back and top (LPS): the two conversions here are the only place that knows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from imunity_bids.errors import DataUnusable

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # the same for points
COARSE_MM = 2.0  # voxels that registration looks at
MARGIN_MM = 4.0  # of the deformable registration
NEAR_MM = 12.0  # around a template's brain: where the linear registration looks
SAMPLED = 0.5  # of the voxels there
TRANSFORMS = {"affine": ("Affine", (2100, 1200, 3)), "rigid": ("Rigid", (20, 20, 3))}  # iterations at 6, 4 and 2 mm
REFINED = {"iterations": (10, 5), "shrink": (2, 1), "smoothing": (1, 0)}  # of the second rigid registration


def to_ants(image: nib.Nifti1Image, data: np.ndarray | None = None) -> Any:
    """ANTsImage of `image` (or of `data` on its grid), float32."""
    import ants

    linear = _RAS_TO_LPS @ image.affine[:3, :3]
    spacing = np.linalg.norm(linear, axis=0)
    values = np.asarray(image.dataobj) if data is None else data
    return ants.from_numpy(
        np.ascontiguousarray(values, dtype=np.float32),
        origin=(_RAS_TO_LPS @ image.affine[:3, 3]).tolist(),
        spacing=spacing.tolist(),
        direction=linear / spacing,
    )


def bias_corrected(image: nib.Nifti1Image, mask: np.ndarray) -> np.ndarray:
    """N4 (Tustison 2010): the image without its bias field, the mean inside the mask unchanged.

    3 × 20 iterations on a grid four times coarser: a quarter of the time of 4 × 50 for a field that is smooth anyway.
    """
    import ants

    data = np.asarray(image.dataobj)
    corrected = ants.n4_bias_field_correction(
        to_ants(image),
        mask=to_ants(image, mask),
        shrink_factor=4,
        convergence={"iters": [20, 20, 20], "tol": 1e-6},
    ).numpy()
    if not np.isfinite(corrected).all() or corrected[mask].mean() <= 0:
        raise DataUnusable("the bias field could not be estimated (too few different intensities in the brain)")
    return (corrected * (data[mask].mean() / corrected[mask].mean())).astype(np.float32)


def denoised(image: nib.Nifti1Image) -> np.ndarray:
    """Adaptive non-local means for Rician noise whose level may vary (Manjón 2010, doi:10.1002/jmri.22003), float32.

    What is exactly 0 stays so: emptiness that another tool left is recognised later.
    """
    import ants

    data = np.asarray(image.dataobj)
    return np.where(data > 0, np.maximum(ants.denoise_image(to_ants(image), noise_model="Rician").numpy(), 0), 0)


def tissue_fractions(image: nib.Nifti1Image, mask: np.ndarray) -> np.ndarray:
    """Atropos: three classes by k-means and a Markov field, (3, X, Y, Z), in no order."""
    import ants

    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch  # Atropos leaves its files in the usual folder for temporary ones
        try:
            segmentation = ants.atropos(
                a=to_ants(image), x=to_ants(image, mask), i="KMeans[3]", m="[0.1,1x1x1]", c="[5,0]"
            )
        finally:
            tempfile.tempdir = before
    fractions = np.stack([share.numpy() for share in segmentation["probabilityimages"]]) * mask
    return fractions / np.maximum(fractions.sum(0), 1e-6)


def register(
    brain: nib.Nifti1Image,
    template: nib.Nifti1Image,
    kind: str,
    seed: int,
    folder: Path,
    lesion: np.ndarray | None = None,
) -> tuple[Path, Path]:
    """Linear registration of a brain to the template's brain: ITK files (image to template, template to image).

    On voxels of 2 mm, and only on the template's brain and what is near it: two thirds of a template are empty, and
    samples spent there are missing in the brain. What both change is in docs/speed.md.

    Parameters
    ----------
    kind
        "affine" (12 parameters, the paper's) or "rigid" (6).
    lesion
        Part of the brain (bool) that the template has nothing like: the metric passes over it (Brett 2001,
        doi:10.1006/nimg.2001.0845), and the start, by the centres of mass, sees the brain's median there.
    """
    import ants

    ants.config.set_ants_deterministic(False, seed)  # `registration` swallows its own argument random_seed
    forward = folder / "forward.mat"
    backward = folder / "backward.mat"
    fixed, moving = _coarse(to_ants(template)), to_ants(brain)
    compared = {"mask": _around(fixed, fixed.numpy() > 0, NEAR_MM), "mask_all_stages": True}
    if lesion is not None and lesion.any():
        data = np.asarray(brain.dataobj)
        moving = to_ants(brain, np.where(lesion, np.median(data[(data > 0) & ~lesion]), data))
        compared["moving_mask"] = to_ants(brain, ~lesion)
    transform_type, iterations = TRANSFORMS[kind]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        registration = ants.registration(
            fixed=fixed,
            moving=_coarse(moving),
            **compared,
            type_of_transform=transform_type,
            aff_iterations=iterations,
            aff_shrink_factors=(3, 2, 1),
            aff_smoothing_sigmas=(1.5, 1, 0),
            aff_random_sampling_rate=SAMPLED,
            outprefix=f"{scratch}/",
        )
        transform = ants.read_transform(registration["fwdtransforms"][0])
    ants.write_transform(transform, str(forward))
    ants.write_transform(transform.invert(), str(backward))
    return forward, backward


def refine_rigid(
    brain: nib.Nifti1Image, mean: nib.Nifti1Image, start: np.ndarray, seed: int, folder: Path
) -> np.ndarray:
    """The rigid motion from the space of `mean` to that of `brain`, near `start`; (4, 4), points in mm, RAS.

    At full resolution in the end, since what is left of the registration would be taken for a change over time.
    """
    import ants

    ants.config.set_ants_deterministic(False, seed)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        registration = ants.registration(
            fixed=to_ants(mean),
            moving=to_ants(brain),
            initial_transform=str(write_motion(Path(scratch) / "start.mat", start)),
            type_of_transform="Rigid",
            aff_iterations=REFINED["iterations"],
            aff_shrink_factors=REFINED["shrink"],
            aff_smoothing_sigmas=REFINED["smoothing"],
            outprefix=f"{scratch}/",
        )
        return read_motion(Path(registration["fwdtransforms"][0]))


def read_motion(path: Path) -> np.ndarray:
    """An ITK transform, linear, as a matrix (4, 4) on points in mm, RAS: from its fixed space to its moving one."""
    import ants

    transform = ants.read_transform(str(path))
    numbers, centre = np.array(transform.parameters), np.array(transform.fixed_parameters)
    linear = numbers[:9].reshape(3, 3)
    motion = nib.affines.from_matvec(linear, numbers[9:] + centre - linear @ centre)
    return _FLIP @ motion @ _FLIP


def write_motion(path: Path, motion: np.ndarray) -> Path:
    """Inverse of `read_motion`."""
    import ants

    linear, shift = nib.affines.to_matvec(_FLIP @ motion @ _FLIP)
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", precision="double", matrix=linear, translation=shift, center=(0, 0, 0)
    )
    ants.write_transform(transform, str(path))
    return path


def apply(
    data: np.ndarray, moving: nib.Nifti1Image, fixed: nib.Nifti1Image, transform: Path, interpolator: str
) -> np.ndarray:
    """`data` on the grid of `moving`, brought to the grid of `fixed` (float32)."""
    import ants

    return ants.apply_transforms(
        fixed=to_ants(fixed, np.zeros(fixed.shape, np.float32)),
        moving=to_ants(moving, data),
        transformlist=[str(transform)],
        interpolator=interpolator,
    ).numpy()


def registered_mask(image: nib.Nifti1Image, template: nib.Nifti1Image, template_mask: np.ndarray) -> np.ndarray:
    """Brain mask (bool) of a whole head by deformable registration to a template's brain: slow, no weights needed.

    Only the template's brain and a margin around it are compared, at 2 mm: what else a head has cannot mislead.
    """
    import ants

    head = to_ants(image)
    coarse, brain, mask = map(_coarse, (head, to_ants(template), to_ants(template, template_mask)))
    compared = {"fixed": brain, "moving": coarse, "mask": _around(mask, mask.numpy() >= 0.5, MARGIN_MM)}
    with tempfile.TemporaryDirectory() as scratch:
        affine = ants.registration(**compared, type_of_transform="Affine", outprefix=f"{scratch}/affine")
        registration = ants.registration(
            **compared,
            type_of_transform="antsRegistrationSyNQuick[s]",
            initial_transform=affine["fwdtransforms"][0],
            outprefix=f"{scratch}/deformed",
        )
        moved = ants.apply_transforms(
            fixed=head,
            moving=mask,
            transformlist=registration["invtransforms"],
            whichtoinvert=[True, False],
            interpolator="linear",
        ).numpy()
    return moved > 0.5


def _around(volume: Any, inside: np.ndarray, reach_mm: float) -> Any:
    """Where an ANTsImage is `inside` (bool) or no farther from it than so many mm: an ANTsImage of 0 and 1."""
    near = ndimage.distance_transform_edt(~inside, sampling=volume.spacing) <= reach_mm
    return volume.new_image_like(near.astype(np.float32))


def _coarse(volume: Any) -> Any:
    """An ANTsImage with voxels of `COARSE_MM`, or of its own where these are larger; linear."""
    import ants

    return ants.resample_image(volume, [max(COARSE_MM, spacing) for spacing in volume.spacing], False, 0)

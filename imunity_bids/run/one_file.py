"""One scan that is in no dataset: it gets one of its own for as long as the participant level's workflow works on it.

So what comes out is what the participant level would write, bit for bit.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from imunity_bids.bids.outputs import sidecar_of, write_json, write_nifti
from imunity_bids.errors import DiskError, ImunityError, InputMissing, OutputImpossible, Usage, is_disk_error
from imunity_bids.models.card import DEFAULT, find_bundle, read_card
from imunity_bids.plan.crash import crash_file
from imunity_bids.plan.plan import Plan, make_plan
from imunity_bids.run.failures import gather_failures, set_unreadable_aside
from imunity_bids.run.one_scan import MASKS, NIFTI, OneScan, make_one_scan
from imunity_bids.settings import Settings

log = logging.getLogger(__name__)

SPACES = ("template", "T1w")
OPTIONS = (
    *("reference_slices", "noise", "target_fwhm", "model", "denoise", "skull_strip", "brain_model", "brain_border"),
    *("synthstrip_model", "registration", "bias_correction", "template", "device", "batch_size", "precision"),
    *("omp_nthreads", "random_seed"),
)  # of `Settings`, that one scan can have


class HarmonizedScan(NamedTuple):
    """What is made of one scan; images are in memory, float32."""

    image: nib.Nifti1Image  # harmonized brain in the space that was asked for
    sidecar: dict[str, Any]  # as the participant level writes it; `Sources` are files
    uncertainty: nib.Nifti1Image  # expected absolute error, in template space


def harmonize_file(source: Path, target: Path, output_space: str = "template", **options: Any) -> None:
    """`harmonize_image` from file to file; the JSON beside `target` is written last.

    Raises
    ------
    Usage
        `target` is no NIfTI name, or it or its JSON would replace the scan, its JSON or another input.
    OutputImpossible
        `target` cannot be written.
    """
    inputs = [source, *(Path(options[name]) for name in ("reference", *MASKS) if options.get(name))]
    _check_target(target, inputs)
    made = harmonize_image(source, output_space=output_space, **options)
    try:
        code = 4 if output_space == "template" else 1
        write_nifti(target, np.asarray(made.image.dataobj), made.image.affine, code)
        write_json(sidecar_of(target), made.sidecar)
    except OSError as error:
        if is_disk_error(error):
            raise
        raise OutputImpossible(f"{target} cannot be written: {error.strerror}") from error
    log.info("%s: %s", target, made.sidecar["QualityControl"]["verdict"])


def harmonize_image(
    image: Path | str | SpatialImage, reference: Path | str | None = None, mask: Path | str | None = None,
    lesion: Path | str | None = None, *, output_space: str = "template", **options: Any,
) -> HarmonizedScan:  # fmt: skip
    """Harmonize one T1w scan with the steps of the participant level.

    Parameters
    ----------
    image
        A NIfTI file, or an image of nibabel (X, Y, Z).
    reference
        Contrast to harmonize to: a T1w file, or the name of a reference of the bundle; None is the bundle's default.
    mask
        Brain mask, a NIfTI file on any grid of the scan's space; None: it is computed.
    lesion
        Mask of lesions, a NIfTI file likewise: kept out of all estimates, harmonized like the rest.
    output_space
        "template", or "T1w": the voxels of the scan, axes in RAS order.
    options
        Those of `imunity-harmonize`, with underscores: `model`, `skull_strip`, `noise`, `device`, …

    Raises
    ------
    Usage, InputMissing, DataUnusable, TryAgain, ImunityError
        An unknown option; a file that is not there; a scan that cannot be worked with; a template that cannot be
        fetched now; any other failure of a step.
    """
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise Usage(f"unknown options {', '.join(unknown)}; there are: {', '.join(OPTIONS)}")
    if output_space not in SPACES:
        raise Usage(f"output space {output_space}: {' or '.join(SPACES)}")
    with tempfile.TemporaryDirectory(prefix="imunity-") as folder, _process_left_as_it_was():
        one = make_one_scan(Path(folder), image, {"mask": mask, "lesion": lesion})
        settings = _settings(one, reference, output_space, options)
        try:
            return _made(_run(make_plan(settings)), one)
        except ImunityError as error:
            raise type(error)(one.message(str(error))) from error


def _check_target(target: Path, inputs: list[Path]) -> None:
    if not target.name.endswith(NIFTI):
        raise Usage(f"{target}: the output is NIfTI, name it .nii.gz or .nii")
    written = {path.resolve() for path in (target, sidecar_of(target))}
    for path in inputs:
        if written & {path.resolve(), sidecar_of(path).resolve()} or (target.exists() and _same(target, path)):
            raise Usage(f"{target} or the JSON beside it would replace {path} or its JSON; name another file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputImpossible(f"{target.parent} cannot be created: {error.strerror}") from error
    if target.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputImpossible(f"{target} cannot be created: it is a folder, or lies in one that cannot be written")


def _same(first: Path, second: Path) -> bool:
    """The same file under two names."""
    return second.exists() and first.samefile(second)


def _settings(one: OneScan, reference: Path | str | None, output_space: str, options: dict[str, Any]) -> Settings:
    """Absolute paths: steps run in folders of their own."""
    from joblib import cpu_count

    from imunity_bids.models.device import resolve_device

    values = {"omp_nthreads": min(8, cpu_count()), **options}
    bundle = find_bundle(str(values.pop("model", Settings.model))).absolute()
    for name in ("brain_model", "synthstrip_model"):
        if values.get(name) is not None:
            values[name] = Path(values[name]).absolute()
    values["device"] = resolve_device(values.get("device", Settings.device))
    return Settings(
        one.dataset, one.folder / "out", derivatives=one.derivatives, model=str(bundle),
        references=(_reference(reference, bundle),),
        output_spaces=tuple(dict.fromkeys(("template", output_space))), work_dir=one.folder / "work", run_id="one",
        **values,
    )  # fmt: skip


def _reference(reference: Path | str | None, bundle: Path) -> str:
    known = read_card(bundle / "bundle.json")["references"]
    if reference is None or str(reference) in known:
        return str(reference or DEFAULT)
    if not Path(reference).is_file():
        raise InputMissing(f"reference {reference}: no such file; give a T1w file, or one of {', '.join(known)}")
    return str(Path(reference).absolute())


def _run(plan: Plan) -> Plan:
    """Run the workflow on the plan's one scan.

    Raises
    ------
    ImunityError
        A step failed: of the kind that its exit code stands for.
    """
    from imunity_bids.workflows.execute import Progress, execute
    from imunity_bids.workflows.participants import init_participants_wf

    readable, failures = set_unreadable_aside(plan)
    if not failures:
        with Progress(len(plan.images)) as progress:
            execute(init_participants_wf(readable), plan.settings, progress)
        failures = gather_failures(readable)
    for failure in failures:
        if (crash := crash_file(plan, failure.image)).is_file():
            log.debug("%s", crash.read_text(encoding="utf-8"))
        kinds = {kind.code: kind for kind in ImunityError.__subclasses__() if kind.code != ImunityError.code}
        if failure.code == DiskError.code:
            raise DiskError(f"{failure.message}; the scratch is in {tempfile.gettempdir()}, TMPDIR names another")
        raise kinds.get(failure.code, ImunityError)(failure.message)
    return plan


def _made(plan: Plan, one: OneScan) -> HarmonizedScan:
    """Read what the workflow wrote; `Sources` and `SpatialReference` name the user's files."""
    (scan,), (description,) = plan.images, plan.descriptions
    products = plan.products(scan)
    path = products.harmonized(description)
    sidecar = json.loads(one.told(sidecar_of(path).read_text(encoding="utf-8")))
    sidecar["Sources"] = [file.absolute().as_uri() for file in one.files]
    uncertainty = _in_memory(products.uncertainty(description))
    for space in plan.spaces:  # one at most
        path = products.harmonized_in(space, description)
        sidecar.pop("Resolution")
        sidecar["SpatialReference"] = one.uri
    return HarmonizedScan(_in_memory(path), sidecar, uncertainty)


def _in_memory(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    return nib.Nifti1Image(np.asarray(image.dataobj).copy(), image.affine, image.header)


@contextmanager
def _process_left_as_it_was() -> Iterator[None]:
    """The workflow decides threads and Nipype's options for its process, which here is the user's."""
    import torch
    from nipype import config

    environment, threads = dict(os.environ), torch.get_num_threads()
    options = {part: dict(config._config.items(part)) for part in config._config.sections()}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)
        config.update_config(options)

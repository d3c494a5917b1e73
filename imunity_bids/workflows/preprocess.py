"""One image, from raw to white-striped in template space."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import IdentityInterface

from imunity_bids.bids.scan import T1w
from imunity_bids.interfaces.preprocess import WhiteStripe
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.field import FOUND, connect_found, init_field_wf
from imunity_bids.workflows.nodes import make_node, step_gb, volume_gb

OUTPUTS = (
    "conformed", "native_mask", "native_t1w", "field", "template_mask", "template_seen", "striped",
    "forward", "backward", "conform_info", "brain_info", "bias_info", "registration_info", "stripe_info",
)  # fmt: skip

_EXTRACTION = {
    "auto": "a 3D network trained on simulated heads (scans published without their skull were recognised and kept)",
    "network": "a 3D network trained on simulated heads",
    "ants": "deformable registration of a template with ANTs",
    "synthstrip": "SynthStrip (Hoopes et al. 2022)",
    "none": "the tool that was used before publication (the scans came without their skull)",
}

_DENOISING = {
    "none": "",
    "nlm": " and denoised by adaptive non-local means for Rician noise (Manjon et al. 2010; ANTs)",
}
_N4 = "Intensity non-uniformity was corrected with N4 (Tustison et al. 2010)."
_VISITS = (
    " All scans of a person went through one space midway between them (rigid registration to their mean; Reuter et "
    "al. 2012) and share one brain mask and one transform from there to the template; those of one scanner and "
    "protocol share one intensity curve."
)
_SHARED_FIELD = (
    " What the fields of a person's scans by one scanner and protocol still differed by was taken out of each, "
    "relative to their mean (after Lewis and Fox 2004)."
)
_FIELD = {
    "white-matter": (
        "Intensity non-uniformity was corrected by a smooth field through white matter, which a model of tissues and "
        "the template find together (after Dawant et al. 1993 and Wells et al. 1996; where the registration failed, by "
        "N4, Tustison et al. 2010)."
    ),
    "plain": _N4,
    "none": "Intensity non-uniformity was not corrected.",
}


def init_preprocess_wf(image: T1w, plan: Plan, crash_file: Path, name: str, together: bool = False) -> Workflow:
    """Conform, denoising where it is asked for, brain extraction, registration, bias field, white stripe.

    Inputs
    ------
    The raw image is set when the workflow is built; there is no node to connect to, unless the scan shares its space
    with others (`together`): then `workflows.visits` connects the node `found`.

    Outputs (of the node `outputs`)
    -------------------------------
    conformed, native_mask, native_t1w, field
        The scan in RAS (denoised where that is asked for), its brain mask, the scan without bias field, and that field,
        on the scan's own voxels.
    template_mask, template_seen, striped
        Brain mask, the same without lesions, and white-striped brain in [0, 1] in template space.
    forward, backward
        ITK transforms: image to template, template to image.
    conform_info, brain_info, bias_info, registration_info, stripe_info
        What was mended; method and measures of the mask; how the field was estimated; measures of the registration;
        the white-matter peak.
    """
    settings = plan.settings
    found, outputs = (
        Node(IdentityInterface(list(fields)), name=name) for fields, name in ((FOUND, "found"), (OUTPUTS, "outputs"))
    )
    stripe = make_node(
        WhiteStripe(template=settings.template, crash_file=str(crash_file)),
        "stripe",
        settings,
        step_gb("stripe", volume_gb(image.path)),
        depends_on=plan.preprocessing["template_sha256"],
    )
    workflow = Workflow(name)
    if not together:
        connect_found(workflow, init_field_wf(image, plan, crash_file, f"{name}_field"), found)
    workflow.connect(
        [
            (found, stripe, [("moved", "in_file"), ("template_mask", "mask"), ("template_seen", "seen")]),
            (found, outputs, [(name, name) for name in OUTPUTS if name in FOUND]),
            (stripe, outputs, [("out_file", "striped"), ("info", "stripe_info")]),
        ]
    )
    return workflow


def preprocessing_text(plan: Plan) -> str:
    """The sentences of these steps for the methods text."""
    settings = plan.settings
    return (
        f"Each image was reoriented to RAS{_DENOISING[settings.denoise]}; "
        f"the brain was extracted with {_EXTRACTION[settings.skull_strip]}{_given_text(plan)}; "
        f"it was registered to {settings.template} with ANTs ({settings.registration}; antspyx "
        f"{metadata.version('antspyx')}).{_VISITS * bool(plan.together)} {_FIELD[settings.bias_correction]}"
        f"{_SHARED_FIELD * any(map(plan.sharing_field, plan.together))} "
        "Intensities were normalised by the white-matter peak (white stripe; Shinohara et al. 2014), found where the "
        "template has white matter, placed at "
        "0.7."
    )


def _given_text(plan: Plan) -> str:
    """Of how many images there were masks of the brain, and of lesions."""
    images = (*plan.images, *plan.done)
    brains = sum(bool(image.brain_mask) for image in images)
    lesions = sum(bool(image.lesions) for image in images)
    text = f" (of {brains} of {len(images)} images the mask came with the data)" if brains else ""
    return text + f"; lesions ({lesions} of {len(images)} images) were kept out of all estimates" * bool(lesions)

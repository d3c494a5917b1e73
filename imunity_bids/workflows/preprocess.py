"""One image, from raw to white-striped in template space."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import IdentityInterface

from imunity_bids.bids.scan import T1w
from imunity_bids.hashes import sha256
from imunity_bids.interfaces.preprocess import (
    Conform,
    CorrectBias,
    Denoise,
    ExtractBrain,
    Register,
    WhiteStripe,
)
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.nodes import make_node, volume_gb

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
_FIELD = {
    "white-matter": (
        "Intensity non-uniformity was corrected by a smooth field through white matter, which a model of tissues and "
        "the template find together (after Dawant et al. 1993 and Wells et al. 1996; where the registration failed, by "
        "N4, Tustison et al. 2010)."
    ),
    "plain": _N4,
    "none": "Intensity non-uniformity was not corrected.",
}


def init_preprocess_wf(image: T1w, plan: Plan, crash_file: Path, name: str) -> Workflow:
    """Conform, denoising where it is asked for, brain extraction, registration, bias field, white stripe.

    Inputs
    ------
    The raw image is set when the workflow is built; there is no node to connect to.

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
    settings, size = plan.settings, volume_gb(image.path)
    conform = make_node(Conform(in_file=str(image.path)), "conform", settings, 0.4 + 3 * size)
    brain = make_node(
        ExtractBrain(
            method=settings.skull_strip,
            border=settings.brain_border,
            model=str(settings.brain_model or ""),
            synthstrip_model=str(settings.synthstrip_model or ""),
            device=settings.device,
            use_gpu=settings.device.startswith("cuda"),
        ),
        "brain",
        settings,
        0.6 + 8 * size,
        depends_on=plan.preprocessing["brain_weights"],
    )
    if image.brain_mask:
        brain.inputs.given, brain.inputs.given_uri = str(image.brain_mask.path), image.brain_mask.uri
        brain.inputs.depends_on += f" {sha256(image.brain_mask.path)}"
    brain.inputs.lesions = [str(lesion.path) for lesion in image.lesions]
    brain.inputs.lesion_uris = [lesion.uri for lesion in image.lesions]
    brain.inputs.depends_on += "".join(f" {sha256(lesion.path)}" for lesion in image.lesions)
    register = make_node(
        Register(template=settings.template, kind=settings.registration, seed=settings.random_seed),
        "register",
        settings,
        1.0 + 10 * size,
        depends_on=plan.preprocessing["template_sha256"],
    )
    known = {"depends_on": plan.preprocessing["template_sha256"]}
    correct = CorrectBias(template=settings.template, method=settings.bias_correction)
    bias = make_node(correct, "bias", settings, 0.6 + 16 * size, **known)
    stripe = make_node(WhiteStripe(template=settings.template), "stripe", settings, 0.7, **known)
    outputs = Node(IdentityInterface(list(OUTPUTS)), name="outputs")
    workflow, start = Workflow(name), conform
    if settings.denoise == "nlm":
        start = make_node(Denoise(), "denoise", settings, 0.4 + 6 * size)
        workflow.connect(conform, "out_file", start, "in_file")
    for step in (conform, start, brain, register, bias, stripe):
        step.inputs.crash_file = str(crash_file)

    workflow.connect(
        [
            (start, brain, [("out_file", "in_file")]),
            (start, register, [("out_file", "in_file")]),
            (brain, register, [("out_file", "mask"), ("seen", "seen")]),
            (start, bias, [("out_file", "in_file")]),
            (brain, bias, [("out_file", "mask"), ("seen", "seen")]),
            (register, bias, [("forward", "forward"), ("backward", "backward"), ("overlap", "overlap")]),
            (bias, stripe, [("moved", "in_file")]),
            (register, stripe, [("mask", "mask"), ("seen", "seen")]),
            (start, outputs, [("out_file", "conformed")]),
            (conform, outputs, [("info", "conform_info")]),
            (brain, outputs, [("out_file", "native_mask"), ("info", "brain_info")]),
            (bias, outputs, [("out_file", "native_t1w"), ("field", "field"), ("info", "bias_info")]),
            (
                register,
                outputs,
                [
                    ("mask", "template_mask"),
                    ("seen", "template_seen"),
                    ("forward", "forward"),
                    ("backward", "backward"),
                    ("info", "registration_info"),
                ],
            ),
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
        f"{metadata.version('antspyx')}). {_FIELD[settings.bias_correction]} Intensities were normalised by the "
        "white-matter peak (white stripe; Shinohara et al. 2014), found where the template has white matter, placed at "
        "0.7."
    )


def _given_text(plan: Plan) -> str:
    """Of how many images there were masks of the brain, and of lesions."""
    images = (*plan.images, *plan.done)
    brains = sum(bool(image.brain_mask) for image in images)
    lesions = sum(bool(image.lesions) for image in images)
    text = f" (of {brains} of {len(images)} images the mask came with the data)" if brains else ""
    return text + f"; lesions ({lesions} of {len(images)} images) were kept out of all estimates" * bool(lesions)

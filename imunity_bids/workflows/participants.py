"""All images of a run, each with its own branch, and the references they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype import Node, Workflow

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.metadata import Metadata, about
from imunity_bids.hashes import digest, sha256
from imunity_bids.interfaces.derivatives import WriteHarmonized, WritePreprocessed
from imunity_bids.interfaces.harmonize import EncodeReference, Harmonize
from imunity_bids.plan.crash import crash_file, reference_crash_file
from imunity_bids.plan.parameters import model
from imunity_bids.plan.plan import Plan
from imunity_bids.plan.requests import ReferenceRequest
from imunity_bids.workflows.nodes import make_node, merged, node_name, step_gb, volume_gb
from imunity_bids.workflows.preprocess import init_preprocess_wf, preprocessing_text
from imunity_bids.workflows.spaces import connect_in_space, init_bridges, init_in_space, spaces_text
from imunity_bids.workflows.visits import add_visits


def init_participants_wf(plan: Plan) -> Workflow:
    """The whole run. An image that serves as input and as reference is preprocessed once.

    Inputs, Outputs
    ---------------
    None to connect to: the plan names the images, and the results are files of the derivative dataset.
    """
    workflow = Workflow("imunity_wf", base_dir=str(plan.settings.scratch))
    alone: dict[Path, Workflow] = {}
    together: dict[Path, Workflow] = {}

    def preprocess(image: T1w) -> Workflow:
        """By itself, as every scan of a reference is: whoever else is in the run, the reference stays the same."""
        if image.path not in alone:
            name = node_name(image.stem) + "_" + digest(str(image.path))[:6]
            alone[image.path] = init_preprocess_wf(image, plan, crash_file(plan, image), name)
            workflow.add_nodes([alone[image.path]])
        return alone[image.path]

    def preprocess_with_visits(image: T1w) -> Workflow:
        if image.path not in together:
            together.update(add_visits(plan, plan.visits(image), workflow))
        return together[image.path]

    means = {mean.name: mean for image in plan.images for mean in plan.made_of(image) if mean.images}
    encoded = {name: _encoded(plan, mean, workflow, preprocess) for name, mean in means.items()}
    bridges = init_bridges(plan)
    for image in plan.images:
        own = preprocess_with_visits if plan.visits(image) else preprocess
        alike = [preprocess_with_visits(visit) for visit in plan.sharing_curve(image)]
        _add_image(plan, image, workflow, own(image), alike, encoded, bridges)
    return workflow


def _add_image(
    plan: Plan,
    image: T1w,
    workflow: Workflow,
    preprocess: Workflow,
    alike: list[Workflow],
    encoded: dict[str, Node | str],
    bridges: dict[str, Node],
) -> None:
    """Write what is preprocessed; for every reference harmonize and write, in all spaces.

    `alike` are those of the scans that the image shares its curve with.
    """
    settings, size = plan.settings, volume_gb(image.path)
    name, common = node_name(image.stem), _common(plan, image)
    write = make_node(
        WritePreprocessed(**common, descriptions=plan.descriptions), f"write_{name}", settings, step_gb("write", size)
    )
    _connect(workflow, preprocess, write, _PREPROCESSED)
    if settings.save_bias_field:
        _connect(workflow, preprocess, write, (("field", "field"),))
    others = {
        target: merged(workflow, [(part, f"outputs.{output}") for part in alike], f"merge_{target}_{name}")
        for output, target in (("striped", "others"), ("template_seen", "others_seen"))
        if alike
    }
    known = {"scan": about(image, Metadata(settings.bids_dir).of(image.stem)), "fingerprint": sha256(image.path)}
    for reference in plan.references:
        to = f"{name}_to_{node_name(reference.label)}"
        harmonize, finish = (
            _harmonize(plan, to, common, size),
            _finish(plan, image, reference, to, common, size, **known),
        )
        if reference.images:
            _give(workflow, encoded[reference.name], harmonize, "reference_file")
        else:
            harmonize.inputs.reference_label = reference.label
        if site := plan.site_curves.get(image.stem):
            _give(workflow, encoded[site.name], harmonize, "site_file")
        _connect(workflow, preprocess, harmonize, _STRIPED)
        _connect(workflow, preprocess, finish, _ABOUT)
        for target, merge in others.items():
            workflow.connect(merge, "out", harmonize, target)
        for output, target in (("out_file", "harmonized"), ("uncertainty", "uncertainty"), ("info", "info")):
            workflow.connect(harmonize, output, finish, target)
        written = [(write, "done")]
        for space in plan.spaces:
            node = init_in_space(plan, space, to, common, plan.description(reference), size)
            connect_in_space(workflow, preprocess, harmonize, bridges.get(space.template), node)
            workflow.connect(write, "done", node, "waited_for")
            written.append((node, "done"))
        workflow.connect(merged(workflow, written, f"written_{to}"), "out", finish, "waited_for")


_PREPROCESSED = (
    ("native_mask", "native_mask"),
    ("native_t1w", "native_t1w"),
    ("template_mask", "template_mask"),
    ("template_seen", "template_seen"),
    ("striped", "template_t1w"),
    ("forward", "forward"),
    ("backward", "backward"),
    ("brain_info", "brain"),
    ("bias_info", "bias"),
    ("stripe_info", "stripe"),
)
_STRIPED = (("striped", "in_file"), ("template_mask", "mask"), ("template_seen", "seen"))
_ABOUT = (
    ("template_mask", "template_mask"),
    ("template_seen", "template_seen"),
    ("striped", "template_t1w"),
    ("conform_info", "conform"),
    ("brain_info", "brain"),
    ("bias_info", "bias"),
    ("registration_info", "registration"),
    ("stripe_info", "stripe"),
)


def _connect(workflow: Workflow, preprocess: Workflow, node: Node, names: tuple[tuple[str, str], ...]) -> None:
    """Outputs of the preprocessing to inputs of a node."""
    for output, target in names:
        workflow.connect(preprocess, f"outputs.{output}", node, target)


def _harmonize(plan: Plan, name: str, common: dict[str, Any], size: float) -> Node:
    settings = plan.settings
    models = Harmonize(
        model=str(plan.bundle),
        device=settings.device,
        use_gpu=settings.device.startswith("cuda"),
        batch_size=settings.batch_size or 0,
        precision=settings.precision,
        noise=settings.noise,
        target_fwhm=settings.target_fwhm,
        crash_file=common["crash_file"],
    )
    weights = digest(model(plan.card))
    return make_node(models, f"harmonize_{name}", settings, step_gb("harmonize", size), depends_on=weights)


def _finish(
    plan: Plan,
    image: T1w,
    reference: ReferenceRequest,
    name: str,
    common: dict[str, Any],
    size: float,
    scan: dict[str, str],
    fingerprint: str,
) -> Node:
    write = WriteHarmonized(
        **common,
        scan=scan,
        description=plan.description(reference),
        provenance=_provenance(plan, image, fingerprint, reference),
        parameters=plan.parameters(image, fingerprint, reference),
    )
    return make_node(write, f"finish_{name}", plan.settings, step_gb("finish", size))


def _common(plan: Plan, image: T1w) -> dict[str, Any]:
    """Inputs of both steps that write."""
    return {
        "source": str(image.path),
        "bids_dir": str(plan.settings.bids_dir),
        "output_dir": str(plan.settings.output_dir),
        "template": plan.settings.template,
        "crash_file": str(crash_file(plan, image)),
        "given": [given.uri for given in (*image.given, *(v for v in plan.visits(image) if v != image))],
        "lesions": [lesion.uri for lesion in image.lesions],
        "denoise": plan.settings.denoise,
    }


def _give(workflow: Workflow, source: Node | str, node: Node, target: str) -> None:
    """A mean contrast: the file of an earlier run, or as it comes from its own node."""
    if isinstance(source, str):
        setattr(node.inputs, target, source)
    else:
        workflow.connect(source, "out_file", node, target)


def _encoded(plan: Plan, reference: ReferenceRequest, workflow: Workflow, preprocess) -> Node | str:
    """The node that encodes the mean contrast of scans, or its file where an earlier run left it."""
    settings = plan.settings
    made_of = [reference.label, reference.sha256, reference.masks]
    key = digest([made_of, plan.preprocessing, model(plan.card), settings.reference_slices])
    cache = settings.output_dir / ".imunity_cache" / f"{key}.safetensors"
    if cache.is_file():
        return str(cache)
    encode = make_node(
        EncodeReference(
            label=reference.label,
            kind=reference.kind,
            sha256=reference.sha256,
            model=str(plan.bundle),
            slices=settings.reference_slices,
            cache=str(cache),
            crash_file=str(reference_crash_file(plan, reference)),
        ),
        f"reference_{node_name(reference.name)}",
        settings,
        step_gb("reference", 0),
        depends_on=digest(model(plan.card)),
    )
    for output, target in (("outputs.striped", "in_files"), ("outputs.template_seen", "masks")):
        every = [(preprocess(image), output) for image in reference.images]
        workflow.connect(merged(workflow, every, f"merge_{target}_{node_name(reference.name)}"), "out", encode, target)
    return encode


def _provenance(plan: Plan, image: T1w, fingerprint: str, reference: ReferenceRequest) -> dict[str, Any]:
    hashes = plan.card["sha256"]
    shared = {
        "SharedSpace": plan.visits(image),
        "SharedField": plan.sharing_field(image),
        "SharedCurve": plan.sharing_curve(image),
    }
    site = plan.site_curves.get(image.stem)
    return {
        "Bundle": {
            "Name": plan.card["name"],
            "Version": plan.card["version"],
            "License": plan.card["license"],
            "SHA256": {name: value for name, value in hashes.items() if name != "references"},
            "Architecture": plan.card["architecture"],
        },
        "InputSHA256": fingerprint,
        "Seed": plan.settings.random_seed,
        "ReferenceSlices": plan.settings.reference_slices,
        "ReferenceScans": reference.scans,
        "Template": plan.settings.template,
        "Registration": plan.settings.registration,
        **{what: [visit.uri for visit in visits] for what, visits in shared.items() if visits},
        **({"SiteCurve": {"Site": site.label, "Scans": site.scans}} if site else {}),
    }


def methods_text(plan: Plan) -> str:
    """What a run does, in sentences, each from where the step is built."""
    return f"{preprocessing_text(plan)} {_models_text(plan)}"


def _models_text(plan: Plan) -> str:
    """The sentences of harmonization for the methods text."""
    references = ", ".join(f"{reference.label} ({reference.kind})" for reference in plan.references)
    what = _HOW[plan.card["architecture"]["kind"]]
    return (
        f"The models of the bundle {plan.card['name']} {plan.card['version']}, one per anatomical axis, gave each "
        f"image the contrast of the reference ({references}): {what} The results of the three axes were fused by the "
        f"voxelwise median (Cackowski et al. 2023).{_SITE[plan.settings.curve]}{_NOISE[plan.settings.noise]}"
        f"{_smoothing_text(plan)}"
        f"{spaces_text(plan)}"
    )


def _smoothing_text(plan: Plan) -> str:
    target = plan.settings.target_fwhm
    if target == "none":
        return ""
    what = "their reference" if target == "reference" else f"{target} mm (full width at half maximum)"
    return f" Images that were sharper than {what} were smoothed to it."


_SITE = {
    "scan": "",
    "site": " All scans of a site got one curve: the contrast of the scan was the mean of the first ten participants "
    "of its site.",
}
_NOISE = {
    "keep": "",
    "match": " Where the result was noisier in white matter than the reference, it was denoised to that level "
    "(non-local means with the known noise; Buades et al. 2005).",
}
_HOW = {
    "curves": "from the codes of the contrasts of scan and reference each model made one intensity curve for the whole "
    "brain, which starts as histogram matching, and from the code of the anatomy the error to expect. The uncertainty "
    "is the mean of the three.",
    "paper": "each model painted every slice from the code of its anatomy and the code of the reference's contrast. "
    "The uncertainty is the standard deviation of the three axes.",
}

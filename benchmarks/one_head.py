"""Seconds and share of each step from raw to harmonized, in one process, and its peak memory.

python benchmarks/one_head.py sub-01_T1w.nii.gz [more images]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any


def chain(image: Path, model: str, template: str, threads: int, device: str = "cpu") -> dict[str, float]:
    """Seconds of each step of one head."""
    from imunity_bids.interfaces import preprocess as steps
    from imunity_bids.interfaces.harmonize import Harmonize
    from imunity_bids.models.card import find_bundle

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:

        def timed(name: str, interface: Any) -> dict[str, Any]:
            interface.inputs.threads = threads
            begin = time.perf_counter()
            outputs = interface.work(Path(scratch))
            seconds[name] = time.perf_counter() - begin
            return outputs

        conformed = timed("conform", steps.Conform(in_file=str(image)))["out_file"]
        mask = timed("brain", steps.ExtractBrain(in_file=conformed, device=device))["out_file"]
        moved = timed("register", steps.Register(in_file=conformed, mask=mask, template=template))
        where = {name: moved[name] for name in ("forward", "backward", "overlap")} | {"template_mask": moved["mask"]}
        bias = timed("bias", steps.CorrectBias(in_file=conformed, mask=mask, template=template, **where))
        stripe = steps.WhiteStripe(in_file=bias["moved"], mask=moved["mask"], template=template)
        striped = timed("stripe", stripe)
        bundle = str(find_bundle(model))
        models = {"model": bundle, "reference_label": "default", "device": device}
        timed("models", Harmonize(in_file=striped["out_file"], mask=moved["mask"], **models))
    return seconds


def prepare(threads: int) -> float:
    """Import what every process imports once, with so many threads; returns the seconds of that."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    start = time.perf_counter()
    import ants  # noqa: F401
    import torch

    torch.set_num_threads(threads)
    return time.perf_counter() - start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--model", default="imunity")
    parser.add_argument("--template", default="MNI152NLin2009aSym")
    parser.add_argument("--threads", type=int, default=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    options = parser.parse_args()
    print(f"{'imports':>10}: {prepare(options.threads):6.1f} s, once per process")
    for image in options.images:
        seconds = chain(image, options.model, options.template, options.threads)
        total = sum(seconds.values())
        print(f"{image.name}: {total:.1f} s")
        for name, value in seconds.items():
            print(f"{name:>10}: {value:6.1f} s {value / total:6.1%}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GB")


if __name__ == "__main__":
    main()

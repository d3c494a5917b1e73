"""Raw to harmonized, and the networks alone, on the CPU and on a GPU, in one run.

python benchmarks/gpu.py sub-01_T1w.nii.gz [more images] [--devices cpu cuda]

The first image is done twice on each device: what is loaded and compiled once does not count. The networks alone work
on the template's brain, in several batches and precisions; of each the median of `--repeats`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from one_head import add_arguments, chain, prepare

BATCHES = (8, 16, 64, 256)


def median_seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    import torch

    found = []
    for _ in range(repeats + 1):  # the first one warms up
        begin = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - begin)
    return float(np.median(found[1:]))


def tell_chains(options: argparse.Namespace) -> None:
    told = {}
    for device in options.devices:
        images = [options.images[0], *options.images]
        runs = [chain(image, options.model, options.template, options.threads, device) for image in images]
        told[device] = {step: float(np.mean([run[step] for run in runs[1:]])) for step in runs[0]}
    print(f"{'seconds a head':14}" + "".join(f"{device:>10}" for device in told))
    for step in [*next(iter(told.values())), "all"]:
        values = [seconds.get(step, sum(seconds.values())) for seconds in told.values()]
        print(f"{step:14}" + "".join(f"{value:10.2f}" for value in values))


def tell_networks(options: argparse.Namespace) -> None:
    from imunity_bids.harmonize.inference import Compute, harmonize
    from imunity_bids.image.brain_mask import brain_probability, load_network
    from imunity_bids.image.template import load_template
    from imunity_bids.models.bundle import load_bundle
    from imunity_bids.models.card import find_bundle

    template = load_template(options.template)
    brain = np.asarray(template.brain.dataobj) / np.percentile(template.brain.dataobj, 99.9)
    bundle = load_bundle(find_bundle(options.model))
    reference = bundle.references["default"]
    for device in options.devices:
        network = load_network(device=device)
        seconds = median_seconds(lambda net=network: brain_probability(template.brain, net), options.repeats, device)
        print(f"\n{device}: brain network {seconds:.3f} s")
        for precision in ("float32", "bfloat16") if device != "cpu" else ("float32",):
            for batch in BATCHES:
                seconds = median_seconds(
                    lambda batch=batch, device=device, precision=precision: harmonize(
                        brain, template.mask, bundle, reference, Compute(device, batch, precision)
                    ),
                    options.repeats,
                    device,
                )
                print(f"{device}: models, {precision}, batches of {batch:3}: {seconds:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    prepare(options.threads)

    from imunity_bids.models.device import resolve_device

    for device in options.devices:
        resolve_device(device)  # says so where there is none
    tell_chains(options)
    tell_networks(options)


if __name__ == "__main__":
    main()

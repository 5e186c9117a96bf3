"""CPU seconds and memory of one step of CMID.

    python benchmarks/cmid_step.py --backbone resnet50 --batch 8 --size 224 --threads 1

A step is what training does: student and teacher forward, the three losses, backward, optimizer (Adan), teacher's
move. Data is made before. fp32 on a CPU. The last line is JSON; losses are those of the first step. By default all
blocks are checkpointed (an empty `--gradient-checkpointing`: none), as docs/pretraining.md advises for little memory.
"""

import argparse
import json
import resource
import time

from lhrs.training.malloc import tune_malloc

tune_malloc()  # as training does, before torch is imported

import numpy as np
import torch

from lhrs.cmid.backbone import checkpoint_activations
from lhrs.cmid.model import CMID
from lhrs.cmid.teacher import update_teacher
from lhrs.cmid.two_views import collate
from lhrs.data.augment import sample_crop
from lhrs.training.optim import make_groups, make_optimizer
from lhrs.training.run_config import OptimConfig

NAMES = {"swin_base": "swin_base_patch4_window7_224"}
BLOCKS = {"resnet50": "layer1,layer2,layer3,layer4",
          "swin_base": "layers.0.blocks,layers.1.blocks,layers.2.blocks,layers.3.blocks"}  # fmt: skip
WARM_UP = 1


def batch(count: int, size: int, grid: int) -> dict[str, torch.Tensor]:
    """Random images; crops, masks and pairs as in training."""
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(count):
        crops = [sample_crop(rng, size, size) for _ in range(2)]
        samples.append({
            "views": torch.from_numpy(rng.standard_normal((2, 3, size, size), np.float32)),
            "color_jitter": torch.zeros(2, 9),
            "masks": torch.from_numpy(rng.permuted(np.arange(49) < 30).reshape(1, 7, 7).repeat(2, 0)),
            "centers": torch.from_numpy(np.stack([c.centers(grid).reshape(-1, 2) for c in crops])),
        })  # fmt: skip
    return collate(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--gradient-checkpointing", help="parts of the student, such as layer1,layer2 (default: all blocks)"
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where a step's time goes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    module = CMID(
        NAMES.get(options.backbone, options.backbone), 3, options.size, masked={}, global_={},
        local={"batch_norm": options.backbone.startswith("resnet")},
    ).train()  # fmt: skip
    parts = (
        BLOCKS.get(options.backbone, "") if options.gradient_checkpointing is None else options.gradient_checkpointing
    )
    checkpoint_activations(module.student.model, parts.split(",") if parts else [])
    groups = make_groups(module, 0.02, ("mask_token",))
    optimizer = make_optimizer(groups, OptimConfig(optimizer="adan", lr=1e-4, steps=1), 1e-4, (0.98, 0.92, 0.99))
    made = batch(options.batch, options.size, module.student.grid)

    def step() -> dict[str, torch.Tensor]:
        optimizer.zero_grad(set_to_none=True)
        out = module(made["views"], made["mask"], made["pairs"], made["close"], 0.04)
        out["loss"].backward()
        optimizer.step()
        update_teacher(module, 0.996)
        return out

    first = {name: round(float(value.detach()), 4) for name, value in step().items()}
    for _ in range(WARM_UP - 1):
        step()
    cpu, wall = [], []
    for _ in range(options.steps):
        started = time.process_time(), time.perf_counter()
        step()
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
    if options.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            step()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({
        "backbone": options.backbone, "batch": options.batch, "size": options.size, "threads": options.threads,
        "gradient_checkpointing": parts,
        "cpu_s_per_step": round(float(np.median(cpu)), 2), "wall_s_per_step": round(float(np.median(wall)), 2),
        "peak_rss_gib": round(peak, 2), "losses": first,
    }))  # fmt: skip


if __name__ == "__main__":
    main()

"""What an initialisation is good for: scenes, pixels and change, fine-tuned whole, three seeds.

    python dev/downstream_study.py run --out results/downstream/study.jsonl --init cmid=backbones/cmid-450-{seed}
        [--init byol=...] [--tasks eurosat,dubai,oscd] [--seeds 0,1,2] [--steps 1500] [--device cuda]
    python dev/downstream_study.py table --out results/downstream/study.jsonl

`random` is always there; others are folders of timm or multimodal models, `lhrs-nano` too; `{seed}` in them is the
run's. Same for all initialisations of a task: architecture, data, batches, steps, augmentation. Each has one learning
rate, chosen of three by the validation split on a run of a third of the steps with another seed, never by test.

- eurosat: 21,600 images to learn from, 2,400 of train to choose, 2,000 of test scored. Goal: 0.96.
- dubai: UPerNet; tiles 1, 2, 4, 5 to learn from, 6 to choose, 7 scored.
- oscd: 13 bands; Bordeaux and Rennes to learn from, Paris to choose, Bercy scored; BIT and the plain difference. The
  intervals are those of seeds, not of cities: one city is a sample of one.

A row that is in the file is not computed again, and a run that was stopped goes on from its checkpoint in --runs.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lhrs.downstream.backbone import weights_folder
from lhrs.models.timm_folder import read_timm_folder
from lhrs.training.dispatch import get_schema
from lhrs.training.finetune import SCORES, finetune

DATA = Path(__file__).parents[2] / "shared/data"
RATES = (3e-4, 1e-3, 3e-3)
RATE_SEED = 100
CHOSEN_BY = {"eurosat": "accuracy", "dubai": "miou", "oscd-bit": "f1", "oscd-difference": "f1"}
ARMS = {"eurosat": ["eurosat"], "dubai": ["dubai"], "oscd": ["oscd-bit", "oscd-difference"]}
STEPS = {"eurosat": 4000, "dubai": 1500, "oscd-bit": 1000, "oscd-difference": 1000}
_T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def settings(arm: str) -> dict:
    """Return what a task's runs share."""
    if arm == "eurosat":
        return {
            "kind": "finetune-classify", "size": 64,
            "data": {"train": {"path": str(DATA / "eurosat/train")}, "test": {"path": str(DATA / "eurosat/test")}},
            "augment": {"crop": [0.5, 1.0], "colour": 0.5, "cutmix": 1.0}, "fit": {"batch_size": 64},
        }  # fmt: skip
    if arm == "dubai":
        tiles = {"train": ["tile1/*", "tile2/*", "tile4/*", "tile5/*"], "val": ["tile6/*"], "test": ["tile7/*"]}
        return {
            "kind": "finetune-segment", "size": 128, "width": 64, "overlap": 0.25,
            "data": {part: {"path": str(DATA / "dubai_seg"), "only": only} for part, only in tiles.items()},
            "fit": {"batch_size": 8},
        }  # fmt: skip
    cities = {"train": ["bordeaux", "rennes"], "val": ["paris"], "test": ["bercy"]}
    return {
        "kind": "finetune-change", "size": 96, "head": arm.removeprefix("oscd-"), "class_weights": [1.0, 10.0],
        "data": {part: {"path": str(DATA / "oscd"), "only": only} for part, only in cities.items()},
        "augment": {"zoom": [0.8, 1.25], "colour": 0.5, "most": 1, "swap": True}, "fit": {"batch_size": 8},
    }  # fmt: skip


def carry_out(arm: str, init: str, source: dict, seed: int, lr: float, steps: int, options: argparse.Namespace) -> dict:
    """Return the scores of one run, and what it took."""
    out = options.runs / f"{arm}-{init}-{seed}-{lr}-{steps}"
    made = settings(arm)
    made |= {
        "out": str(out), "seed": seed, "cpu": options.device == "cpu", "bf16": True, "threads": options.threads,
        "log_every": 50, "save_every": 200, "workers": options.workers, "validations": options.validations,
        "backbone": source,
    }  # fmt: skip
    made["fit"] |= {"lr": lr, "steps": steps}
    start, cpu = time.time(), time.process_time()
    finetune(get_schema(made["kind"]).model_validate(made))
    found = json.loads((out / SCORES).read_text())
    shutil.rmtree(out)
    of = found["test"]
    test = {k: v for k, v in of.items() if k not in ("confusion", "classes")}
    spent = {"wall_s": round(time.time() - start), "cpu_s": round(time.process_time() - cpu)}
    return {"lr": lr, "validation": found["validation"], "test": test, "best_step": found["step"], **spent}


def backbones(given: list[str], seed: int) -> dict[str, dict]:
    """Return name -> `backbone` of a run file; random weights have the architecture of the others."""
    found: dict[str, dict] = {}
    for pair in given:
        name, _, source = pair.replace("{seed}", str(seed)).partition("=")
        folder = weights_folder(source)
        if folder is None:
            raise SystemExit(f"--init {pair}: expected NAME=FOLDER of a backbone; there is no {source!r}.")
        found[name] = {"name": source}
        config = read_timm_folder(folder)[1]
        built = {"name": config["architecture"], "args": config.get("model_args", {})}
        if found.setdefault("random", built) != built:
            raise SystemExit(f"--init {pair}: another architecture than that of the others.")
    return found or {"random": {"name": "resnet18"}}


def run(options: argparse.Namespace) -> None:
    """Fill the file with the rows that it lacks."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []

    def row(key: dict, compute: Callable[[], dict]) -> dict:
        for old in done:
            if all(old.get(name) == value for name, value in key.items()):
                return old
        new = {**key, **compute()}
        done.append(new)
        with options.out.open("a") as file:
            file.write(json.dumps(new) + "\n")
        print(new, flush=True)
        return new

    arms = [arm for task in options.tasks.split(",") for arm in ARMS[task]]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    first = backbones(options.init, seeds[0])
    for seed in seeds:
        sources = backbones(options.init, seed)
        for arm in arms:
            steps = options.steps or STEPS[arm]
            for init, source in sources.items():
                rates = options.rates or RATES
                best = rates[0]
                if len(rates) > 1:
                    tried = {}
                    for lr in rates:
                        key = {"what": "rate", "task": arm, "init": init, "lr": lr, "steps": steps // 3}
                        tried[lr] = row(key, lambda a=arm, i=init, s=first[init], r=lr, n=steps // 3: {
                            k: v for k, v in carry_out(a, i, s, RATE_SEED, r, n, options).items() if k != "test"
                        })["validation"].get(CHOSEN_BY[arm], 0.0)  # fmt: skip
                    best = max(tried, key=lambda lr, tried=tried: tried[lr])
                key = {"what": "score", "task": arm, "init": init, "seed": seed, "steps": steps, "lr": best,
                       "source": Path(source["name"]).name}  # fmt: skip
                row(key, lambda a=arm, i=init, s=source, r=best, n=steps, k=seed: carry_out(a, i, s, k, r, n, options))


def table(options: argparse.Namespace) -> None:
    """Print means over seeds with 95 % intervals (Student's t)."""
    rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    found: dict[tuple[str, str, int], list[dict]] = {}
    for one in rows:
        if one["what"] == "score":
            found.setdefault((one["task"], one["init"], one["steps"]), []).append(one)
    print("| task | init | steps | seeds | score | test | CPU-s a run |\n|---|---|---|---|---|---|---|")
    for (task, init, steps), of in sorted(found.items()):
        names = ["f1", "iou", "batch_mf1"] if task.startswith("oscd") else [CHOSEN_BY[task]]
        for name in names:
            values = np.array([one["test"][name] for one in of])
            spread = float("nan")
            if len(values) in _T95:
                spread = _T95[len(values)] * values.std(ddof=1) / len(values) ** 0.5
            mean, cost = f"{values.mean():.3f} +- {spread:.3f}", np.mean([one["cpu_s"] for one in of])
            print(f"| {task} | {init} | {steps} | {len(of)} | {name} | {mean} | {cost:.0f} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("results/downstream/study.jsonl"))
    parser.add_argument("--runs", type=Path, default=Path("runs/downstream-study"))
    parser.add_argument("--init", action="append", default=[], help="NAME=FOLDER; may be given again")
    parser.add_argument("--tasks", default="eurosat,dubai,oscd")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, help="of every task")
    parser.add_argument("--rates", type=float, nargs="+", help="one is taken as it is, several are tried")
    parser.add_argument("--validations", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    (run if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()

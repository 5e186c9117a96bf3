"""Tiny scenes, masks and roofs, and the run file that trains on them."""

import json

import numpy as np
import yaml
from PIL import Image


def write_roofs(root, count=10, side=64):
    """White roofs on green, as COCO."""
    rng = np.random.default_rng(3)
    root.mkdir(parents=True)
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "house"}]}
    for k in range(count):
        pixels = np.zeros((side, side, 3), np.uint8)
        pixels[..., 1] = rng.integers(60, 120, (side, side))
        coco["images"].append({"id": k + 1, "file_name": f"{k}.png", "width": side, "height": side})
        for x, y in ((6, 8), (36, 30)):
            w, h = (int(v) for v in rng.integers(14, 22, 2))
            pixels[y : y + h, x : x + w] = 230
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            coco["annotations"].append({"id": len(coco["annotations"]) + 1, "image_id": k + 1, "category_id": 1,
                                        "iscrowd": 0, "bbox": [x, y, w, h], "segmentation": [ring]})  # fmt: skip
        Image.fromarray(pixels).save(root / f"{k}.png")
    (root / "annotations.json").write_text(json.dumps(coco))
    return root


def run_file(folder, **changes):
    run = {
        "kind": "perception", "output_dir": str(folder / "run"), "device": "cpu", "num_threads": 1,
        "encoder": {"name": "test_efficientnet"}, "val_fraction": 0.2, "width": 16, "save_steps": 3,
        "classes": {"tags": ["water", "building"], "land_cover": ["water", "grass", "building"],
                    "objects": ["building"]},
        "sources": [
            {"name": "scenes", "path": str(folder / "scenes"), "split": "train", "scene_set": "colors", "side": 32,
             "mosaic": [1, 2], "gsd_m": 10,
             "labels": {"blue": {"land_cover": ["water"], "present": ["water"], "absent": ["building"]},
                        "red": {"land_cover": ["building", "grass"], "present": ["building"]}}},
            {"name": "masks", "path": str(folder / "masks"), "split": "train", "side": 64, "weight": 2,
             "labels": {"water": {"land_cover": ["water"], "present": ["water"]},
                        "roof": {"land_cover": ["building"], "present": ["building"]}}},
            {"name": "roofs", "path": str(folder / "roofs"), "side": 64, "weight": 1.5,
             "labels": {"house": {"land_cover": ["building"], "present": ["building"], "object": "building"}}},
        ],
        "optim": {"steps": 6, "lr": 0.01, "batch_size": 8},
    }  # fmt: skip
    run.update(changes)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return path

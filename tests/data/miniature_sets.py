"""The training sets in miniature, in their published layouts, on a local server in place of hub, Zenodo and COCO."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from tests.data.hub import Hub

from lhrs.data.training_sets import TrainingSet, list_sets

FEATURES = {
    "name": "Nepal_1_Banepa_85.51_27.63_85.52_27.62",
    "info": {"location": ["Nepal", "Banepa"]},
    "attrs": {"building": "yes"},
    "cap": "a town with houses",
    "caption": "A dense town lies in a valley; fields surround it.",
}
"""An item of `Stage1/features_01.json`."""
CHAT = {"name": "a.png", "conv": [{"Question": "<image>\n[CAP] Describe it.", "Answer": "A harbor with ships."}]}
BOX = {"question": "[VG] the ship", "answer": "[0.25, 0.5, 0.75, 1.0]"}
ROWS = {
    "Stage2/RSITMD": [CHAT],
    "Stage2/RSITMDDetail": [{**CHAT, "conv": {"Question": "Describe all of it.", "value": "Ships lie in a harbor."}}],
    "Stage2/NWPU": {"data": [{"filename": "airplane_001.jpg", "conv": CHAT["conv"]}]},
    "Stage2/NWPUDetail": [{"filename": ["airplane_001.jpg"], "conv": CHAT["conv"]}],
    "Stage2/RSICD": [CHAT],
    "Stage2/UCM": [{"name": "forest00.tif", "conv": CHAT["conv"]}],
    "Stage2/fMoW": [CHAT],
    "Stage2/METERML": [{"name": "36.1_-75.2", "conv": CHAT["conv"]}],
    "Stage2/HR": [{"name": "0.tif", "conv": CHAT["conv"] * 3}, {"name": "1.tif", "conv": []}],
    "Stage2/LR": [{"name": "0.tif", "conv": CHAT["conv"]}],
    "Stage2/RSVG": [{"img": "a.png", **BOX}],
    "Stage2/RSVG_DIOR": [{"img": "00001", **BOX}],
    "Stage3/OSMSFT": [{"filename": "Nepal_1", "conv": CHAT["conv"]}],
    "Stage3/llava_20k": [{"name": "000000000009.jpg", "conv": CHAT["conv"]}],
}
GIVEN = {
    "lhrs-align": {"OSM_Image": "Nepal/Banepa/Nepal_1_Banepa_85.51_27.63_85.52_27.62.jpg"},
    "rsitmd": {"RSITMD.zip": "RSITMD/images/a.png"},
    "rsicd": {"RSICD_images.tar": "a.png"},
    "fmow": {"fMoW": "airport/a.png"},
    "rsvg": {"RSVG.zip": "a.png"},
    "dior-rsvg": {"JPEGImages": "00001.jpg"},
    "osm-sft": {"OSMSFT_Image": "Nepal_1.jpg"},
    "lhrs-instruct-plus": {"FAST_SFT.json": "", "FAST.zip": "images/a.png"},
    "lrv-instruct": {"filter_cap.json": "", "image.zip": "image/2392588.jpg"},
}
"""What a person gets by hand for each set: a file or folder, and the image in it."""
_TEXTS = {
    "FAST_SFT.json": [CHAT],
    "filter_cap.json": [{"image_id": "2392588", "question": "Is there a blue teapot?", "answer": "No.", "task": "x"}],
}


def image(name: str = "x.png", side: int = 40) -> bytes:
    """Return the bytes of an image of the format of a file name."""
    pixels = np.random.default_rng(len(name)).integers(0, 256, (side, side, 3), np.uint8)
    body, kind = io.BytesIO(), {".jpg": "JPEG", ".tif": "TIFF"}.get(Path(name).suffix, "PNG")
    Image.fromarray(pixels).save(body, format=kind)
    return body.getvalue()


def archive(path: Path, *names: str) -> Path:
    """Write a zip or tar file with images of these names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                packed.writestr(name, image(name))
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(image(name))
            tar.addfile(info, io.BytesIO(image(name)))
    return path


def serve_sets(folder: Path) -> Hub:
    """Write the sets and serve them."""
    texts = folder / "datasets/PumpkinCat/LHRS_Data"
    for name, rows in {**ROWS, "Stage1/features_01": {"data": [FEATURES, {**FEATURES, "name": "elsewhere"}]}}.items():
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        (texts / f"{name}.json").write_text(json.dumps(rows, indent=1))
    archive(folder / "datasets/isaaccorley/resisc45/NWPU-RESISC45.zip", "NWPU-RESISC45/airplane/airplane_001.jpg")
    archive(folder / "datasets/torchgeo/ucmerced/UCMerced_LandUse.zip", "UCMerced_LandUse/Images/forest/forest00.tif")
    archive(folder / "records/6911013/train_images_1.tar.gz", "train_images/36.1_-75.2/naip.png")
    archive(folder / "records/6344367/Images.tar", "Data/0.tif", "Data/1.tif")
    archive(folder / "records/6344334/Images_LR.zip", "Images_LR/0.tif")
    archive(folder / "files/train2017.zip", "train2017/000000000009.jpg")
    whole = archive(folder / "test.tar.gz", *(f"test/P{n:07}.jpg" for n in range(12))).read_bytes()
    pieces = folder / "datasets/torchgeo/million-aid/test"
    pieces.mkdir(parents=True)
    (pieces / "test.tar.gzaa").write_bytes(whole[:1000])
    (pieces / "test.tar.gzab").write_bytes(whole[1000:])
    return Hub(folder)


def miniature_table(hub: Hub) -> tuple[TrainingSet, ...]:
    """Return the table with addresses of the server; only checksums of the true files are left out."""

    def changed(row: TrainingSet) -> TrainingSet:
        parts = [
            part.model_copy(
                update={"checksum": None, "url": part.url and f"{hub.url}/files/{part.url.rpartition('/')[2]}"}
            )
            for part in row.parts
        ]
        manual = [step.model_copy(update={"checksum": None}) for step in row.manual]
        return row.model_copy(update={"parts": parts, "manual": manual})

    return tuple(map(changed, list_sets()))


def write_given(name: str, folder: Path) -> list[Path]:
    """Write what a person gets by hand for a set."""
    given = []
    for file, inner in GIVEN.get(name, {}).items():
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not inner:
            path.write_text(json.dumps(_TEXTS[file]))
        elif path.suffix in (".zip", ".tar"):
            archive(path, inner)
        else:
            (path / inner).parent.mkdir(parents=True, exist_ok=True)
            (path / inner).write_bytes(image(inner))
        given.append(path)
    return given

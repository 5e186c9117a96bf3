"""Each mechanism is done in one place, and `dev/one_place.py` sees every form of doing it elsewhere."""

import pytest
from dev.one_place import MECHANISMS, REMAINING, elsewhere, find, find_all


@pytest.fixture(scope="module")
def others():
    return elsewhere(find_all())


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_new_place(mechanism, others):
    found = [f"{one.file}:{one.line}: {one.code}" for one in others if one.mechanism == mechanism]
    assert len(found) <= REMAINING.get(mechanism, 0), "\n".join(found)


FORMS = {
    "rasters opened": [
        "import rasterio\nwith rasterio.open(path) as dataset: pass",
        "import rasterio\nrasterio.open(path, 'r')",
        "import rasterio\nrasterio.open(path, mode='r')",
        "import rasterio as rio\nrio.open(path, driver='GTiff')",
        "from rasterio import open as opener\nopener(path)",
        "from rasterio.io import MemoryFile\nMemoryFile(data)",
    ],
    "images opened": [
        "from PIL import Image\nImage.open(path)",
        "import PIL.Image\nPIL.Image.open(path)",
        "from PIL.Image import open as open_picture\nopen_picture(path)",
        "def f():\n    from PIL import Image as I\n    return map(I.open, paths)",
        "import cv2\ncv2.imread(path)",
        "from torchvision.io import decode_image\ndecode_image(data)",
    ],
    "windows cut": [
        "[top for top in range(0, height - size + 1, stride)]",
        "for top in range(0, image.height, size): pass",
        "import numpy as np\nnp.linspace(0, length - size, count)",
        "[min(n * step, length - size) for n in range(count)]",
        "[length * n // parts for n in range(parts + 1)]",
        "import math\nmath.ceil((length - overlap) / (size - overlap))",
        "from numpy.lib.stride_tricks import sliding_window_view\nsliding_window_view(x, 3)",
    ],
    "boxes overlapped": [
        "import numpy as np\nnp.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])",
        "width = min(a.x2, b.x2) - max(a.x1, b.x1)",
        "low = torch.maximum(a, b)\nhigh = torch.minimum(a, b)\n(high - low).clamp(min=0)",
        "from torchvision.ops import box_iou\nmatch(a, b, box_iou)",
        "from torchvision import ops\nops.batched_nms(a, b, c, 0.5)",
        "a.intersection(b).area",
        "import shapely\nshapely.area(shapely.intersection(a, b))",
    ],
    "progress shown": [
        "from rich.progress import track\nfor n in track(items): pass",
        "from tqdm import tqdm\ntqdm(items)",
        "from tqdm.auto import tqdm as bar\nbar(items)",
        "import typer\ntyper.progressbar(items)",
        "def f(progress: Callable[[int], Callable[[], None]]): pass",
    ],
    "fingerprints taken": [
        "import hashlib\nhashlib.sha256(data)",
        "from hashlib import md5\nmd5(data)",
        "import zlib\nzlib.crc32(data)",
        "path.stat().st_mtime_ns",
        "import os\nos.path.getmtime(path)",
    ],
    "weights loaded": [
        "import torch\ntorch.load(path, weights_only=True)",
        "from safetensors.torch import load_file\nload_file(path)",
        "from safetensors import safe_open\nsafe_open(path, 'pt')",
        "model.load_state_dict(state, strict=False)",
    ],
}


@pytest.mark.parametrize(("mechanism", "code"), [(m, code) for m, codes in FORMS.items() for code in codes])
def test_a_form_is_seen(mechanism, code):
    assert mechanism in {one.mechanism for one in elsewhere(find(code, "somewhere/else.py"))}


@pytest.mark.parametrize(
    "code",
    [
        "import rasterio\nrasterio.open(path, 'w', **profile)",
        "import rasterio\nrasterio.open(path, mode='r+')",
        "from rasterio.io import MemoryFile\nMemoryFile()",
        "from PIL import Image\nImage.fromarray(pixels).save(path)",
        "import PIL\nopen(path)",
        "with path.open('rb') as file: pass",
        "import tarfile\ntarfile.open(path)",
        "for n in range(0, len(items), size): items[n : n + size]",
        "[items[n * len(items) // num] for n in range(num)]",
        "import numpy as np\nnp.linspace(0, len(files) - 1, 5)",
        "rng.random() - max(a, b)",
        "from rich.table import Table\nTable()",
        "model.state_dict()",
    ],
)
def test_other_things_are_not(code):
    assert find(code, "somewhere/else.py") == []


def test_a_mechanism_at_its_place_is_none_of_the_others():
    found = find("import rasterio\nrasterio.open(path)", "imagery/gdal_reader.py")
    assert len(found) == 1 and elsewhere(found) == []

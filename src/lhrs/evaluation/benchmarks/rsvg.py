"""RSVG (Sun et al., 2022): one box for one expression, in LHRS-Bot's json."""

from lhrs.boxes import parse_boxes
from lhrs.data.dataset import read_json
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.imagery.band_stack import image_shape


class Rsvg(Benchmark):
    """One box per expression. Boxes are relative to the image in the file, and scored in its pixels."""

    metric = "grounding"
    homepage = "https://sunyuxi.github.io/publication/GeoVG"
    license = "images of Google Earth: research only"
    layout = "a folder with RSVG_test.json (or RSVG/Test/RSVG_test.json) and RSVG_Image/ (or images/)"
    download_hint = "Download RSVG's images from its homepage and RSVG_test.json from https://huggingface.co/datasets/PumpkinCat/LHRS_Data."

    def items(self) -> list[Item]:
        near = [self.root / "RSVG_test.json", self.root / "RSVG/Test/RSVG_test.json"]
        path = next((p for p in near if p.exists()), near[0])
        content = read_json(path)
        rows = content.get("data", []) if isinstance(content, dict) else content
        items = []
        for n, row in enumerate(rows):
            try:
                name, question, answer = str(row["img"]), str(row["question"]), str(row["answer"])
            except (KeyError, TypeError):
                raise DataError(f"{path}: entry {n} has no img, question and answer.") from None
            folders = [self.root / f for f in ("RSVG_Image", "images", "")]
            image = next((f / name for f in folders if (f / name).exists()), folders[0] / name)
            height, width = image_shape(image)
            boxes = parse_boxes(answer, (width, height), "norm1").boxes
            if len(boxes) != 1:
                raise DataError(f"{path}: the answer of entry {n} is not one box: {answer[:60]!r}.")
            expression = question.split("]")[-1].strip()
            items.append(Item(f"{n}", (str(image),), expression, tuple(float(v) for v in boxes[0])))
        return items

"""UC Merced land use (Yang and Newsam, 2010)."""

from lhrs.data.dataset import read_json_lines
from lhrs.evaluation.benchmark import Item, SceneBenchmark
from lhrs.evaluation.download import LibrarySource


class UcMerced(SceneBenchmark):
    """Twenty-one land-use classes, 256 pixels a side at 0.3 m."""

    homepage = "http://weegee.vision.ucmerced.edu/datasets/landuse.html"
    license = "public domain (images)"
    layout = "a folder with <class>/<image>, and perhaps index.jsonl with `file`, `label`, `split`"
    download_hint = "Get it with torchgeo (`torchgeo.datasets.UCMerced(download=True)`) or from its homepage."
    source = LibrarySource("torchgeo.datasets", "UCMerced", "UCMerced_LandUse/Images")
    num_classes = 21

    def items(self) -> list[Item]:
        index = self.root / "index.jsonl"
        if not index.exists():
            return super().items()
        rows = [row for _, row in read_json_lines(index)]
        labels = tuple(sorted({str(row["label"]) for row in rows}))
        return [
            Item(str(row["file"]), (str(self.root / row["file"]),), "", str(row["label"]), labels)
            for row in rows if row.get("split") == (self.split or "val")
        ]  # fmt: skip

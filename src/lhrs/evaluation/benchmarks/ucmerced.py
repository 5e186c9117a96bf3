"""UC Merced land use (Yang and Newsam, 2010)."""

from lhrs.data.datasets.ucm_captions import UCMCaptions
from lhrs.data.download import LibrarySource
from lhrs.evaluation.benchmark import Item, SceneBenchmark


class UcMerced(SceneBenchmark):
    """Twenty-one land-use classes, 256 pixels a side at 0.3 m."""

    homepage = "http://weegee.vision.ucmerced.edu/datasets/landuse.html"
    license = "public domain (images)"
    layout = "a folder with <class>/<image>, and index.jsonl of UCM-captions for its splits"
    download_hint = "Get it with torchgeo (`torchgeo.datasets.UCMerced(download=True)`) or from its homepage."
    source = LibrarySource("torchgeo.datasets", "UCMerced", "UCMerced_LandUse/Images")
    num_classes = 21

    def items(self) -> list[Item]:
        if not (self.root / "index.jsonl").exists():
            return super().items()
        dataset = UCMCaptions(self.root, self.split or "val")
        rows = {sample.images[0]: sample.labels[0] for sample in dataset}  # several captions of one image
        return [
            Item(image.removeprefix(f"{self.root}/"), (image,), "", label, tuple(dataset.classes))
            for image, label in rows.items()
        ]

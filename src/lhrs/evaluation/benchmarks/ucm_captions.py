"""UCM-captions (Qu et al., 2016): five captions per image of UC Merced."""

from lhrs.data.dataset import read_json_lines
from lhrs.data.datasets.ucm_captions import UCMCaptions
from lhrs.evaluation.benchmark import Benchmark, Item


class UcmCaptionsBenchmark(Benchmark):
    """Captions, scored with BLEU, ROUGE-L and CIDEr against all references."""

    metric = "caption"
    homepage = "https://github.com/201528014227051/RSICD_optimal"
    license = "none stated"
    layout = UCMCaptions.layout
    download_hint = "Download UCM_captions from its homepage and put the images of UC Merced into the same folder."

    def items(self) -> list[Item]:
        dataset = UCMCaptions(self.root, self.split or "val")  # reports errors of the file
        # All five captions count, repeated ones too; the dataset leaves repeats out and contains questions as well.
        captions = {str(row["file"]): row["captions"] for _, row in read_json_lines(self.root / "index.jsonl")}
        images = dict.fromkeys(sample.images[0] for sample in dataset)
        files = {image: image.removeprefix(f"{self.root}/") for image in images}
        for file in files.values():
            if not captions[file]:
                self.dropped.add("images without captions", file)
        return [Item(file, (image,), "", tuple(captions[file])) for image, file in files.items() if captions[file]]

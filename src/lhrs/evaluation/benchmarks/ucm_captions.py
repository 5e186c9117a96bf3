"""UCM-captions (Qu et al., 2016): five captions per image of UC Merced."""

from lhrs.data.datasets.ucm_captions import UCMCaptions
from lhrs.evaluation.benchmark import Benchmark, Item


class UcmCaptionsBenchmark(Benchmark):
    """Captions, scored with BLEU, ROUGE-L and CIDEr against all references."""

    metric = "caption"
    homepage = "https://github.com/201528014227051/RSICD_optimal"
    licence = "none stated"
    layout = UCMCaptions.layout
    obtain = "Download UCM_captions from its homepage and put the images of UC Merced beside it."

    def items(self) -> list[Item]:
        references: dict[str, list[str]] = {}
        dataset = UCMCaptions(self.root, self.split or "val")
        for sample in dataset[: len(dataset)]:
            said = [turn.text for turn in sample.turns if turn.role == "assistant"]
            references.setdefault(sample.images[0], []).extend(said)
        return [
            Item(image.removeprefix(f"{self.root}/"), (image,), "", tuple(texts)) for image, texts in references.items()
        ]

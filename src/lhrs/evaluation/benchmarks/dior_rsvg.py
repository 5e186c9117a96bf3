"""DIOR-RSVG (Zhan et al., 2023, arXiv:2210.12634): one box for one expression."""

from xml.etree import ElementTree

from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item


class DiorRsvg(Benchmark):
    """Every expression counts. `<split>.txt` says which, counting objects through all files in order of their names.

    Two splits are in circulation (the present one tests 7,500 expressions): the report says how many there were.
    """

    metric = "grounding"
    homepage = "https://github.com/ZhanYang-nwpu/RSVG-pytorch"
    licence = "academic use (DIOR)"
    layout = "a folder with Annotations/*.xml, JPEGImages/ and test.txt"
    obtain = "Download DIOR_RSVG from its homepage and unpack it."

    def items(self) -> list[Item]:
        files = sorted((self.root / "Annotations").glob("*.xml"))
        listed = self.root / f"{self.split or 'test'}.txt"
        if not files or not listed.exists():
            raise DataError(f"{self.root} lacks {'Annotations/*.xml' if not files else listed.name}. {self.obtain}")
        wanted = {int(line) for line in listed.read_text().split()}
        found, number = [], 0
        for path in files:
            try:
                tree = ElementTree.parse(path).getroot()
                name = tree.findtext("filename") or f"{path.stem}.jpg"
                for thing in tree.iter("object"):
                    if number in wanted:
                        box = thing.find("bndbox")
                        corners = tuple(float(str(box.findtext(k))) for k in ("xmin", "ymin", "xmax", "ymax"))  # type: ignore[union-attr]
                        image = str(self.root / "JPEGImages" / name)
                        found.append(Item(str(number), (image,), str(thing.findtext("description")).strip(), corners,
                                          type=thing.findtext("name")))  # fmt: skip
                    number += 1
            except (ElementTree.ParseError, AttributeError, ValueError) as error:
                raise DataError(f"{path} is not DIOR-RSVG's XML ({error}).") from None
        if len(found) < len(wanted):
            raise DataError(f"{listed} names {len(wanted):,} expressions, {self.root} has {number:,} in all.")
        return found

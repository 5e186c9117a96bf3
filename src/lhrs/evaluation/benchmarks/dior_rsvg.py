"""DIOR-RSVG (Zhan et al., 2023, arXiv:2210.12634): one box for one expression."""

from typing import Any
from xml.etree import ElementTree

from lhrs import fingerprint
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item

_PRESENT = "present (26,991 / 3,829 / 7,500)"
_FIRST = "first (15,328 / 3,832 / 19,160)"
_SPLITS = {
    (26_991, 154_012): _PRESENT, (3_829, 21_925): _PRESENT, (7_500, 42_873): _PRESENT,
    (15_328, 87_498): _FIRST, (3_832, 21_878): _FIRST, (19_160, 109_434): _FIRST,
}  # fmt: skip
"""Both by (expressions, characters of their numbers, one a line)."""


class DiorRsvg(Benchmark):
    """One box per expression. `<split>.txt` lists the expressions by number, counted through all files by name.

    Two splits of the same 38,320 expressions are in use. The report names the one it finds by the number of expressions
    and of characters, as in the authors' repository (`DIOR_RSVG/` since April 2023, `RSVGD/` before). `split_hash` is
    the SHA-256 of the numbers that were read, one per line in order; for an unchanged file `sha256sum test.txt` prints
    it. Test expressions of one split are partly training data of the other.
    """

    metric = "grounding"
    homepage = "https://github.com/ZhanYang-nwpu/RSVG-pytorch"
    license = "academic use (DIOR)"
    layout = "a folder with Annotations/*.xml, JPEGImages/ and test.txt"
    download_hint = "Download DIOR_RSVG from its homepage and unpack it."

    def items(self) -> list[Item]:
        files = sorted((self.root / "Annotations").glob("*.xml"))
        listed = self.root / f"{self.split or 'test'}.txt"
        if not files or not listed.exists():
            missing = listed.name if files else "Annotations/*.xml"
            raise DataError(f"{self.root} lacks {missing}. {self.download_hint}")
        wanted = self._wanted()
        items, number = [], 0
        for path in files:
            try:
                tree = ElementTree.parse(path).getroot()
                name = tree.findtext("filename") or f"{path.stem}.jpg"
                for element in tree.iter("object"):
                    if number in wanted:
                        box = element.find("bndbox")
                        corners = tuple(float(str(box.findtext(k))) for k in ("xmin", "ymin", "xmax", "ymax"))  # type: ignore[union-attr]
                        image = str(self.root / "JPEGImages" / name)
                        items.append(Item(str(number), (image,), str(element.findtext("description")).strip(), corners,
                                          type=element.findtext("name")))  # fmt: skip
                    number += 1
            except (ElementTree.ParseError, AttributeError, ValueError) as error:
                raise DataError(f"{path} is not DIOR-RSVG's XML ({error}).") from None
        if len(items) < len(wanted):
            raise DataError(f"{listed} names {len(wanted):,} expressions, {self.root} has {number:,} in all.")
        return items

    def metadata(self) -> dict[str, Any]:
        text = "".join(f"{number}\n" for number in sorted(self._wanted()))
        named = _SPLITS.get((len(self._wanted()), len(text)), "unknown")
        return {"split": named, "split_hash": fingerprint.sha256_of_bytes(text.encode())}

    def _wanted(self) -> set[int]:
        """Return the numbers of the split's expressions."""
        path = self.root / f"{self.split or 'test'}.txt"
        try:
            return {int(line) for line in path.read_text().split()}
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a list of numbers: {error}.") from None

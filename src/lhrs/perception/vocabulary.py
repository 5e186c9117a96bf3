"""Names of what the perception heads are trained on. They are the keys of evidence and of `land_words.yaml`."""

_EUROSAT = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop"),
    *("Residential", "River", "SeaLake"),
)
_UCMERCED = (
    *("agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential", "forest"),
    *("freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark", "overpass"),
    *("parkinglot", "river", "runway", "sparseresidential", "storagetanks", "tenniscourt"),
)

SCENES = (*(f"eurosat/{name}" for name in _EUROSAT), *(f"ucmerced/{name}" for name in _UCMERCED))
"""Scene classes, as data set and class."""
COVER = ("water", "trees", "grass", "crops", "bare", "building", "paved")
"""Land-cover classes. Grass is all low natural vegetation, bare is soil, sand and rock."""
TAGS = (
    *("water", "river", "trees", "crops", "grass", "bare", "building", "road", "parking", "vehicle", "airplane"),
    *("ship", "pool", "sports field", "storage tank", "snow or ice", "cloud"),
)
"""What may be present somewhere in an image."""
OBJECTS = ("building", "tree", "vehicle")
"""What is detected one by one."""

SCENE_NAMES = {
    "eurosat/Highway": "highway",
    "eurosat/Industrial": "industrial",
    "eurosat/Residential": "residential",
    "eurosat/SeaLake": "sea or lake",
    "ucmerced/baseballdiamond": "baseball diamond",
    "ucmerced/denseresidential": "dense residential",
    "ucmerced/golfcourse": "golf course",
    "ucmerced/mediumresidential": "medium residential",
    "ucmerced/mobilehomepark": "mobile home park",
    "ucmerced/parkinglot": "parking lot",
    "ucmerced/sparseresidential": "sparse residential",
    "ucmerced/storagetanks": "storage tanks",
    "ucmerced/tenniscourt": "tennis court",
}
"""Words of scene classes whose names are not words."""

REGIONS: dict[str, tuple[float, float, float, float]] = {
    "top left": (0, 0, 0.5, 0.5),
    "top": (0, 0, 1, 0.5),
    "top right": (0.5, 0, 1, 0.5),
    "left": (0, 0, 0.5, 1),
    "center": (0.25, 0.25, 0.75, 0.75),
    "right": (0.5, 0, 1, 1),
    "bottom left": (0, 0.5, 0.5, 1),
    "bottom": (0, 0.5, 1, 1),
    "bottom right": (0.5, 0.5, 1, 1),
}
"""Parts of an image in reading order, north at the top, as boxes xyxy of fractions."""

"""Build the sets of out-of-distribution images from packages of Debian and npm, and from radar files.

    python dev/ood_sets.py --data ../shared/data --out DIR     # DIR/photos, screenshots, charts, ... and index.jsonl

Packages are downloaded in the versions named here (`apt-get download`, `npm pack`) and unpacked under DIR/.packages,
without being installed. Images are saved as RGB PNG, transparent parts on white, the longer side at most 1024 px. Near
copies (the same picture in other sizes) are dropped. Contact sheets of the result were looked at: photos have no aerial
or satellite images, and no drawings. Every draw derives from (seed, name).
"""

import argparse
import json
import re
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageOps

SEED = 21
MAX_SIDE, MIN_SIDE = 1024, 128

DEBIAN = {
    "darknet": ("0.0.0+git20180914.61c9d02e-2+b4", "public domain, MIT"),
    "gimp-help-en": ("2.10.34-2", "GFDL-1.2+"),
    "gnome-user-docs": ("43.0-2", "CC-BY-SA-3.0"),
    "kalzium-data": ("4:22.12.3-1", "GFDL-1.2 (documentation)"),
    "kicad-doc-en": ("6.0.11+dfsg-1", "GPL-3+, CC-BY-3.0+"),
    "kphotoalbum": ("5.9.1-1", "GPL-2+; documentation GFDL-1.2"),
    "lomiri-wallpapers-16.04": ("20.04.0-2", "CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-4.0, CC0-1.0"),
    "lomiri-wallpapers-20.04": ("20.04.0-2", "CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-4.0, CC0-1.0"),
    "lxqt-themes": ("1.2.0-1", "LGPL-2.1+, CC-BY-SA-3.0"),
    "mate-backgrounds": ("1.26.0-1", "GPL-2+, CC-BY-SA-4.0"),
    "octave-doc": ("7.3.0-2", "GPL-3+"),
    "opencv-doc": ("4.6.0+dfsg-12", "Apache-2.0, BSD-3-Clause"),
    "plasma-workspace-wallpapers": (
        "4:5.27.5-2",
        "GPL-2+; by their metadata CC-BY-SA-4.0 or LGPL-3",
    ),
    "python-sklearn-doc": ("1.2.1+dfsg-1", "BSD-3-Clause"),
    "python-statsmodels-doc": ("0.13.5+dfsg-7", "BSD-3-Clause"),
    "python3-skimage": ("0.19.3-8", "BSD-3-Clause; images as in skimage/data/README.txt"),
    "scratch": ("1.4.0.6~dfsg1-6.1", "CC-BY-SA-3.0 (media)"),
    "xplanet-images": ("1.3.1-3", "NASA, not copyrighted (night.jpg)"),
}
"""Package, version, license of the images as the package's copyright file states it."""
NPM = {"three-globe": ("2.45.2", "MIT; image NASA Black Marble, public domain")}


@dataclass(frozen=True)
class Pick:
    """Which files of a package belong to a set."""

    package: str
    pattern: str
    """Glob below the unpacked package."""
    keep: str = r"."
    """Regular expression that the file name must match."""
    drop: str = r"$^"
    """Regular expression of file names left out: drawings, aerial images, damaged or copied files."""
    limit: int | None = None
    """Number of files drawn."""


SCRATCH = "usr/share/scratch/Media"
OPENCV = "usr/share/doc/opencv-doc/examples"
GIMP = "usr/share/gimp/2.0/help/en/images"
KPHOTO = "usr/share/doc/HTML/en/kphotoalbum"
KICAD = "usr/share/doc/kicad/help/en/images"
PICKS = {
    "photos": [
        Pick("lomiri-wallpapers-16.04", "usr/share/backgrounds/*.jpg", drop="analogpattern|umang"),
        Pick("lomiri-wallpapers-20.04", "usr/share/backgrounds/Kleiber*.jpg"),
        Pick("mate-backgrounds", "usr/share/backgrounds/mate/nature/*.jpg"),
        Pick(
            "plasma-workspace-wallpapers",
            "usr/share/wallpapers/*/contents/images/2560x1600.jpg",
            keep="Autumn|BytheWater|ColdRipple|Cups|DarkestHour|EveningGlow|FallenLeaf|Grey|Kite|OneStands|Path|summer",
        ),
        Pick("lxqt-themes", "usr/share/lxqt/wallpapers/*.jpg", drop="logo"),
        Pick(
            "scratch",
            f"{SCRATCH}/Backgrounds/*/*.jpg",
            drop="room|spotlight|moon|woods-and|wall1|school",
        ),
        Pick("scratch", f"{SCRATCH}/Backgrounds/Nature/flowers.gif"),
        Pick("kphotoalbum", "usr/share/kphotoalbum/demo/*.jpg", drop="skagen_2"),
        Pick("darknet", "usr/share/darknet/data/*.jpg", drop="scream"),
        Pick(
            "python3-skimage",
            "usr/lib/python3/dist-packages/skimage/data/*",
            keep=r"(astronaut|camera|chelsea|coffee|coins|motorcycle_left)\.png|rocket\.jpg",
        ),
        Pick(
            "opencv-doc",
            f"{OPENCV}/data/*",
            keep="/(aloeL|apple|baboon|basketball1|blox|board|box|box_in_scene|building|butterfly|chicky_512|ela_original"
            "|fruits|graf1|home|left|leuvenA|licenseplate_motion|messi5|orange|rubberwhale1|squirrel_cls|stuff)[.]",
        ),
        Pick("opencv-doc", f"{OPENCV}/text/*.jpg", keep=r"scenetext0|segmented_word"),
        Pick("opencv-doc", f"{OPENCV}/hfs/data/*.jpg"),
        Pick("opencv-doc", f"{OPENCV}/alphamat/input_images/*.jpg"),
        Pick("opencv-doc", f"{OPENCV}/reg/home.png"),
        Pick("opencv-doc", f"{OPENCV}/dnn_superres/butterfly.png"),
    ],
    "screenshots": [
        Pick("gimp-help-en", f"{GIMP}/dialogs/*.png", drop="tile|tiling|examp|ex[0-9]|overview|watercolor", limit=24),
        Pick("gimp-help-en", f"{GIMP}/preferences/*.png", limit=12),
        Pick("gimp-help-en", f"{GIMP}/menus/*/*.png", drop="ex[0-9]|composite", limit=24),
        Pick(
            "kphotoalbum",
            f"{KPHOTO}/*.png",
            drop="splash|view|zoom|draw|token|raw|redisplay",
            limit=20,
        ),
        Pick("gnome-user-docs", "usr/share/help/C/gnome-help/figures/*.png", drop="color-"),
        Pick("kicad-doc-en", f"{KICAD}/*.png", drop="measurement_tool|copypaste|edit_line|posture|routing", limit=24),
        Pick("kalzium-data", "usr/share/doc/HTML/en/kalzium/*.png", limit=16),
    ],
    "charts": [
        Pick(
            "python-sklearn-doc",
            "usr/share/doc/python-sklearn-doc/html/_images/sphx_glr_plot*.png",
            drop="thumb|quantization|face|coin|species|denois|img|image|patch|china|segmentation",
            limit=36,
        ),
        Pick("python-statsmodels-doc", "usr/share/doc/python-statsmodels-doc/html/_images/*.png", limit=24),
        Pick("octave-doc", "usr/share/doc/octave/octave.html/*.png"),
        Pick("scratch", f"{SCRATCH}/Backgrounds/*/*.gif", drop="flowers|stars"),
        Pick("scratch", f"{SCRATCH}/Costumes/Animals/*", keep="(png|gif)$", drop="squirrel", limit=12),
    ],
}


def run(*command: str, folder: Path) -> None:
    """Run a command in a folder; its output is shown only if it fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")


def unpack(name: str, cache: Path) -> Path:
    """Return the folder with the files of a package, downloaded if it is not there."""
    folder = cache / name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f"{name}.partial"
    partial.mkdir(exist_ok=True)
    if name in NPM:
        version = NPM[name][0]
        run("npm", "pack", "--silent", f"{name}@{version}", folder=cache)
        run("tar", "-xzf", f"{name}-{version}.tgz", "-C", str(partial), folder=cache)
    else:
        version = DEBIAN[name][0]
        run("apt-get", "download", "-qq", f"{name}={version}", folder=cache)
        (archive,) = cache.glob(f"{name}_*.deb")
        run("dpkg", "-x", str(archive), str(partial), folder=cache)
    partial.rename(folder)
    return folder


def draw(files: list[Path], limit: int | None, name: str) -> list[Path]:
    """Return at most `limit` files, drawn by (seed, name), in order of their names."""
    if limit is None or len(files) <= limit:
        return files
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    return [files[i] for i in sorted(rng.permutation(len(files))[:limit])]


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image upright as RGB, transparent parts on white, the longer side at most MAX_SIDE."""
    upright: Image.Image = ImageOps.exif_transpose(image)
    if "A" in upright.getbands() or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    result = upright.convert("RGB")
    result.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return result


def average_hash(image: Image.Image) -> np.ndarray:
    """Return 256 bits: which cells of a 16 x 16 gray version are brighter than its mean."""
    cells = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), dtype=np.float32)
    return (cells > cells.mean()).ravel()


def package_images(picks: list[Pick], cache: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield name and image of each file that the picks take, without near copies."""
    hashes: list[np.ndarray] = []
    for pick in picks:
        folder = unpack(pick.package, cache)
        files = [
            file
            for file in sorted(folder.glob(pick.pattern))
            if re.search(pick.keep, str(file.relative_to(folder))) and not re.search(pick.drop, file.name)
        ]
        large = []
        for file in files:
            with Image.open(file) as candidate:
                if min(candidate.size) >= MIN_SIDE:
                    large.append(file)
        for file in draw(large, pick.limit, f"{pick.package}/{pick.pattern}"):
            with Image.open(file) as opened:
                image = to_rgb(opened)
            bits = average_hash(image)
            if any(np.count_nonzero(bits != other) <= 6 for other in hashes):
                continue
            hashes.append(bits)
            parts = file.relative_to(folder).with_suffix("").parts
            stem = "_".join(parts[-4:] if "wallpapers" in pick.package else parts[-2:])
            yield f"{pick.package}__{stem}", image


def night_lights(cache: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield windows with lights of two world maps: at least 0.4 % of the pixels are above a level per map."""
    maps = {
        "three-globe": ("package/example/img/earth-night.jpg", 256, 70),
        "xplanet-images": ("usr/share/xplanet/images/night.jpg", 128, 100),
    }
    for name, (file, side, level) in maps.items():
        with Image.open(unpack(name, cache) / file) as opened:
            image = opened.convert("RGB")
        for top in range(0, image.height - side + 1, side):
            for left in range(0, image.width - side + 1, side):
                window = image.crop((left, top, left + side, top + side))
                if (np.asarray(window.convert("L")) > level).mean() > 0.004:
                    yield f"{name}__{left}_{top}", window


def radar(data: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield radar images: Sentinel-1 in dB as VV, VH and false color, and complex images of four polarizations."""

    def cut(name: str, values: np.ndarray, side: int) -> Iterator[tuple[str, Image.Image]]:
        low, high = np.percentile(values, (1, 99), axis=(0, 1))
        scaled = np.clip((values - low) / (high - low), 0, 1) * 255
        image = Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")
        yield name, image
        for top in range(0, image.height - side + 1, side):
            for left in range(0, image.width - side + 1, side):
                yield f"{name}__{left}_{top}", image.crop((left, top, left + side, top + side))

    for file in sorted((data / "terramesh/S1RTC").glob("*.tif")):
        with rasterio.open(file) as raster:
            vv, vh = raster.read()
        for name, values in (("vv", vv), ("vh", vh), ("color", np.stack((vv, vh, vv - vh), -1))):
            yield from cut(f"sentinel1__{file.stem}_{name}", values, 112)
    for file in sorted((data / "geotiff_fixtures/solaris").glob("sar_*.tif")):
        with rasterio.open(file) as raster:
            values = np.log1p(np.abs(raster.read(1)))
        yield from cut(f"complex__{file.stem}", values, 100)


def flat() -> Iterator[tuple[str, Image.Image]]:
    """Yield black, white, gray and colored images, and gradients."""
    for gray in (0, 8, 32, 64, 96, 128, 160, 192, 224, 255):
        yield f"gray_{gray:03d}", Image.new("RGB", (256, 256), (gray, gray, gray))
    rng = np.random.default_rng([SEED, 1])
    for number in range(20):
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        yield f"color_{number:02d}", Image.new("RGB", (256, 256), (red, green, blue))
    ramp = np.linspace(0, 1, 256)
    for number in range(20):
        first, second = rng.integers(0, 256, (2, 3))
        row = first + ramp[:, None] * (second - first)
        values = np.broadcast_to(row[None], (256, 256, 3)).round().astype(np.uint8)
        yield f"gradient_{number:02d}", Image.fromarray(np.rot90(values, number % 4).copy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets, for radar")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sets")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None  # maps of the world are large
    cache = options.out / ".packages"
    sets = {name: package_images(picks, cache) for name, picks in PICKS.items()}
    sets |= {"night_lights": night_lights(cache), "sar": radar(options.data), "flat": flat()}
    licenses = {name: text for name, (_, text) in (DEBIAN | NPM).items()}
    rows = []
    for name, images in sets.items():
        (options.out / name).mkdir(parents=True, exist_ok=True)
        count = 0
        for stem, image in images:
            file = f"{name}/{stem}.png"
            image.save(options.out / file, compress_level=1)
            source = stem.split("__")[0]
            rows.append({"file": file, "set": name, "source": source, "license": licenses.get(source, "")})
            count += 1
        print(f"{name}: {count} images")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (options.out / "index.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

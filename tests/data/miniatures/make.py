"""Writes the miniature data sets next to it, in the layouts in which they are published, with contents of our own.

python tests/data/miniatures/make.py
"""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def image(size: tuple[int, int] = (64, 48), seed: int = 0, kind: str = "PNG") -> bytes:
    """Return an image of two colors, which differ by seed."""
    pixels = np.full((size[1], size[0], 3), (60 + 13 * seed % 120, 90, 70), np.uint8)
    pixels[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = (200, 40 + 17 * seed % 150, 30)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def write(place: str, content: bytes | str | list | dict) -> None:
    path = HERE / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list | dict):
        content = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def talk(image_name: str, *texts: str, **keys: object) -> dict:
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    return {"id": Path(image_name).stem, "image": image_name, "conversations": turns, **keys}


def llava() -> None:
    for number, name in enumerate(("00000.png", "00001.png")):
        write(f"geochat/images/final_images_llava/{name}", image((100, 50), number))
    write(
        "geochat/GeoChat_Instruct.json",
        [
            talk("00000.png", "<image>\n[refer] <p>small white plane</p>", "{<20><40><60><80>|<0>}"),
            talk("00000.png", "<image>\n[identify] {<40><40><50><60>|<45>}", "<p>plane</p>"),
            talk(
                "00001.png", "<image>\n[grounding] Describe the image.",
                "<p>Two ships</p> {<10><20><30><40>|<90>}{<50><20><70><40>|<90>} at <p>a port</p> {<0><0><9><9>|<0>}.",
            ),
            talk("00001.png", "<image>\nIs it a rural area?", "No", "And water?", "Yes"),
        ],
    )  # fmt: skip
    write("vrsbench/Images_train/Images_train/P0003_0002.png", image((512, 512), 2))
    write(
        "vrsbench/VRSBench_train.json",
        [
            talk("P0003_0002.png", "<image>\n[caption] Describe the image.", "A high-resolution image of a harbor."),
            talk("P0003_0002.png", "<image>\n[vqa] How many ships are there?", "3"),
            talk(
                "P0003_0002.png",
                "<image>\n[refer] give me the location of <p> The large ship </p>",
                "{<25><40><50><75>}",
            ),
        ],
    )
    write("fit_rs/imgv2_split_512_100_vaild/0000__512__0___0.png", image((512, 512), 3))
    write(
        "fit_rs/FIT-RS-train-1415k.json",
        [
            talk(
                "0000__512__0___0.png", "<image>\n[grounding]Where are the ships?",
                "There are <ref>two ships</ref><rbox>({<25.00><50.00><20.00><10.00>|<90>},"
                "{<60.50><40.25><20.00><10.00>|<30>})</rbox> in the image.",
            )
        ],
    )  # fmt: skip
    write("vhm/DOTA-train/P0001.png", image((80, 80), 4))
    write("vhm/FBP/P0001.png", image((80, 80), 5))
    write(
        "vhm/list_sft.json",
        [
            talk("P0001.png", "<image>\n{VQA} What color is the court?", "Red.", source_dataset="DOTA-train"),
            talk("P0001.png", "<image>\n{IDK} Where is the plane?", "There is no plane.", source_dataset="FBP"),
        ],
    )


def lhrs_instruct() -> None:
    write("lhrs_instruct/RSITMD_Image/airport_1.png", image(seed=6))
    pairs = [{"Question": "<image>What is it?", "Answer": "An airport."}, {"Question": "Big?", "Answer": "Yes."}]
    write("lhrs_instruct/RSITMD.json", {"data": [{"name": "airport_1.png", "conv": pairs}]})
    write("lhrs_instruct/RSVG_Image/1.png", image((100, 100), 7))
    row = {"img": "1.png", "question": "Where is <ref>the tank</ref>?", "answer": "[0.10, 0.20, 0.35, 0.40]"}
    write("lhrs_instruct/RSVG.json", [row])
    write("lhrs_align/Share_OSM_Image/China/Nanjing/China_1_a.jpg", image(seed=8, kind="JPEG"))
    captions = {"cap": "A river.", "caption": "A river bends."}
    item = {"name": "China_1_a", "info": {"location": ["China", "Nanjing"]}, **captions}
    write("lhrs_align/OSMCapAnn/features_01.json", {"data": [item]})


def messages() -> None:
    for number in range(3):
        write(f"messages/images/{number}.png", image((200, 100), number))
    plain = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A port."}]
    grounded = [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "<image>Find the <ref-object>."},
        {"role": "assistant", "content": "<bbox><bbox>"},
    ]
    objects = {"ref": ["ship"], "bbox": [[10, 20, 30.5, 40], [100, 50, 140, 90]]}
    two = [{"role": "user", "content": "<image><image>What changed?"}, {"role": "assistant", "content": "A road."}]
    rows = [
        {"messages": plain, "images": ["images/0.png"]},
        {"messages": grounded, "images": [{"path": "images/1.png", "bytes": None}], "objects": objects},
        {"messages": two, "images": ["images/0.png", "images/2.png"]},
    ]
    write("messages/swift.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    parts = [{"type": "image", "image": "images/0.png"}, {"type": "text", "text": "Find the ship."}]
    answer = "<|object_ref_start|>the ship<|object_ref_end|><|box_start|>(100,200),(500,800)<|box_end|>"
    qwen = [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    write("messages/qwen.jsonl", json.dumps({"messages": qwen}) + "\n")
    url = {"type": "image_url", "image_url": {"url": "images/2.png"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, url]}
    openai = [{"role": "developer", "content": "Be brief."}, asked, {"role": "assistant", "content": "A road."}]
    write("messages/openai.jsonl", json.dumps({"messages": openai}) + "\n")
    write("messages/llama_factory.json", [{"messages": plain, "images": ["images/1.png"]}])


def tar(place: str, members: dict[str, bytes | str]) -> None:
    path = HERE / place
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def webdataset() -> None:
    members: dict[str, bytes | str] = {}
    for patch in (607, 608):
        texts = [f"A road crosses patch {patch}.", f"Patch {patch} shows a road."]
        annotations = [{"task": task, "text": text} for task, text in zip((2, 3), texts, strict=True)]
        row = {"metadata": {"patch_id": patch, "image_name": "m_1"}, "annotations": annotations}
        members[f"{patch}.jpg"] = image((44, 44), patch % 7, "JPEG")
        members[f"{patch}.txt"] = "\n".join(texts)
        members[f"{patch}.json"] = json.dumps(row)
    tar("rsteller/Patches0000.tar", members)
    for seed, kind, split in ((1, "pub11", "train"), (3, "rs3", "val")):
        tar(
            f"rs5m/{kind}-{split}-0000.tar",
            {
                "000.caption": f"a satellite image of {kind}", "000.img_content": image((32, 32), seed, "JPEG"),
                "000.img_name": "x.jpg", "001.caption": "fields", "001.img_content": image((32, 32), seed + 1, "JPEG"),
                "001.img_name": "y.jpg",
            },
        )  # fmt: skip


def captions() -> None:
    def entry(name: str, split: str, *texts: str) -> dict:
        sentences = [{"tokens": text.split(), "raw": text, "imgid": 0, "sentid": n} for n, text in enumerate(texts)]
        return {"filename": name, "imgid": 0, "sentences": sentences, "split": split, "sentids": [0]}

    write("rsicd/RSICD_images/airport_1.jpg", image((224, 224), 1, "JPEG"))
    write("rsicd/RSICD_images/river_2.jpg", image((224, 224), 2, "JPEG"))
    entries = [
        entry("airport_1.jpg", "train", "many planes .", "an airport ."),
        entry("river_2.jpg", "test", "a river ."),
    ]
    write("rsicd/dataset_rsicd.json", {"images": entries, "dataset": "rsicd"})
    write("ucm_captions/imgs/1.tif", tif(image((256, 256), 3)))
    write("ucm_captions/dataset.json", {"images": [entry("1.tif", "val", "There is a field .")], "dataset": "ucm"})
    write("nwpu_captions/NWPU_images/airplane/airplane_001.jpg", image((256, 256), 4, "JPEG"))
    raw = {"raw": "Three planes .", "raw_1": "Planes stand .", "sentids": 0, "sentids_1": 1, "imgid": 0}
    row = {"filename": "airplane_001.jpg", "split": "train", **raw}
    write("nwpu_captions/dataset_nwpu.json", {"airplane": [row]})
    table = [
        ["filepath", "title", "title_multi_objects"],
        ["images2/a1_CH_19.jpg", "a hedge", '"a hedge, surrounded by ""farmland"""'],
        ["images2/n2_US_21.jpg", "a pier", "a pier"],
    ]
    write("skyscript/dataframe/SkyScript_train_top30pct.csv", "".join(",".join(row) + "\n" for row in table))
    write("skyscript/images2/a1_CH_19.jpg", image(seed=5, kind="JPEG"))
    write("skyscript/images2/n2_US_21.jpg", image(seed=6, kind="JPEG"))
    for seed, split, caption in ((7, "train", "This image shows crops."), (8, "val", ["Mostly forest."])):
        write(f"chatearthnet/s2_rgb_images/s2_images/{seed}.png", image((256, 256), seed))
        rows = [{"image_id": f"{seed}.png", "caption": caption}]
        write(f"chatearthnet/json_files/ChatEarthNet_caps_35_{split}.json", rows)
    for split, flag, text in (("train", 1, " two houses appear . "), ("test", 0, "nothing has changed .")):
        for date in "AB":
            write(f"levir_cc/images/{split}/{date}/{split}_000001.png", image((256, 256), 2 * flag + ord(date) % 2))
        pair = entry(f"{split}_000001.png", split, text, "second sentence .") | {"filepath": split, "changeflag": flag}
        entries = [pair] if split == "train" else [*entries, pair]
    write("levir_cc/LevirCCcaptions.json", {"images": entries, "dataset": "LEVIR_CC"})


def tif(content: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, format="TIFF", compression="tiff_deflate")
    return buffer.getvalue()


def bigearthnet() -> None:
    import pyarrow
    import rasterio
    from pyarrow import parquet

    tile = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
    folder = HERE / f"bigearthnet_txt/BigEarthNet-S2/{tile}/{tile}_26_57"
    folder.mkdir(parents=True, exist_ok=True)
    for band, side in {"B02": 120, "B03": 120, "B04": 120, "B08": 120, "B05": 60, "B11": 60, "B01": 20}.items():
        values = np.linspace(200, 3000, side * side).reshape(1, side, side).astype(np.uint16)
        transform = rasterio.Affine(1200 / side, 0, 300000, 0, -1200 / side, 5900000)
        profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
        with rasterio.open(
            folder / f"{folder.name}_{band}.tif", "w", **profile, transform=transform, compress="deflate"
        ) as f:
            f.write(values)
    common = {"patch_id": folder.name, "s1_name": "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57", "country": "Austria"}
    box = "Where is <ref>the lake</ref> at <point>(0.3, 0.4)</point>?"
    rows = [
        {"ID": 0, "input": "Describe the image.", "output": "A lake.", "type": "captioning", "split": "train"},
        {"ID": 1, "input": box, "output": "[0.25 0.3, 0.5 0.75]", "type": "bounding box", "split": "train"},
        {"ID": 2, "input": "Is there a forest?", "output": "no", "type": "binary", "split": "train"},
    ]
    table = pyarrow.Table.from_pylist([common | row for row in rows])
    parquet.write_table(table, HERE / "bigearthnet_txt/BigEarthNet.txt.parquet", row_group_size=2)


if __name__ == "__main__":
    for place in HERE.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
    for make in (llava, lhrs_instruct, messages, webdataset, captions, bigearthnet):
        make()

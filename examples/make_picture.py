"""Draw docs/ask.png: the example image, and what the embedded model answers when asked about it now.

uv run examples/make_picture.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import lhrs

HERE = Path(__file__).parent
QUESTIONS = [
    "What is the land cover in this image?",
    "Is there a river in this image?",
    "Is there a harbor?",
    "Who is the mayor?",
]
SIDE, WIDTH, PAD = 320, 940, 24


def main() -> None:
    """Ask, and draw questions and answers beside the image."""
    model = lhrs.load()
    picture = Image.new("RGB", (WIDTH, SIDE + 2 * PAD), "#111820")
    with Image.open(HERE / "river.png") as image:
        picture.paste(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST), (PAD, PAD))
    draw = ImageDraw.Draw(picture)
    small, large = ImageFont.load_default(17), ImageFont.load_default(22)
    y = PAD
    for question in QUESTIONS:
        answer = model.ask(HERE / "river.tif", question)
        draw.text((SIDE + 2 * PAD, y), f'lhrs ask river.tif "{question}"', fill="#8fa3b5", font=small)
        draw.text((SIDE + 2 * PAD, y + 25), f"{answer.answer}   ({answer.confidence:.0%})", fill="#f0e442", font=large)
        y += 82
    target = HERE.parent / "docs/ask.png"
    target.parent.mkdir(exist_ok=True)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    main()

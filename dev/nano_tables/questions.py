"""The transcript of the questions that were written from the images alone; it is graded by eye."""

from dev.gold_windows import GOLD, read_rows
from dev.nano_tables.report import Section
from dev.nano_tables.subject import Subject, gsd_m

from lhrs.inference.tasks import ask_task


def questions(subject: Subject) -> Section:
    """Ask all questions in their chats, and return the transcript."""
    section = Section("Questions on twelve places: transcript")
    assistant = subject.assistant
    transcript = []
    for row in read_rows(GOLD / "questions80.jsonl")[: subject.limit]:
        images = list(subject.open([subject.data / name for name in row["images"]]))
        history: list[tuple[str, str]] = []
        turns = []
        for number, question in enumerate([*row["turns"], row["question"]]):
            task = ask_task(assistant.runtime.family, question, history=history)
            request = assistant.request([image.pixels for image in images], task, number, gsd_m(images[0]))
            reply = assistant.runtime.generate([request])[0]
            history.append((task.prompt, reply.text))
            answer = assistant.answer("", images[0], task, reply)
            turns.append({"question": question, "answer": answer.answer, "confidence": answer.confidence,
                          "boxes": len(answer.boxes), "out_of_distribution": answer.out_of_distribution})  # fmt: skip
        transcript.append({**row, "turns": turns[:-1], **turns[-1]})
    section.details["transcript"] = transcript
    section.notes = [_lines(row) for row in transcript]
    return section


def _lines(row: dict) -> str:
    """Return the chat about one question as Markdown."""
    lines = [f"**{row['id']}** ({row['kind']}) `{'`, `'.join(row['images'])}`"]
    for turn in [*row["turns"], row]:
        sure = "" if turn["confidence"] is None else f" ({turn['confidence']:.2f})"
        boxes = f" [{turn['boxes']} boxes]" if turn["boxes"] else ""
        flag = " [out of distribution]" if turn["out_of_distribution"] else ""
        lines += [f"  Q: {turn['question']}", f"  A: {turn['answer']}{sure}{boxes}{flag}"]
    lines.append(f"  right: {row['right']}" + (f"; refusal: {row['refusal_ok']}" if row["refusal_ok"] else ""))
    return "  \n".join(lines)

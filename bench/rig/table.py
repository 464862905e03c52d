"""Tables as the README shows them, and the same figures as JSON beside them."""

import json
import statistics
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "out"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures and stand right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def spread(values: list[float], digits: int = 1) -> str:
    """Median and range of the rounds."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def publish(name: str, text: str, data: dict) -> None:
    """Prints a section and keeps it, with its raw figures, in bench/out."""
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.md").write_text(text + "\n")
    (OUT / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print(text + "\n", flush=True)


def forget(names: list[str]) -> None:
    """Removes what an earlier run left, so that nothing old is taken for new."""
    for name in names:
        for suffix in (".md", ".json"):
            (OUT / f"{name}{suffix}").unlink(missing_ok=True)

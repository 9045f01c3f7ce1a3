"""The messages of bad input: tests/messages.txt has each once, with its place, code and path; this writes it anew.

    PYTHONPATH=. python tests/messages.py

Tests compare codes and paths. A message that was reworded changes this one file: write it anew, and read what changed.
"""

from pathlib import Path

from torussim.errors import Mistake, ScenarioError
from torussim.scenario import load

HERE = Path(__file__).resolve().parent / "bad"
MESSAGES = HERE.parent / "messages.txt"
FILES = sorted(p for p in HERE.iterdir() if p.is_file() and b"# expect " in p.read_bytes())
RENEW = "PYTHONPATH=. python tests/messages.py writes tests/messages.txt anew"


def of(file):
    """Return the mistakes of a file."""
    try:
        load(file)
    except ScenarioError as error:
        return list(error.mistakes)
    return []


def known(mistake):
    """Return code and path of a mistake as files of examples have them: "topology: topology.links.0"; "." is the whole file."""
    return f"{mistake.code}: {'.'.join(map(str, mistake.path)) or '.'}"


def paragraph(file, found):
    """Return the mistakes of a file as the file of examples has them."""
    lines = [file.name]
    for mistake in found:
        assert isinstance(mistake, Mistake) and mistake.mark
        text = mistake.text.replace(str(HERE), "{here}")
        lines += [f"  {mistake.mark.line}:{mistake.mark.column} {known(mistake)}", f"    {text}"]
    return "\n".join(lines)


def paragraphs():
    """Return the paragraphs of the file of examples by the names of their files."""
    return {part.partition("\n")[0]: part for part in MESSAGES.read_text().rstrip("\n").split("\n\n")}


if __name__ == "__main__":
    MESSAGES.write_text("\n\n".join(paragraph(file, of(file)) for file in FILES) + "\n")

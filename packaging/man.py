"""man.py NAME SECTION PAGE.md: a page of the documentation as a manual page, so that nothing is said twice.

Knows what the documents here use: headings, paragraphs, lists, tables, code blocks, and `code`, **bold**, *emphasis*, [links](to).
"""

import re
import sys


def text(line):
    """One line's worth of running text."""
    line = line.replace("\\", "\\e")
    line = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line)
    parts = re.split(r"(`[^`]*`|\*\*[^*]+\*\*|(?<![\w*])\*[^*\s][^*]*\*)", line)
    for at in range(1, len(parts), 2):
        part = parts[at]
        if part.startswith("`"):
            parts[at] = "\\fB" + part[1:-1] + "\\fR"
        elif part.startswith("**"):
            parts[at] = "\\fB" + part[2:-2].replace("`", "") + "\\fR"
        else:
            parts[at] = "\\fI" + part[1:-1] + "\\fR"
    return guarded("".join(parts).replace("-", "\\-"))


def guarded(line):
    """A dot or an apostrophe at the start of a line is roff's."""
    return "\\&" + line if line.startswith((".", "'")) else line


def table(rows):
    """A definition for each row: what the first cell says, then the rest."""
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))] for row in rows]
    for row in cells[2:]:
        yield ".TP"
        yield text(row[0]) or "\\&"
        yield text(" \u2014 ".join(cell for cell in row[1:] if cell)) or "\\&"


def convert(name, section, lines):
    title = lines[0].lstrip("# ").strip()
    yield f'.TH "{name.upper()}" "{section}" "" "Stockade" "Stockade"'
    yield ".SH NAME"
    yield f"{name} \\- {text(title[0].lower() + title[1:])}"
    yield ".SH DESCRIPTION"
    rows, in_code, in_list = [], False, False
    for line in lines[1:] + [""]:
        if rows and not line.startswith("|"):
            yield from table(rows)
            yield ".PP"
            rows = []
        if line.startswith("```"):
            yield from ([".RE", ".fi", ".PP"] if in_code else [".PP", ".nf", ".RS 4"])
            in_code = not in_code
        elif in_code:
            yield guarded(line.replace("\\", "\\e").replace("-", "\\-")) or "\\&"
        elif line.startswith("|"):
            rows.append(line)
        elif match := re.match(r"(#+) (.*)", line):
            yield f'.{"SH" if len(match[1]) == 2 else "SS"} "{text(match[2]).replace(chr(34), chr(39))}"'
        elif match := re.match(r"(?:[*-]|(\d+)\.) (.*)", line):
            yield f".IP {match[1] + '.' if match[1] else chr(92) + '(bu'} 3"
            yield text(match[2])
            in_list = True
        elif not line.strip():
            yield ".PP"
            in_list = False
        else:
            yield text(line.strip())


def tidy(lines):
    """No paragraph that is none."""
    last = ""
    for line in lines:
        if line == ".PP" and (last == ".PP" or last.startswith((".SH", ".SS"))):
            continue
        yield line
        last = line


page = open(sys.argv[3], encoding="utf-8").read().splitlines()
print("\n".join(tidy(list(convert(sys.argv[1], sys.argv[2], page)))).removesuffix("\n.PP"))

"""The examples in a page of the documentation: what is set as code, in parts, each of one kind."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\s*$")
MARK = re.compile(r"<!-- (?P<kind>example|file|fails|not run)(?:: (?P<text>.+?))? -->")
# The first word of a command, after assignments. A line that begins with one of these is a command.
_NAMES = """curl hotswap-proxy make export git docker kubectl helm printf echo cat kill systemctl journalctl
promtool amtool python python3 pip cp mv mkdir cd for while if openssl psql redis-cli apt-get jq nginx tail
grep sed sleep test ulimit sysctl install useradd sudo mktemp"""
PROGRAMS = re.compile(
    rf"(?:\$ )?(?:[A-Za-z_][A-Za-z0-9_]*=(?:\$\(|\S*).*|(?:{'|'.join(_NAMES.split())})\b.*)", re.DOTALL
)
HTTP = re.compile(r"(GET|POST|PUT|DELETE) +/\S+")
DECLARATIVE = {"version", "backends", "routes"}


@dataclass(frozen=True)
class Block:
    """``kind``: shell, json, yaml, or a fence's language, or "text". ``mark``: the comment right above it."""

    page: str
    line: int
    kind: str
    text: str
    mark: str = ""
    marked: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        return self.text.splitlines()[0].strip()


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    for line, language, lines, mark in _code(page.read_text().splitlines()):
        kind, text = (found_mark["kind"], found_mark["text"] or "") if (found_mark := mark) else ("", "")
        if language is None:  # indented: its parts may be of several kinds
            for offset, part in _parts(lines):
                found.append(Block(name(page), line + offset, _kind(part), part, kind, text))
        else:
            body = textwrap.dedent("\n".join(lines))
            told = {"sh": "shell", "bash": "shell", "console": "shell", "yml": "yaml", "": None}
            found.append(
                Block(name(page), line, told.get(language, language) or _kind(body), body, kind, text)
            )
    return found


def _code(lines: list[str]) -> Iterator[tuple[int, str | None, list[str], re.Match[str] | None]]:
    """(line, language or None if indented, lines, comment above) of each block of code."""
    index = 0
    above: re.Match[str] | None = None
    while index < len(lines):
        line = lines[index]
        start = index
        if fence := FENCE.match(line.strip()):
            index += 1
            while not lines[index].strip().startswith("```"):
                index += 1
            yield start + 2, fence[1], lines[start + 1 : index], above
            above = None
        elif (
            re.match(r" {4,}\S", line)
            and (not start or not lines[start - 1].strip())
            and not _in_list(lines, start)
        ):
            while index + 1 < len(lines) and (
                lines[index + 1].startswith("    ") or _goes_on(lines, index + 1)
            ):
                index += 1
            yield start + 1, None, lines[start : index + 1], above
            above = None
        elif line.strip():
            above = MARK.search(line)
        index += 1


def _goes_on(lines: list[str], index: int) -> bool:
    return not lines[index].strip() and any(
        following.startswith("    ") for following in lines[index + 1 : index + 2]
    )


def _in_list(lines: list[str], index: int) -> bool:
    """Whether what is indented at ``index`` is text of a list's item: its item's text begins there too."""
    depth = len(lines[index]) - len(lines[index].lstrip())
    for line in reversed(lines[:index]):
        if line.strip() and not line.startswith(" "):
            marker = re.match(r"([-*]|\d+\.)\s+", line)
            return bool(marker) and depth < len(marker[0]) + 4 if marker else False
    return False


def _parts(lines: list[str]) -> Iterator[tuple[int, str]]:
    """An indented block in parts of one kind: it is parted at an empty line where the kind changes."""
    text = textwrap.dedent("\n".join(lines)).splitlines()
    parts: list[tuple[int, list[str]]] = []
    for index, line in enumerate(text):
        if not line.strip() and index + 1 < len(text) and not text[index + 1].startswith((" ", "\t")):
            parts.append((index + 1, []))
        elif not parts:
            parts.append((index, [line]))
        else:
            parts[-1][1].append(line)
    joined: list[tuple[int, str]] = []
    for offset, part in parts:
        body = "\n".join(part)
        if joined and _kind(joined[-1][1]) == _kind(body):
            joined[-1] = (joined[-1][0], f"{joined[-1][1]}\n\n{body}")
        else:
            joined.append((offset, body))
    return iter(joined)


def _kind(text: str) -> str:
    if PROGRAMS.match(text):
        return "shell"
    if text.startswith(("{", "[")):
        return "json"
    document = loaded(text)
    if isinstance(document, dict) and all(
        isinstance(key, str) and re.fullmatch(r"\w+", key) for key in document
    ):
        return "yaml"
    return "text"


def loaded(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def commands(text: str) -> list[str]:
    """The commands of a shell block, each with its continuations; of lines with prompts, what follows."""
    prompted = any(line.startswith("$ ") for line in text.splitlines())
    found: list[str] = []
    going_on = False
    for line in text.splitlines():
        if prompted and not going_on:
            if not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
        if going_on:
            found[-1] += "\n" + line
        elif line.strip():
            found.append(line)
        going_on = bool(found) and _open(found[-1])
    return found


def _open(command: str) -> bool:
    """Whether a shell would ask for the rest."""
    text = re.sub(r"\\.", "", command)
    return (
        command.endswith("\\") or text.count("'") % 2 == 1 or re.sub("'[^']*'", "", text).count('"') % 2 == 1
    )

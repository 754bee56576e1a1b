"""What a figure says of the run that made it: the metadata that `run.save` gives to PNG, SVG and PDF."""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

FACTS = ("Script", "Configuration", "Overrides", "Commit", "Job", "Run", "Trial")
PNG = b"\x89PNG\r\n\x1a\n"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
PDF_ENTRY = re.compile(rb"/(\w+) \(((?:[^\\()]|\\.)*)\)", re.DOTALL)
PDF_END = 1_000_000  # bytes, in which matplotlib writes them


def read_facts(path: Path) -> dict[str, str]:
    """What a figure says of its run, in the order of FACTS; nothing where it does not say which run that is."""
    reader = READERS.get(path.suffix.lower())
    found = reader(path) if reader else {}
    return {name: found[name] for name in FACTS if name in found} if "Run" in found else {}


def read_png(path: Path) -> dict[str, str]:
    """Its chunks tEXt and iTXt, by keyword."""
    texts: dict[str, str] = {}
    with path.open("rb") as file:
        if file.read(len(PNG)) != PNG:
            return {}
        while len(header := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", header)
            if kind == b"IDAT":
                break
            if kind in (b"tEXt", b"iTXt"):
                keyword, _, text = file.read(size).partition(b"\0")
                texts[keyword.decode("latin-1")] = decode_png_text(kind, text)
                size = 0
            file.seek(size + 4, os.SEEK_CUR)  # a checksum ends the chunk
    return texts


def decode_png_text(kind: bytes, text: bytes) -> str:
    if kind == b"tEXt":
        return text.decode("latin-1")
    return text[2:].split(b"\0", 2)[-1].decode(errors="replace")  # after two flags, a language and a translation


def read_svg(path: Path) -> dict[str, str]:
    """The lines `Name: value` of its description."""
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == DESCRIPTION:
                lines = (element.text or "").splitlines()
                return {name: value for name, _, value in (line.partition(": ") for line in lines)}
    except ElementTree.ParseError:
        pass
    return {}


def read_pdf(path: Path) -> dict[str, str]:
    """The texts of its dictionaries, of which one has the metadata."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - PDF_END, 0))
        entries = PDF_ENTRY.findall(file.read())
    return {name.decode("latin-1"): decode_pdf_text(text) for name, text in entries}


def decode_pdf_text(text: bytes) -> str:
    ends = {b"n": b"\n", b"r": b"\r"}
    plain = re.sub(rb"\\(.)", lambda match: ends.get(match[1], match[1]), text, flags=re.DOTALL)
    if plain.startswith(b"\xfe\xff"):
        return plain[2:].decode("utf-16-be", errors="replace")
    return plain.decode("latin-1")


READERS: dict[str, Callable[[Path], dict[str, str]]] = {".png": read_png, ".svg": read_svg, ".pdf": read_pdf}

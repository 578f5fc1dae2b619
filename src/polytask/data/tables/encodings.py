"""What a file that is no UTF-8 text may be instead, as a hint to the person who has it."""

from __future__ import annotations

_MAGIC = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"PK\x03\x04": "a zip archive or a workbook (.xlsx)",
    b"\xd0\xcf\x11\xe0": "a workbook (.xls)",
    b"PAR1": "Parquet",
    b"SQLite format 3": "a database",
}


def not_utf8(start: bytes, line: bytes, at: int) -> str:
    """Say why byte ``at`` of a line is not UTF-8, and what the file, which begins with ``start``, may be."""
    byte = f"0x{line[at]:02X}, which is not UTF-8"
    kind = _kind(start)
    if kind:
        return f"{byte}. It looks like {kind}; {_remedy(kind)}."
    if len(line) - at < 4 and line[at] >= 0xC2 and all(0x80 <= tail < 0xC0 for tail in line[at + 1 :]):
        return f"{byte}: the file ends in the middle of a character, as if it had been cut off."
    letter = line[at : at + 1].decode("cp1252", "replace")
    meant = f" (in Windows-1252 it would be '{letter}')" if letter.isprintable() and letter != "\ufffd" else ""
    remedy = ', or say encoding = "cp1252"' if meant else ""
    return f"{byte}{meant}. Save the table as UTF-8{remedy}."


def nul(start: bytes) -> str:
    """Say what a file that begins with ``start``, UTF-8 but for its NUL bytes, may be."""
    kind = _kind(start)
    return f"NUL. It looks like {kind}; {_remedy(kind)}." if kind else "NUL: not a text file."


def _kind(start: bytes) -> str:
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    # Without a byte-order mark, every other byte of Latin text in UTF-16 is NUL.
    some = start[:64]
    halves = [some[offset::2] for offset in (0, 1)]
    lopsided = {half.count(0) * 2 > len(half) for half in halves} == {True, False}
    return "UTF-16 without a byte-order mark" if len(some) > 3 and lopsided else ""


def _remedy(kind: str) -> str:
    if "archive" in kind and "workbook" not in kind:
        return "unpack it" + (", or let its name end in .gz" if "gzip" in kind else "")
    if kind == "Parquet":
        return "give it the suffix '.parquet'"
    if kind.startswith("UTF-16"):
        return 'say encoding = "utf-16-le" or "utf-16-be", or save the table as UTF-8'
    return "save the table as UTF-8" if kind.startswith("UTF") else "export the table as CSV in UTF-8"

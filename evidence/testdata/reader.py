#!/usr/bin/env python3
"""A reader of sherd packages in the standard library of Python and the program zstd, written from docs/evidence-format.md alone.

usage: reader.py PACKAGE    checks the package and prints a line of JSON for each artifact
"""
import base64
import hashlib
import json
import struct
import subprocess
import sys

SIGNATURE, SEEK, FOOTER = 0x184D2A50, 0x184D2A5E, 0x8F92EAB1


def unescape(s):
    out, i = bytearray(), 0
    while i < len(s):
        if s[i] != "\\":
            out += s[i].encode()
            i += 1
        elif s[i + 1] == "\\":
            out += b"\\"
            i += 2
        else:
            out.append(int(s[i + 2 : i + 4], 16))
            i += 4
    return bytes(out)


def seek_table(b):
    count, descriptor, magic = struct.unpack("<IBI", b[-9:])
    assert magic == FOOTER and descriptor == 0x80, "no seek table"
    size = 12 * count + 9
    start = len(b) - size - 8
    assert struct.unpack("<II", b[start : start + 8]) == (SEEK, size), "seek table header"
    entries = [struct.unpack("<III", b[start + 8 + 12 * i : start + 20 + 12 * i]) for i in range(count)]
    assert sum(e[0] for e in entries) == start, "seek table sum"
    return entries


def main(path):
    with open(path, "rb") as f:
        b = f.read()
    entries = seek_table(b)
    sig_at = sum(e[0] for e in entries[:-1])
    magic, size = struct.unpack("<II", b[sig_at : sig_at + 8])
    assert magic == SIGNATURE and size + 8 == entries[-1][0] and entries[-1][1] == 0, "signature frame"
    envelope = json.loads(b[sig_at + 8 : sig_at + 8 + size])
    statement = json.loads(base64.b64decode(envelope["payload"]))
    subjects = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert hashlib.sha256(b[:sig_at]).hexdigest() == subjects["package"], "package's hash"

    tar = subprocess.run(["zstd", "-dc", path], stdout=subprocess.PIPE, check=True).stdout
    span = statement["predicate"]["manifest"]
    at = span["offset"] + 512
    manifest = tar[at : at + span["size"]]
    assert hashlib.sha256(manifest).hexdigest() == subjects["manifest.json"], "manifest's hash"

    # Random access: the frame that begins at the manifest decompresses by itself.
    pos = start = 0
    for compressed, content, _ in entries[:-1]:
        if start == span["offset"]:
            one = subprocess.run(["zstd", "-dc"], input=b[pos : pos + compressed], stdout=subprocess.PIPE, check=True).stdout
            assert one == tar[start : start + content], "the manifest's frame"
        pos, start = pos + compressed, start + content
    assert start == len(tar), "content sizes"

    m = json.loads(manifest)
    assert m["format"] == 1 and m["count"] == len(m["artifacts"])
    for a in m["artifacts"]:
        if a["type"] == "file":
            at, content, end = a["offset"], bytearray(), 0
            for off, length in a.get("sparse", [[0, a["size"]]]):
                content += bytes(off - end) + tar[at : at + length]
                at, end = at + length, off + length
            content += bytes(a["size"] - end)
            assert hashlib.sha256(content).hexdigest() == a["sha256"], a["path"]
        print(json.dumps({"path": unescape(a["path"]).hex(), "sha256": a.get("sha256", "")}))


if __name__ == "__main__":
    main(sys.argv[1])

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health service as a wheel, made of this collection's own files. The same files give the same wheel, byte for byte.

Run on the controller by Ansible's Python. Prints JSON: ``version`` (the collection's, and a digest of the files) and ``wheel`` (its path in
a new folder, which the caller deletes; null without ``--build``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLLECTION = HERE.parents[2]
# Under the names by which they import each other. What Ansible alone needs stays out.
UTILS = "ansible_collections/keyfleet/hsm/plugins/module_utils"
LAYERS = ("_cryptoki", "_engine", "_model", "_registry")
NAME = "keyfleet_gateway"
_PACKED = (".py", ".j2", ".css")  # and no bytecode


def collection_version(collection: Path) -> str:
    """That of the checkout, or of the collection as it is installed."""
    manifest = collection / "MANIFEST.json"
    if manifest.exists():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    found = re.search(r"^version:\s*(\S+)$", (collection / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else "0"


def sources(collection: Path) -> Iterator[tuple[str, bytes]]:
    """Name in the wheel and content of each file, sorted."""
    folders = [(HERE / NAME, NAME)]
    folders += [(collection / "plugins" / "module_utils" / layer, f"{UTILS}/{layer}") for layer in LAYERS]
    for folder, name in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in _PACKED):
            yield f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def digest_of(content: bytes) -> str:
    """As RECORD has it: SHA-256 in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")


def wheel_version(collection: Path, files: list[tuple[str, bytes]]) -> str:
    whole = hashlib.sha256()
    for name, content in files:
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    # PEP 440: what is behind the plus is a local version.
    return f"{collection_version(collection).replace('-', '.dev0.')}+{whole.hexdigest()[:16]}"


def build(files: list[tuple[str, bytes]], version: str, folder: Path) -> Path:
    """Write the wheel (PEP 427) into ``folder``."""
    info = f"{NAME}-{version}.dist-info"
    entries = [
        *files,
        (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME.replace('_', '-')}\nVersion: {version}\n".encode()),
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: keyfleet.hsm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    ]
    record = "".join(f"{name},sha256={digest_of(content)},{len(content)}\n" for name, content in entries)
    path = folder / f"{NAME}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*entries, (f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode())]:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def main(building: bool) -> None:
    files = list(sources(COLLECTION))
    version = wheel_version(COLLECTION, files)
    wheel = build(files, version, Path(tempfile.mkdtemp(prefix="keyfleet-gateway-"))) if building else None
    print(json.dumps({"version": version, "wheel": wheel and str(wheel)}))


if __name__ == "__main__":
    main(sys.argv[1:] == ["--build"])

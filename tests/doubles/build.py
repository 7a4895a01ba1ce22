# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the TEST DOUBLES of the two vendor packages: ``python3 tests/doubles/build.py --out DIR``. See README.md.

Needs dpkg-deb and Python's standard library. The same options give the same bytes, so that a package that is built again is
no change for whoever compares checksums. Prints the path of each package.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHEBANG = "#!/usr/bin/python3\n"
EPOCH = "1767225600"  # every file's date, 1 January 2026


@dataclass(frozen=True)
class Double:
    """A package: where its parts go, and what its control file says."""

    folder: str
    package: str
    summary: str
    depends: str
    file_name: str  # with {version} and {architecture}; the vendor's need not name either
    files: dict[str, tuple[str, int]]  # target: source below the folder, mode
    programs: tuple[str, ...]
    conffiles: tuple[str, ...]
    scripts: tuple[str, ...]
    folders: tuple[str, ...] = field(default=())


KMS = Double(
    folder="cosmian_kms",
    package="cosmian-kms-server-non-fips",
    summary="TEST DOUBLE of the Eviden (Cosmian) KMS server: keeps no key",
    depends="python3 (>= 3.11)",
    file_name="cosmian-kms-server-non-fips-static-openssl_{version}_{architecture}.deb",
    files={
        "usr/sbin/cosmian_kms": ("server.py", 0o500),
        "usr/lib/systemd/system/cosmian_kms.service": ("cosmian_kms.service", 0o644),
        "etc/cosmian/kms.toml": ("kms.toml", 0o400),
    },
    programs=("usr/sbin/cosmian_kms",),
    conffiles=("/etc/cosmian/kms.toml",),
    scripts=("preinst", "postinst", "prerm", "postrm"),
    folders=("var/lib/cosmian", "var/log/cosmian"),
)
GATEWAY = Double(
    folder="ftx_hmg",
    package="fortanix-hsm-gateway",
    summary="TEST DOUBLE of the Fortanix HSM gateway: speaks to no HSM",
    depends="python3 (>= 3.11), openssl",
    file_name="fortanix-hsm-gateway-{version}-{architecture}.deb",
    files={
        "usr/sbin/ftx-hmg": ("gateway.py", 0o755),
        "usr/lib/systemd/system/ftx-hmg.service": ("ftx-hmg.service", 0o644),
        "etc/default/ftx-hmg": ("ftx-hmg.default", 0o644),
    },
    programs=("usr/sbin/ftx-hmg",),
    conffiles=("/etc/default/ftx-hmg",),
    scripts=("postinst", "prerm", "postrm"),
)


def build(double: Double, out: Path, version: str, architecture: str) -> Path:
    source = HERE / double.folder
    out.mkdir(parents=True, exist_ok=True)
    target = out / double.file_name.format(version=version, architecture=architecture)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        for folder in double.folders:
            (root / folder).mkdir(parents=True)
        for name, (part, mode) in double.files.items():
            text = (source / part).read_text(encoding="utf-8").replace("@VERSION@", version)
            _write(root / name, (SHEBANG if name in double.programs else "") + text, mode)
        control = {
            "Package": double.package,
            "Version": version,
            "Architecture": architecture,
            "Maintainer": "keyfleet.hsm contributors <double@invalid>",
            "Depends": double.depends,
            "Description": double.summary,
        }
        _write(root / "DEBIAN" / "control", "".join(f"{name}: {value}\n" for name, value in control.items()), 0o644)
        _write(root / "DEBIAN" / "conffiles", "".join(f"{name}\n" for name in double.conffiles), 0o644)
        for script in double.scripts:
            _write(root / "DEBIAN" / script, (source / f"{script}.sh").read_text(encoding="utf-8"), 0o755)
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)  # whatever the umask
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, target],
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return target


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the test doubles of the vendor packages")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the packages go")
    parser.add_argument("--kms-version", default="5.26.0", metavar="VERSION")
    parser.add_argument("--gateway-version", default="3.20.1917", metavar="VERSION")
    parser.add_argument("--architecture", default="amd64", help="what the packages say they are for; the programs run anywhere")
    given = parser.parse_args()
    print(build(KMS, given.out, given.kms_version, given.architecture))
    print(build(GATEWAY, given.out, given.gateway_version, given.architecture))


if __name__ == "__main__":
    main()

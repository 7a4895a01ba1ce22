# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check an installed collection: no file that is not a source, no source left out, every plugin documented.

Arguments: the collection's folder, a file that lists the sources (each ended by a NUL), and the output of
``ansible-doc --metadata-dump`` for the collection.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Made by ansible-galaxy, in place of galaxy.yml.
GENERATED = {"MANIFEST.json", "FILES.json"}
# Sources that build_ignore keeps at home.
AT_HOME = {".ci/run", ".github/workflows/ci.yml", ".gitignore", ".pre-commit-config.yaml", "galaxy.yml"}


def main(folder: Path, sources: Path, dump: Path) -> int:
    """Print every fault, or what there is, and return the exit code."""
    wanted = {name for name in sources.read_text().split("\0") if name} - AT_HOME
    packed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - GENERATED
    faults = [f"in the archive, but no source: {name}" for name in sorted(packed - wanted)]
    faults += [f"not in the archive: {name}" for name in sorted(wanted - packed)]

    pages = json.loads(dump.read_text())["all"]
    documented = {(kind, name.split(".", 2)[2]) for kind in pages for name in pages[kind] if name.startswith("keyfleet.hsm.")}
    plugins = {("module", path.stem) for path in folder.glob("plugins/modules/*.py")}
    plugins |= {("role", path.parts[-3]) for path in folder.glob("roles/*/meta/argument_specs.yml")}
    faults += [f"ansible-doc knows nothing of the {kind} {name}" for kind, name in sorted(plugins - documented)]
    faults += [] if any("module" in plugin for plugin in plugins) else ["the archive has no module"]

    print("\n".join(faults) or f"{len(packed)} files, and documentation for {len(documented)} plugins and roles")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))

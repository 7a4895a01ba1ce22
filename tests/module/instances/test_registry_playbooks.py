# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks registry_backup and registry_restore, with this machine as the host."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsm_fixture import PIN, Hsm, ok


def play(hsm: Hsm, name: str, *options: str, code: int = 0, **variables: Any) -> tuple[int, str]:
    """How many tasks have changed something, and the output without line breaks."""
    given = {"hsm_registry": hsm.registry, "registry_backup_folder": f"{hsm.scratch}/kept", **variables}
    inventory = hsm.scratch / "hosts.yml"
    local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"hsm": {"hosts": {"one": local}}}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "-e", json.dumps(given), *options]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "TMPDIR": str(hsm.scratch / "tmp"), "ANSIBLE_HOME": str(hsm.scratch / "ansible")}
    (hsm.scratch / "tmp").mkdir(exist_ok=True)
    done = subprocess.run([*command, f"keyfleet.hsm.{name}"], env=environment, capture_output=True, text=True, check=False, timeout=240)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert PIN not in output
    assert not list((hsm.scratch / "tmp").glob("*.keyfleet"))
    changed = re.search(r"changed=(\d+)", output)
    return int(changed[1]) if changed else -1, " ".join(output.split())


def test_a_registry_is_backed_up_lost_and_restored(primary: Hsm) -> None:
    ok(primary.keys({"label": "dek", "type": "AES"}))
    kept = primary.scratch / "kept/one.db"
    assert play(primary, "registry_backup", "--check")[0] == 1 and not kept.exists()
    assert play(primary, "registry_backup")[0] == 1 and kept.stat().st_mode & 0o777 == 0o600
    first = kept.stat()
    assert list(kept.parent.iterdir()) == [kept] and not Path(f"{primary.registry}.backup").exists()
    assert play(primary, "registry_backup")[0] == 0 and kept.stat().st_mtime_ns == first.st_mtime_ns
    assert "registry_in_place" in play(primary, "registry_restore", code=2)[1]
    ok(primary.keys({"label": "later", "type": "AES"}, {"label": "dek", "state": "absent"}))
    Path(primary.registry).unlink()
    assert play(primary, "registry_restore", "--check")[0] == 1 and not Path(primary.registry).exists()
    changed, output = play(primary, "registry_restore")
    assert changed == 2  # the file, and the key that the backup lacked
    told = [("only the backup knew", "dek"), ("only the tokens had", "later")]
    assert all(re.search(rf'"{what}": \[ "hsm::softhsm2::\d+::{label}" \]', output) for what, label in told), output

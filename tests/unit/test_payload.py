# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible sends to a host for one task does not grow unseen. ``make bench BENCH_ARGS="--payload MODULE"`` says what makes it large."""

from __future__ import annotations

import zlib

import pytest
from imports import PLUGINS, needed_by
from payload import sent

# KiB that our own files may take, each compressed as in the archive. A module that needs more says so here, and one that needs less, too.
MOST = {
    "gateway_certificate": 60,
    "host_look": 32,
    "hsm_certificate": 176,
    "hsm_group": 68,
    "hsm_info": 138,
    "hsm_instance": 154,
    "hsm_key": 266,
    "hsm_registry": 40,
    "hsm_status": 178,
    "hsm_status_info": 176,
    "hsm_sync": 276,
    "kms_config": 174,
}
_LOOSE = 8
FOLDER = "ansible_collections/keyfleet/hsm/plugins/"
# Whether what fetches pages goes along.
FETCHES = {"hsm_key": False, "hsm_status_info": True}


def compressed(name: str) -> dict[str, int]:
    """The collection's files that are sent with a module, and the bytes of each in the archive."""
    found = {}
    for path in needed_by(PLUGINS / "modules" / f"{name}.py"):
        packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        found[path.relative_to(PLUGINS).as_posix()] = len(packing.compress(path.read_bytes()) + packing.flush())
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in (PLUGINS / "modules").glob("*.py")))
def test_what_is_sent_does_not_grow_unseen(name: str) -> None:
    size = sum(compressed(name).values())
    assert (MOST[name] - _LOOSE) * 1024 < size <= MOST[name] * 1024, f"{size / 1024:.1f} KiB"


def test_this_is_what_ansible_sends() -> None:
    for name, payload in sent(*(f"keyfleet.hsm.{name}" for name in FETCHES)).items():
        module = name.rpartition(".")[2]
        ours = {file.removeprefix(FOLDER): size for file, size in payload["files"].items() if file.startswith(FOLDER)}
        assert {file: size for file, size in ours.items() if not file.endswith("__init__.py")} == compressed(module)
        assert ("ansible/module_utils/urls.py" in payload["files"]) is FETCHES[module], name


def test_an_import_is_charged_with_what_it_alone_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGINS.parent / "tests")
    from bench import payloads

    files = {f"{FOLDER}{name}": size for name, size in compressed("host_look").items()}
    brought = {(row[2], row[3]): int(row[1]) for row in payloads.heaviest("host_look", files)[1:]}
    assert brought["modules/host_look.py", "_engine/host_look.py"] == 1
    assert brought["modules/host_look.py", "_module/run.py"] == 3  # with naming and runtime, which nothing else imports
    assert ("_module/run.py", "_module/guarded.py") not in brought  # the module imports it, too

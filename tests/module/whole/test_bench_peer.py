# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make bench BENCH_ARGS=--peer`` without OpenTofu and its provider, which nobody has to have: what it refuses, writes, runs and reports.

A script stands in for OpenTofu. It is a double: it makes no keys, and that a real one takes the configuration is not shown here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from hsm_fixture import PIN

TESTS = Path(__file__).resolve().parents[2]
DOUBLE = """#!/bin/sh
[ "$1" != version ] || exec echo 'OpenTofu v1.2.3'
printf '%s\\n' "$@" >argv
env >environment
echo 'Apply complete! Resources: 3 added, 0 changed, 0 destroyed.'
"""


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TESTS)
    from bench import peer

    return peer


def program(path: Path, text: str = DOUBLE) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_all_that_is_wrong_with_the_two_binaries_is_told_at_once(tmp_path: Path, peer: ModuleType) -> None:
    (tmp_path / "plain").touch()
    with pytest.raises(peer.Missing) as refused:
        peer.Binaries.named({"KEYFLEET_TOFU": f"{tmp_path}", "KEYFLEET_TOFU_PROVIDER": f"{tmp_path}/plain"})
    assert str(refused.value) == (
        f"KEYFLEET_TOFU: {tmp_path} is not a file: name OpenTofu's or Terraform's binary; "
        f"KEYFLEET_TOFU_PROVIDER: {tmp_path}/plain is not executable: chmod +x, or name that of terraform-provider-pkcs11. "
        "CONTRIBUTING.md says how one gets them"
    )


def test_versions_are_told_and_another_program_is_refused(tmp_path: Path, peer: ModuleType) -> None:
    tofu, other = program(tmp_path / "tofu"), program(tmp_path / "other", "#!/bin/sh\necho other v1\n")
    assert re.fullmatch(r"peer: OpenTofu v1\.2\.3 with other, SHA-256 [0-9a-f]{16}\.\.\.", peer.Binaries(tofu, other).line())
    with pytest.raises(peer.Failed, match=r"KEYFLEET_TOFU: .* does not answer 'version' as OpenTofu or Terraform"):
        peer.Binaries(other, tofu).line()


def test_the_keys_are_declared_as_hsm_key_makes_them(peer: ModuleType) -> None:
    switches = {"token": True, "private_flag": True, "sensitive": True, "extractable": False, "encrypt": True, "decrypt": True}
    switches |= {"wrap": False, "unwrap": False, "sign": False, "verify": False, "derive": False}
    assert peer.configuration("/lib/hsm.so", 200) == {
        "terraform": {"required_providers": {"pkcs11": {"source": "blechschmidt/pkcs11"}}},
        "provider": {"pkcs11": {"module_path": "/lib/hsm.so", "token_label": "payments", "pin": PIN}},
        "resource": {
            "pkcs11_symmetric_key": {
                "keys": {
                    "count": 200,
                    "mechanism": "CKM_AES_KEY_GEN",
                    "value_len": 32,
                    "label": "key-${count.index + 1}",
                    "key_id": '${base64encode("key-${count.index + 1}")}',
                    **switches,
                }
            }
        },
    }


def test_an_apply_runs_with_its_own_settings_and_no_pin_in_sight(tmp_path: Path, peer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.hsm import without_token

    for variable in ("TF_LOG", "TF_CLI_ARGS_apply", "PKCS11_SLOT_ID"):
        monkeypatch.setenv(variable, "somebody's own")
    binaries = peer.Binaries(program(tmp_path / "tofu"), program(tmp_path / "terraform-provider-pkcs11_v1"))
    hsm = without_token(tmp_path / "hsm")
    prepared = peer.Peer.prepared(binaries, hsm, 3)
    assert prepared.apply(3).cpu > 0
    with pytest.raises(peer.Failed, match="the peer did not add 0 keys and nothing else:\nApply complete! Resources: 3 added"):
        prepared.apply(0)

    folder, plugins = tmp_path / "hsm" / "peer", tmp_path / "hsm" / "plugins"
    assert (folder / "main.tf.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((folder / "main.tf.json").read_text()) == peer.configuration(hsm.library, 3)
    assert (folder / "argv").read_text().split() == ["apply", "-auto-approve", "-input=false", "-no-color"]
    surroundings = (folder / "environment").read_text()
    assert "somebody's own" not in surroundings and PIN not in surroundings
    overrides = tmp_path / "hsm" / "cli.tfrc"
    assert f"\nTF_CLI_CONFIG_FILE={overrides}\n" in f"\n{surroundings}"
    assert overrides.read_text().split() == f'provider_installation {{ dev_overrides {{ "blechschmidt/pkcs11" = "{plugins}" }} }}'.split()
    assert [(found.name, found.readlink()) for found in plugins.iterdir()] == [("terraform-provider-pkcs11", binaries.provider)]


def test_who_takes_less_is_said_where_all_rounds_agree(peer: ModuleType) -> None:
    rounds = [
        {
            peer.KEYS: peer.Cost(seconds=4, cpu=2, mib=1),
            peer.APPLY: peer.Cost(seconds=seconds, cpu=20, mib=1),
            peer.AGAIN: peer.Cost(seconds=2, cpu=2, mib=1),
            peer.APPLY_AGAIN: peer.Cost(seconds=1, cpu=cpu, mib=1),
        }
        for seconds, cpu in ((3, 4), (8, 4), (5, 5))
    ]
    lines = peer.report(rounds, peer.Settings()).splitlines()
    assert lines[0].startswith("3 rounds, ")
    cells = [re.split(r" {2,}", line.strip()) for line in lines]
    for row in (
        ["200 AES keys", "CPU seconds", "least - most", "seconds", "least - most"],
        ["hsm_key", "2.00", "2.00 - 2.00", "4.00", "4.00 - 4.00"],
        ["peer: apply", "20.00", "20.00 - 20.00", "5.00", "3.00 - 8.00"],
        ["peer: apply again", "4.00", "4.00 - 5.00", "1.00", "1.00 - 1.00"],
        ["hsm_key", "peer: apply", "CPU seconds", "0.10", "0.10 - 0.10", "hsm_key"],
        ["hsm_key", "peer: apply", "seconds", "0.80", "0.50 - 1.33", "not clear"],
        ["hsm_key again", "peer: apply again", "CPU seconds", "0.50", "0.40 - 0.50", "hsm_key"],
        ["hsm_key again", "peer: apply again", "seconds", "2.00", "2.00 - 2.00", "the peer"],
    ):
        assert row in cells, row

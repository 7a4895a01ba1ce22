# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The closest peer: OpenTofu (or Terraform, which takes the same) with terraform-provider-pkcs11 makes the keys that hsm_key makes.

Both are binaries that somebody has. Nothing is downloaded and no registry is asked: a development override names the provider.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsm_fixture import PIN, Hsm

from . import variants
from .hsm import INSTANCE, TOKEN, fresh
from .measure import Cost, Failed, Spread, cost, environment, spread
from .report import ratio_cells, table

CLI, PROVIDER = "KEYFLEET_TOFU", "KEYFLEET_TOFU_PROVIDER"
_NAMED = {CLI: "OpenTofu's or Terraform's binary", PROVIDER: "that of terraform-provider-pkcs11"}
SOURCE = "blechschmidt/pkcs11"
KEYS, AGAIN, APPLY, APPLY_AGAIN = "hsm_key", "hsm_key again", "peer: apply", "peer: apply again"
PAIRS = ((KEYS, APPLY), (AGAIN, APPLY_AGAIN))
# Asks nobody whether there is a newer version.
_QUIET = {"CHECKPOINT_DISABLE": "1"}

Round = dict[str, Cost]


class Missing(Exception):
    """A binary that is not named, or cannot be run."""


@dataclass(frozen=True)
class Settings:
    keys: int = 200
    rounds: int = 5


QUICK = Settings(keys=3, rounds=1)


@dataclass(frozen=True)
class Binaries:
    cli: Path
    provider: Path

    @classmethod
    def named(cls, variables: Mapping[str, str]) -> Binaries:
        """What the two environment variables name. Raises :class:`Missing` with all that is wrong."""
        problems, found = [], []
        for variable, what in _NAMED.items():
            value = variables.get(variable, "")
            found.append(path := Path(value).absolute())
            if not value:
                problems.append(f"{variable} is not set: set it to {what}")
            elif not path.is_file():
                problems.append(f"{variable}: {path} is not a file: name {what}")
            elif not os.access(path, os.X_OK):
                problems.append(f"{variable}: {path} is not executable: chmod +x, or name {what}")
        if problems:
            raise Missing("; ".join(problems) + ". CONTRIBUTING.md says how one gets them")
        return cls(*found)

    def line(self) -> str:
        """What is compared with. The provider has no option that tells its version, so its bytes are named. Raises :class:`Failed`."""
        done = subprocess.run([self.cli, "version"], capture_output=True, text=True, env=environment(_QUIET), check=False)
        version = re.search(r"^(OpenTofu|Terraform) v\S+", done.stdout, re.MULTILINE)
        if not version:
            raise Failed(f"{CLI}: {self.cli} does not answer 'version' as OpenTofu or Terraform: name {_NAMED[CLI]}")
        digest = hashlib.sha256(self.provider.read_bytes()).hexdigest()
        return f"peer: {version[0]} with {self.provider.name}, SHA-256 {digest[:16]}..."


def configuration(library: str, keys: int) -> dict[str, Any]:
    """The keys that hsm_key makes of ``type: AES`` and a label, with the attributes that it sets. The mechanism says class and type."""
    label = "key-${count.index + 1}"
    yes = dict.fromkeys(("token", "private_flag", "sensitive", "encrypt", "decrypt"), True)
    no = dict.fromkeys(("extractable", "wrap", "unwrap", "sign", "verify", "derive"), False)
    key = {
        "count": keys,
        "mechanism": "CKM_AES_KEY_GEN",
        "value_len": 32,
        "label": label,
        "key_id": f'${{base64encode("{label}")}}',
        **yes,
        **no,
    }
    return {
        "terraform": {"required_providers": {"pkcs11": {"source": SOURCE}}},
        "provider": {"pkcs11": {"module_path": library, "token_label": TOKEN, "pin": PIN}},
        "resource": {"pkcs11_symmetric_key": {"keys": key}},
    }


@dataclass(frozen=True)
class Peer:
    """A folder with a configuration, where the peer keeps its state."""

    cli: Path
    folder: Path
    settings: dict[str, str]

    @classmethod
    def prepared(cls, binaries: Binaries, hsm: Hsm, keys: int) -> Peer:
        folder, plugins = hsm.scratch / "peer", hsm.scratch / "plugins"
        folder.mkdir(mode=0o700)
        plugins.mkdir()
        # A folder of its own, under the one name that is looked for: what lies beside the binary may match, too.
        (plugins / "terraform-provider-pkcs11").symlink_to(binaries.provider)
        overrides = f"dev_overrides {{\n    {json.dumps(SOURCE)} = {json.dumps(str(plugins))}\n  }}"
        (hsm.scratch / "cli.tfrc").write_text(f"provider_installation {{\n  {overrides}\n}}\n")
        with open(os.open(folder / "main.tf.json", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:  # it holds the PIN
            json.dump(configuration(hsm.library, keys), file, indent=1)
        return cls(binaries.cli, folder, {**_QUIET, "TF_CLI_CONFIG_FILE": str(hsm.scratch / "cli.tfrc"), **hsm.environment})

    def apply(self, added: int) -> Cost:
        """What an apply costs. Raises :class:`Failed` if it does not add just that many."""
        used, output = cost([str(self.cli), "apply", "-auto-approve", "-input=false", "-no-color"], self.settings, self.folder)
        if f"Resources: {added} added, 0 changed, 0 destroyed" not in output:
            raise Failed(f"the peer did not add {added} keys and nothing else:\n{output[-4000:]}")
        return used


def _made(hsm: Hsm) -> list[str]:
    """The keys of a token as pkcs11-tool shows them: one line each, with size, name, ID, usage and access."""
    found = re.findall(r"^Secret Key Object; .*(?:\n  (?!uri).*)*", hsm.tool("--list-objects"), re.MULTILINE)
    return sorted(re.sub(r"\s+", " ", key) for key in found)


def _round(binaries: Binaries, settings: Settings, turn: int, scratch: Path) -> Round:
    found: Round = {}
    one, other = fresh(scratch / "ours"), fresh(scratch / "theirs")
    keys = [{"label": f"key-[1:{settings.keys}]", "type": "AES"}]
    task = {"keyfleet.hsm.hsm_key": {"registry": one.registry, "instance": INSTANCE, "keys": keys}}
    peer = Peer.prepared(binaries, other, settings.keys)

    def ours() -> None:
        found[KEYS], found[AGAIN] = variants.played(one, task, 1), variants.played(one, task, 0)

    def theirs() -> None:
        found[APPLY], found[APPLY_AGAIN] = peer.apply(settings.keys), peer.apply(0)

    parts = (ours, theirs)
    for part in (*parts[turn % 2 :], *parts[: turn % 2]):
        part()
    differing = sorted(set(_made(one)) ^ set(_made(other)))
    if differing or len(_made(one)) != settings.keys:
        raise Failed("the two did not make the same keys, so their times mean nothing:\n" + "\n".join(differing[:4]))
    return found


def measure(binaries: Binaries, settings: Settings, scratch: Path, say: Callable[[str], None]) -> list[Round]:
    """All rounds. Raises :class:`measure.Failed` when one of the two does not do its work."""
    rounds = []
    for turn in range(settings.rounds):
        rounds.append(_round(binaries, settings, turn, scratch))
        used = "; ".join(f"{name} {one.cpu:.2f} CPU s, {one.seconds:.2f} s" for name, one in rounds[-1].items())
        say(f"round {turn + 1} of {settings.rounds}: {used}")
    return rounds


def _least(ratio: Spread) -> str:
    """Who takes less, where every round says the same."""
    if ratio.greatest < 1:
        return KEYS
    return "the peer" if ratio.least > 1 else "not clear"


def _costs(rounds: Sequence[Round], settings: Settings) -> list[list[str]]:
    rows = [[f"{settings.keys} AES keys", "CPU seconds", "least - most", "seconds", "least - most"]]
    for name in (name for pair in PAIRS for name in pair):
        figures = (spread(getattr(at[name], part) for at in rounds) for part in ("cpu", "seconds"))
        rows.append([name, *(cell for used in figures for cell in (f"{used.median:.2f}", f"{used.least:.2f} - {used.greatest:.2f}"))])
    return rows


def _ratios(rounds: Sequence[Round]) -> list[list[str]]:
    rows = [["ratio", "against", "of", "median", "least - most", "takes less"]]
    for ours, theirs in PAIRS:
        for part, of in (("cpu", "CPU seconds"), ("seconds", "seconds")):
            ratio = spread(getattr(at[ours], part) / getattr(at[theirs], part) for at in rounds)
            rows.append([ours, theirs, of, *ratio_cells(ratio), _least(ratio)])
    return rows


def report(rounds: Sequence[Round], settings: Settings) -> str:
    """The tables, with what their words mean."""
    counted = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds"
    head = [
        f"{counted}, both in each, in turn, every time on a new token in memory. CPU seconds are those of the whole process tree.",
        "Medians; a ratio is worked out within each round. Who takes less is said where all rounds agree.",
    ]
    return "\n".join([*head, *(line for rows in (_costs(rounds, settings), _ratios(rounds)) for line in ("", *table(rows)))])

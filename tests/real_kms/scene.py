# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SoftHSM2 tokens that hsm_instance made, and a server on them by a ``kms.toml`` that kms_config wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm_fixture import SOFTHSM, Hsm, ok

from . import server
from .kmip import Client

OPERATOR = "operator"


@dataclass
class Scene:
    """``names`` are instances with one token each, in the order of the file."""

    hsm: Hsm
    names: list[str] = field(default_factory=lambda: ["first", "second"])
    port: int = field(default_factory=server.free_port)

    @classmethod
    def made(cls, folder: Path) -> Scene:
        (folder / "tokens").mkdir(parents=True)
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
        scene = cls(Hsm(folder))
        for name in scene.names:
            scene.register(name)
        return scene

    @property
    def config(self) -> Path:
        return self.hsm.scratch / "kms.toml"

    @property
    def log(self) -> Path:
        return self.hsm.scratch / "server.log"

    def register(self, name: str, **options: Any) -> None:
        self.hsm.register(name, tokens=[self.hsm.token(name)], layout="eviden", **options)

    def settings(self, **more: Any) -> dict[str, Any]:
        folder = str(self.hsm.scratch / "kms")
        return {
            "default_username": OPERATOR,
            "http": {"port": self.port, "hostname": "127.0.0.1"},
            "db": {"database_type": "sqlite", "sqlite_path": f"{folder}/db"},
            "workspace": {"root_data_path": folder, "tmp_path": f"{folder}/scratch"},
            **more,
        }

    def write(self, **options: Any) -> dict[str, Any]:
        """The answer of kms_config for the instances as they are declared now."""
        common = {"model": "softhsm2", "library": SOFTHSM, "environment": self.hsm.environment, "admins": [OPERATOR]}
        tokens = {name: [{"label": name, "pin_file": str(self.hsm.scratch / "pins" / name)}] for name in self.names}
        instances = [{"name": name, "tokens": tokens[name], "layout": "eviden", **common} for name in self.names]
        given = {"instances": instances, "config_path": str(self.config), "settings": self.settings(), **options}
        return self.hsm.run("kms_config", **given)

    @contextmanager
    def served(self, **options: Any) -> Iterator[tuple[Client, dict[str, str]]]:
        """A server on the file as it is written anew, and for each instance the beginning of its UIDs."""
        written = ok(self.write(**options))
        starts = {one["name"]: f"{one['prefix']}::{one['slots'][0]}::" for one in written["instances"]}
        with self.running(written["unit"]["environment"]) as client:
            yield client, starts

    @contextmanager
    def running(self, environment: Mapping[str, str]) -> Iterator[Client]:
        with server.running(self.config, self.port, environment, self.log) as client:
            yield client

    def keys(self, *keys: Mapping[str, Any], instance: str = "first", **args: Any) -> dict[str, Any]:
        """The answer of hsm_key, which must not fail."""
        return ok(self.hsm.keys(*keys, instance=instance, **args))

    def sync(self, instance: str = "first", **args: Any) -> dict[str, Any]:
        return ok(self.hsm.run("hsm_sync", instance=instance, **args))

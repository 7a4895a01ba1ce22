# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""``hsm_certificates`` of the playbook site: what is wrong with it, and the calls of hsm_certificate that it makes.

Requests and issued certificates are files on the controller, where this runs. It reads them and writes none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .._model.certificates.request import parse_certificate
from .._model.declared import is_absent
from .._model.site.declaration import Declaration
from . import options
from .naming import naming

VARIABLE = "hsm_certificates"
_FILES = ("request_file", "issued_file")
# Options of hsm_certificate that the two files give, under the names that its messages have for them.
_CONTENT = {"request_file": "csr_content", "issued_file": "content"}
_NOT_DECLARED = ("csr_path", "csr_content", "src", "content")
_SELECTORS = ("token_label", "token_serial", "slot")
SPEC: options.Spec = {name: option for name, option in options.CERTIFICATE.items() if name not in _NOT_DECLARED}
FIELDS = ["instance", "group", *_SELECTORS, *SPEC, *_FILES]
_MAX_BYTES = 1024 * 1024
_KINDS = {"request_file": r"(?:NEW )?CERTIFICATE REQUEST", "issued_file": r"(?:(?:X509 |TRUSTED )?CERTIFICATE|PKCS7|CMS)"}
_BEGINS = re.compile(r"-----BEGIN ([^-\r\n]*)-----")
# All that goes on to the module: the line that a request of a renewal begins with, and blocks of PEM. The rest may be anything.
_PART = r"^(?:Replaces [\w -]+|-----BEGIN ({kind})-----[\w+/=\s]+-----END \1-----)$"
_PARTS = {name: re.compile(_PART.format(kind=kind), re.MULTILINE | re.ASCII) for name, kind in _KINDS.items()}
_WAY_OUT = {
    "request_file": "holds something other than a request, and is not overwritten. Give another path, or remove the file first.",
    "issued_file": "holds no certificate in PEM. Put the one that was issued there, or remove the file.",
}


class Certificates:
    """Of one host. The folder is on the controller, and a file in it bears the host's name."""

    def __init__(self, declaration: Declaration, host: str) -> None:
        self._declaration = declaration
        self._folder = declaration.variables["hsm_certificates_dir"]
        self._host = host
        self.problems: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self._seen: dict[Any, str] = {}
        if self._folder and not (isinstance(self._folder, str) and os.path.isabs(self._folder) and os.path.isdir(self._folder)):
            self.problems.append("hsm_certificates_dir: not the absolute path of a folder on the controller. Make it, or correct the path.")
            self._folder = None
        for number, entry in declaration.of(VARIABLE):
            self._entry(number, entry)

    def _entry(self, number: int, entry: Mapping[str, Any]) -> None:
        where = f"{VARIABLE}[{number}]"
        before = len(self.problems)
        self.problems += self._scope(where, entry)
        # Of fields that nobody knows, the declaration tells.
        declared = {name: entry[name] for name in SPEC if name in entry}
        typed = ArgumentSpecValidator(SPEC).validate(declared)
        if typed.error_messages:
            self.problems += [f"{where}: {message}" for message in typed.error_messages]
            return
        checked = typed.validated_parameters
        files = self._files(where, entry, checked)
        asked = {**checked, "csr_content": "" if "request_file" in files else None}
        named = naming({"*": f"{where}.*"}, SPEC)
        for problem in parse_certificate(asked)[1]:
            text = named(problem.replace("csr_content", "request_file"))
            self.problems.append(text if text.endswith("?") else f"{text}.")
        if checked["subject"] is not None and checked["self_signed"] is None and "request_file" not in files:
            self.problems.append(f"{where}.request_file: missing. Give it or hsm_certificates_dir, where the request goes, or self_signed.")
        texts = {name: self._text(f"{where}.{name}", name, path) for name, path in files.items()}
        if len(self.problems) == before:
            self._calls(number, entry, declared, files, texts)

    def _scope(self, where: str, entry: Mapping[str, Any]) -> Iterator[str]:
        yield from self._declaration.scope(where, entry)
        for name in (*_SELECTORS, "self_signed") if "group" in entry else ():
            if name in entry:
                yield f"{where}.{name}: not for a group. Name the instance in the place of the group."
        key = tuple(str(entry.get(name)) for name in ("instance", "group", *_SELECTORS, "key_label", "key_id"))
        yield from self._once(f"{where}.key_label", key, "has the certificate of this key already")

    def _once(self, where: str, what: Any, told: str) -> Iterator[str]:
        first = self._seen.setdefault(what, where)
        if first is not where:
            yield f"{where}: {first} {told}. Give each once."

    def _files(self, where: str, entry: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, str]:
        """The paths on the controller, where there are any: those of the entry, or of the folder."""
        if is_absent(entry):
            return {}
        found = {name: entry[name] for name in _FILES if entry.get(name)}
        if checked["self_signed"] is not None:
            self.problems += [f"{where}.{name}: not beside self_signed. Leave one of them out." for name in found]
            return {}
        if self._folder:
            key = checked["key_label"] or checked["key_id"] or ""
            stem = ".".join(quote(str(part), safe="@ +") for part in (self._host, entry.get("group", entry.get("instance")), key))
            default = {"request_file": f"{stem}.csr", "issued_file": f"{stem}.pem"}
            if checked["subject"] is None:
                del default["request_file"]
            found = {name: os.path.join(self._folder, base) for name, base in default.items()} | found
        for name in list(found):
            place = f"{where}.{name}"
            if not isinstance(found[name], str) or not os.path.isabs(found[name]):
                self.problems.append(f"{place}: not an absolute path. Give that of a file on the controller.")
                del found[name]
            elif name == "request_file" and not os.path.isdir(os.path.dirname(found[name])):
                self.problems.append(f"{place}: its folder is not there on the controller. Make it, or correct the path.")
                del found[name]
            else:
                self.problems += self._once(place, os.path.normpath(found[name]), "is this file already")
        return found

    def _text(self, place: str, name: str, path: str) -> str | None:
        """What the file holds; None where there is none."""
        try:
            with open(path, "rb") as file:
                raw = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems.append(f"{place}: {path} on the controller cannot be read: {error.strerror}. Correct its rights, or the path.")
            return None
        text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
        kinds = _BEGINS.findall(text)
        parts = "\n".join(part[0] for part in _PARTS[name].finditer(text))
        if "PRIVATE KEY-----" in text:
            self.problems.append(f"{place}: {path} contains a private key. Give a file without one; a key of the HSM never leaves it.")
        elif (name == "request_file" and not _only_requests(text, kinds)) or (name == "issued_file" and "-----BEGIN" not in parts):
            self.problems.append(f"{place}: {path} {_WAY_OUT[name]}")
        return f"{parts}\n" if parts else ""

    def _calls(
        self, number: int, entry: Mapping[str, Any], declared: Mapping[str, Any], files: Mapping[str, str], texts: Mapping[str, str | None]
    ) -> None:
        """One for an instance, and one for each member of a group."""
        where = f"{VARIABLE}[{number}]"
        names = {"*": f"{where}.*", **{option: f"{where}.{name}" for name, option in _CONTENT.items()}}
        call = {**declared, "names": names, **{name: path for name, path in files.items() if name == "request_file"}}
        if "request_file" in files:
            call["csr_content"] = texts["request_file"] or ""
        if texts.get("issued_file") is not None:
            call["content"] = texts["issued_file"]
        key = entry["key_label"] or entry["key_id"]
        members: list[Mapping[str, Any]] = [entry]
        if "group" in entry:
            members = [connection for _number, connection in self._declaration.members(entry["group"])]
            names["instance"] = f"{where}.group"
        for place, member in enumerate(members):
            token = {name: member[name] for name in ("instance", *_SELECTORS) if name in member}
            place_of = {"of_group": "group" in entry, "first": place == 0}
            self.calls.append({**call, **token, **place_of, "name": f"{key} of {member['instance']}"})


def _only_requests(text: str, kinds: list[str]) -> bool:
    """Whether a file may be written anew: it is empty, or holds a request, whole or damaged, and nothing beside."""
    return not text.strip() or (bool(kinds) and all(re.fullmatch(_KINDS["request_file"], kind) for kind in kinds))

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The one place between Ansible and the engine: parameters in, answer or failure out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .._model.errors import Defect, InputError, KeyfleetError
from .._model.plan import Context, Outcome
from .._model.tokens.secret import mask
from .guarded import GuardedModule
from .naming import naming
from .runtime import require_python
from .secrets import take_secrets

Request = TypeVar("Request")

PKCS11 = ("pkcs11",)
# A part that came with version 42, the first that is enough.
CRYPTOGRAPHY = "cryptography.x509.verification"


def libraries_for_keys(params: Mapping[str, Any]) -> Sequence[str]:
    """What hsm_key needs: keys in a file or an option are read with cryptography, and nothing else is."""
    return (*PKCS11, CRYPTOGRAPHY) if any(entry.get("source") for entry in params["keys"]) else PKCS11


def libraries_for_status(params: Mapping[str, Any]) -> Sequence[str]:
    """What hsm_status needs: certificates are read with cryptography, and nothing else is."""
    return (*PKCS11, CRYPTOGRAPHY) if params["expect"] or params["holdings"] else PKCS11


def libraries_for_sync(params: Mapping[str, Any]) -> Sequence[str]:
    """What hsm_sync needs: PyYAML for a file of YAML."""
    return (*PKCS11, "yaml") if str(params["export"]).endswith((".yml", ".yaml")) else PKCS11


_ENTRY = re.compile(r"(\w+)\[([0-9]+)\]")


def _all_problems(module: GuardedModule, parse: Callable[[Mapping[str, Any]], Request], params: Mapping[str, Any]) -> list[str]:
    """Those of the arguments, and what ``parse`` finds in the sound ones, by entry. What a stand-in caused is left out."""
    try:
        found = list(getattr(parse(params), "problems", ()))
    except InputError as error:
        found = error.problems
    whole = any("[" not in place for place in module.faulty)
    for problem in found:
        entry = _ENTRY.match(problem)
        if entry[0] not in module.faulty if entry else not whole:
            module.problems.append(problem)
    return sorted(module.problems, key=_position)


def _position(problem: str) -> tuple[str, int]:
    entry = _ENTRY.match(problem)
    return (entry[1], int(entry[2])) if entry else ("", 0)


def run(
    module: GuardedModule,
    parse: Callable[[Mapping[str, Any]], Request],
    engine: Callable[[Request, Context], Outcome],
    *,
    needs: Sequence[str] | Callable[[Mapping[str, Any]], Sequence[str]] = PKCS11,
    fetch: Callable[..., tuple[int, bytes]] | None = None,
) -> None:
    """Make a request of the parameters, hand it to ``engine`` and its outcome to Ansible. Does not return.

    ``parse`` raises :class:`InputError` for parameters that make no request. ``needs`` names the libraries to import. ``engine`` imports
    what it uses when it is called: the Python that Ansible starts may only be there to find the one that has the libraries.
    ``fetch`` gets pages, for the modules that do: Ansible sends what it imports with every module that imports it.

    Every error that is meant for a person becomes a failure with ``msg`` and ``failure: {code, details}``. Any other is a
    defect of ours, or the host's: its traceback is shown, with the PINs of this call cut out.
    """
    secrets: set[str] = set()
    params = take_secrets(module.params, module.argument_spec, secrets)
    module.no_log_values.difference_update(secrets)
    name = naming(params.get("option_names"), module.argument_spec)
    context = Context(
        check_mode=module.check_mode,
        run=str(uuid.uuid4()),
        warn=lambda text: module.warn(name(text)),
        command=module.run_command,
        fetch=fetch,
    )
    try:
        if module.problems:
            raise InputError(_all_problems(module, parse, params))
        require_python(module, needs(module.params) if callable(needs) else needs)
        outcome = engine(parse(params), context)
    except KeyfleetError as error:
        module.fail_json(msg=name(error.message), failure={"code": error.code, "details": error.details}, changed=error.changed)
    except Exception as error:  # pylint: disable=broad-exception-caught
        defect = Defect.of(error)
        module.fail_json(
            msg=mask(defect.text, secrets), exception=mask(defect.trace, secrets), failure={"code": defect.code, "details": {}}
        )
    answer = {"changed": outcome.changed, **outcome.values}
    if module._diff:
        answer["diff"] = outcome.diff
    if outcome.failure is not None:
        module.fail_json(msg=name(outcome.failure), failure={"code": outcome.failure_code, "details": outcome.failure_details}, **answer)
    module.exit_json(**answer)

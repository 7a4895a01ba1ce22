# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person does about the error of a token, by the failure codes of docs/failure_codes.md. Said of this service, not of a module."""

from __future__ import annotations

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.faults import is_device_fault

_PIN_FILE = "Put the right PIN into its file, then restart keyfleet-gateway."
_HSM = "Look at the HSM, its network and the vendor's log. Nothing has to be restarted: each probe loads the library anew."

_ADVICE = {
    "library_missing": "Install the vendor's client, or correct library of the instance.",
    "library_invalid": "Give the vendor's PKCS#11 library for this architecture as library of the instance.",
    "library_init_failed": "Check the vendor's configuration, and the variables in environment of the instance.",
    "library_crashed": _HSM,
    "probe_crashed": _HSM,
    "probe_timeout": "Check the HSM and its network. For a slow one raise gateway_health_probe_timeout.",
    "not_probed": "See the token before it, at which the library hung or crashed.",
    "lock_timeout": "Another program of this host holds the token. Wait for it, or end it.",
    "lock_unavailable": "Look at the rights of the file that is named.",
    "no_token": "Bring the token back, or correct its label, serial number or slot in the declaration.",
    "several_tokens": "Name one of them in the declaration, by label, serial number or slot.",
    "token_not_initialized": "Initialize the token: hsm_instance with initialize: true.",
    "token_changed": "Find out who replaced or initialized the token. Then run hsm_instance, which registers the new one.",
    "login_needed": "Declare the token with a login as user.",
    "pin_incorrect": f"The service does not try this PIN again. Find out which PIN is right. {_PIN_FILE}",
    "pin_not_tried": f"Find out which PIN is right. {_PIN_FILE}",
    "pin_count_low": "Find the program that tried a wrong PIN, and stop it. Its next good login, or one of another program, ends this.",
    "pin_final_try": "One more wrong PIN locks the token. Have the security officer set a new PIN, which takes no try of the old one.",
    "pin_locked": "The security officer sets a new PIN: hsm_instance with new_pin and so_pin.",
    "pin_not_initialized": "Set the user PIN: hsm_instance with initialize: true, so_pin and pin.",
    "pin_expired": "Have the security officer set a new PIN.",
    "pin_not_accepted": f"The PIN has a length or form that the token does not take. {_PIN_FILE}",
    "pin_missing": "Declare pin_file of the token.",
    "pin_file_missing": _PIN_FILE,
    "pin_file_empty": _PIN_FILE,
    "pin_file_invalid": _PIN_FILE,
    "pin_file_unreadable": "Let the service read it: run the role gateway, which hands PINs over by systemd.",
    "pin_file_unsafe": "Give the file mode 0600. Change the PIN if others may have read it.",
    "registry_write_failed": "Look at the disk with the service's state folder.",
    "registry_unavailable": "Look at the rights of the service's state folder.",
}


def advice(code: str | None) -> str:
    """One or two sentences. Of a code that is not known, what holds for a call that a token refuses."""
    if code is None:
        return ""
    if code in _ADVICE:
        return _ADVICE[code]
    if is_device_fault(code):
        return _HSM
    return "The token answers, and refuses this call. Look up the code in the list of failure codes, or in the vendor's manual."

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What differs by vendor, as data: where the library is installed.

An open list: a model that is not here needs ``library``. Paths are those of the vendors' packages and of the Eviden
server's own defaults; the first that exists on the target is taken.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

# Debian's multiarch folder by machine; other families keep 64-bit libraries in lib64.
_MULTIARCH = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "ppc64le": "powerpc64le-linux-gnu", "s390x": "s390x-linux-gnu"}

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "softhsm2": (
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/{multiarch}/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
        "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    ),
    "utimaco": ("/lib/libcs_pkcs11_R3.so", "/usr/local/lib/libcs_pkcs11_R3.so", "/usr/local/lib/libcs_pkcs11_R2.so"),
    "proteccio": ("/lib/libnethsm.so", "/usr/lib/libnethsm.so"),
    "crypt2pay": ("/lib/libpkcs11c2p.so", "/usr/lib/libpkcs11c2p.so"),
    "smartcardhsm": ("/usr/local/lib/libsc-hsm-pkcs11.so", "/usr/lib/{multiarch}/opensc-pkcs11.so"),
    "other": ("/lib/libkmshsm.so",),
    "luna": ("/usr/safenet/lunaclient/lib/libCryptoki2_64.so",),
    "nshield": ("/opt/nfast/toolkits/pkcs11/libcknfast.so",),
    "cloudhsm": ("/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",),
    "futurex": ("/usr/lib/fxpkcs11.so", "/usr/local/lib/fxpkcs11/libfxpkcs11.so"),
    "yubihsm": ("/usr/lib/{multiarch}/pkcs11/yubihsm_pkcs11.so", "/usr/lib64/pkcs11/yubihsm_pkcs11.so"),
}


# Models (of C_GetTokenInfo) that list objects whose making was cut off as if they were objects of a session: CKA_TOKEN is set
# last. With others such a search would find what another program holds in its own session.
CUT_OFF_WITHOUT_TOKEN = frozenset({"SoftHSM v2"})

# Models whose C_WrapKey fills a value up with zeros to a whole number of 64-bit blocks, with padding mechanisms, too: what is unwrapped is
# longer than the key, and HMAC does not show it. SoftHSM 2.6.1 does so, and does not report the size of a key that it unwrapped.
WRAPS_WITH_ZEROS = frozenset({"SoftHSM v2"})

# Models that show no object whose file the user cannot open, as if there were none.
HIDES_UNREADABLE = frozenset({"SoftHSM v2"})


def default_libraries(model: str, machine: str | None = None) -> tuple[str, ...]:
    """Candidate paths for ``model``, best first; empty for a model that is not in the table. ``machine``: by default this one's."""
    machine = machine or platform.machine()
    multiarch = _MULTIARCH.get(machine, f"{machine}-linux-gnu")
    return tuple(path.format(multiarch=multiarch) for path in LIBRARIES.get(model.lower(), ()))

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option ``instances``: a list of what the option group INSTANCE describes, as ``hsm_instances`` holds it."""

from __future__ import annotations

import textwrap

from ansible_collections.keyfleet.hsm.plugins.doc_fragments.instance import ModuleDocFragment as Instance

_OPTION = r"""
options:
  instances:
    description:
      - The HSMs in the order that their prefixes count, each as M(keyfleet.hsm.hsm_instance) takes it. The variable
        C(hsm_instances) fits.
      - PINs are read where the module runs. What only M(keyfleet.hsm.hsm_instance) uses is taken and has no effect.
    type: list
    elements: dict
    required: true
    suboptions:
"""


def _suboptions() -> str:
    text = Instance.DOCUMENTATION.partition("options:\n")[2]
    # There is no state here, and what the entries name are their own options.
    text = text.replace("Required for O(state=present).", "Required.").replace("O(", "O(instances[].")
    return textwrap.indent(text, "    ")


class ModuleDocFragment:
    DOCUMENTATION = _OPTION + _suboptions()

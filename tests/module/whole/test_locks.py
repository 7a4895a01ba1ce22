# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many short logins at the same moment: none is lost, and nobody finds the token gone."""

from __future__ import annotations

import os
import subprocess
import sys

from hsm_fixture import PIN, Hsm

ROUNDS, PROCESSES = 25, 4
WORKER = """
import sys
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import open_provider
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.starting import Starting
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.session import open_session
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector

library, configuration, pin, rounds = sys.argv[1:]
for _round in range(int(rounds)):
    with open_provider([library], Starting({"SOFTHSM2_CONF": configuration})) as provider:
        # One look without the second chance that find() gives: the gate alone has to do.
        found = [token for token in provider.tokens()[0] if token.label == "payments"]
        assert len(found) == 1, "the token was not seen"
        with open_session(provider, found[0], pin=Secret(pin)) as session:
            assert session.mechanisms()
"""


def test_a_hundred_logins_by_four_processes(primary: Hsm) -> None:
    command = [sys.executable, "-c", WORKER, primary.library, primary.environment["SOFTHSM2_CONF"], PIN, str(ROUNDS)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) for _worker in range(PROCESSES)]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert errors == [""] * PROCESSES

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hsm_key returns, worked out from plans."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.done import nothing_done
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.look import EmptyToken
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.circumstances import Circumstances
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.neighbours import Neighbours
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.planner import plan_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.results import Results
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.ranges import labels_in
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import parse_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.listing import listed_keys
from plain_keys import scope_of
from plain_plans import NOW


@pytest.mark.parametrize(
    ("entry", "subject"),
    [
        ({"label": "dek-[1:3]"}, "dek-[1:3]"),
        ({"label": "dek-[1:3]", "generation": 1}, "dek-[1:3]"),
        ({"label": "dek-[1:3]", "generation": 2}, "dek-[1:3]@2"),
        ({"label": "dek-[1:3]@2"}, "dek-[1:3]@2"),
        ({"label": "dek@[2:4]"}, "dek@[2:4]"),
        ({"label": "dek-[1:2]@[8:10]"}, "dek-[1:2]@[8:10]"),
    ],
)
def test_the_diff_names_a_range_so_that_it_means_the_keys_that_change(entry: dict[str, Any], subject: str) -> None:
    specs, problems = parse_keys([{"type": "AES", **entry}])
    circumstances = Circumstances(True, False, {}, EmptyToken(), Neighbours((), ()), scope_of())
    plans, wrong = plan_keys(specs, [], circumstances, NOW)
    assert problems == wrong == []
    outcome = Results(plans, nothing_done(plans, (), EmptyToken()), check_mode=True).outcome()
    (_head, line) = outcome.diff["prepared"].splitlines()
    assert line.startswith(f"+ key {subject} ({len(plans)} keys): ")
    assert labels_in(subject) == [one["label"] for one in outcome.values["applied"]]
    assert listed_keys(outcome.values, "changed")["applied"] == [{"index": 0, "label": subject, "action": "create", "count": len(plans)}]

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The set-up's uv goes where pip would go: an index, a certificate or a folder of wheels that pip is told of is not lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / "tools"


@pytest.mark.parametrize(
    ("listing", "variables"),
    [
        ("", {}),
        ("global.index-url='https://index.example.com/simple'", {"UV_DEFAULT_INDEX": "https://index.example.com/simple"}),
        ("global.index-url='https://one'\n:env:.index-url='https://two'", {"UV_DEFAULT_INDEX": "https://two"}),
        (":env:.index-url='https://two'\nglobal.index-url='https://one'", {"UV_DEFAULT_INDEX": "https://two"}),
        ("global.index-url='https://one'\ninstall.index-url='https://two'", {"UV_DEFAULT_INDEX": "https://two"}),
        ("global.extra-index-url='\\nhttps://one\\nhttps://two'", {"UV_INDEX": "https://one https://two"}),
        (":env:.find-links='/opt/wheels /srv/wheels'", {"UV_FIND_LINKS": "/opt/wheels,/srv/wheels"}),
        (":env:.cert='/etc/ssl/ours.pem'\n:env:.config-file='/dev/null'", {"SSL_CERT_FILE": "/etc/ssl/ours.pem"}),
        ("global.no-index='true'\nglobal.timeout='60'", {"UV_NO_INDEX": "true", "UV_HTTP_TIMEOUT": "60"}),
        ("global.trusted-host='a.example.com b.example.com'", {"UV_INSECURE_HOST": "a.example.com b.example.com"}),
        ("download.index-url='https://else'\nglobal.quiet='1'", {}),
    ],
)
def test_uv_is_told_what_pip_knows(monkeypatch: pytest.MonkeyPatch, listing: str, variables: dict[str, str]) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    from install import told

    assert told(listing) == variables


def test_the_oldest_core_is_the_lowest_that_the_collection_takes() -> None:
    lowest = re.search(r'^requires_ansible: ">=(\d+\.\d+)', (CHECKOUT / "meta/runtime.yml").read_text(), re.MULTILINE)
    oldest = re.search(r"^ansible-core==(\d+\.\d+)\.\*$", (CHECKOUT / "requirements/oldest.txt").read_text(), re.MULTILINE)
    assert lowest and oldest and lowest[1] == oldest[1]

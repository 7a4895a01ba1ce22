# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m keyfleet_gateway --config FILE``."""

from __future__ import annotations

import argparse
import os
import sys

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError

from . import origins
from .config import ConfigError, read_config
from .journal import ERROR, log, take_over

CONFIG_IS_WRONG = 2  # the exit status after which systemd need not start the service again


def main() -> int:
    parser = argparse.ArgumentParser(prog="keyfleet-gateway", description="Probes HSMs on a schedule, and tells their health over HTTP.")
    parser.add_argument("--config", required=True, metavar="FILE", help="the configuration, TOML")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--check", action="store_true", help="check the configuration alone, and end")
    doing.add_argument(
        "--write-origins",
        metavar="FOLDER",
        help="write there in which state the credentials' files are, and end (root, before a start)",
    )
    asked = parser.parse_args()
    os.umask(0o077)
    take_over()
    try:
        if asked.check:
            read_config(asked.config)
        elif asked.write_origins:
            origins.write(origins.look(read_config(asked.config)), asked.write_origins)
        else:
            # Half a second of a start, which the role and the unit make for the tasks above, too.
            import asyncio

            from .service import Service, prepare

            asyncio.run(Service(asked.config, prepare(asked.config)).run())
    except ConfigError as error:
        for problem in error.problems:
            log(ERROR, problem)
        return CONFIG_IS_WRONG
    except (KeyfleetError, OSError) as error:
        log(ERROR, str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

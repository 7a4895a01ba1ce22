# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Prometheus reads: the board, and what the registry's copy says about keys."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .board import Board, Entry, named
from .keys import Facts
from .known import Compared, Known

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_DAY = 24 * 3600.0
_PIN_STATES = ("ok", "low", "final_try", "locked", "not_initialized", "to_be_changed", "unknown")
_TOKEN = ("instance", "prefix", "token")
_INSTANCE = ("instance", "prefix")
_MEMBER = ("group", "instance", "token")


class Metrics(Collector):
    """Everything is asked for at each reading."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Names are not known before a reading; without this the registry would read once to find them."""
        return ()

    def collect(self) -> Iterator[Metric]:
        known, now = self._known, time.monotonic()
        board = known.board
        healthy = GaugeMetricFamily("keyfleet_healthy", "Whether every token of every instance is healthy, as GET /health says.")
        healthy.add_metric((), float(board.healthy(now)))
        yield healthy
        yield from _of_instances(board.entries.values(), now)
        yield from _of_tokens(board, board.entries.values(), now)
        yield from _of_keys(known.facts, time.time())
        yield from _of_groups(known.groups, now)
        yield from _of_certificates(known, time.time())
        if known.certificate_end is not None:
            left = GaugeMetricFamily("keyfleet_tls_certificate_days_left", "Days until the certificate of this service ends.")
            left.add_metric((), (known.certificate_end - time.time()) / _DAY)
            yield left


def _of_instances(entries: Iterable[Entry], now: float) -> Iterator[Metric]:
    took = GaugeMetricFamily("keyfleet_probe_seconds", "How long the last probe of the instance took.", labels=_INSTANCE)
    age = GaugeMetricFamily("keyfleet_probe_age_seconds", "Seconds since the last probe of the instance ended.", labels=_INSTANCE)
    probes = CounterMetricFamily("keyfleet_probes", "Probes of the instance since the service started.", labels=_INSTANCE)
    for entry in entries:
        labels = (entry.spec.name, entry.prefix or "")
        probes.add_metric(labels, entry.probes)
        if entry.probed is not None:
            took.add_metric(labels, entry.took)
            age.add_metric(labels, now - entry.probed)
    yield from (took, age, probes)


def _of_tokens(board: Board, entries: Iterable[Entry], now: float) -> Iterator[Metric]:
    up = GaugeMetricFamily("keyfleet_token_up", "Whether the last probe opened the token, logged in and used it.", labels=_TOKEN)
    healthy = GaugeMetricFamily("keyfleet_token_healthy", "Whether the token counts as healthy.", labels=_TOKEN)
    pin = GaugeMetricFamily("keyfleet_token_pin_state", "1 for what the token's flags say about its PIN.", labels=(*_TOKEN, "state"))
    for entry in entries:
        fresh = board.is_fresh(entry, now)
        for token, seen in zip(entry.spec.tokens, entry.tokens, strict=True):
            labels = (entry.spec.name, entry.prefix or "", named(token.selector, seen.slot))
            up.add_metric(labels, float(bool(seen.slot["accessible"]) and fresh))
            healthy.add_metric(labels, float(seen.healthy and fresh))
            for state in _PIN_STATES:
                pin.add_metric((*labels, state), float(seen.slot["pin_state"] == state))
    yield from (up, healthy, pin)


def _of_keys(facts: Facts, now: float) -> Iterator[Metric]:
    keys = GaugeMetricFamily("keyfleet_keys", "Recorded keys.", labels=("instance", "token", "type", "state"))
    for place, count in sorted(facts.counts.items()):
        keys.add_metric(place, count)
    oldest = GaugeMetricFamily("keyfleet_oldest_active_key_age_seconds", "Age of the oldest active key.", labels=("instance", "token"))
    for owner, made in sorted(facts.oldest_active.items()):
        oldest.add_metric(owner, now - made)
    due = GaugeMetricFamily("keyfleet_rotation_days_left", "Days until the key is to be rotated.", labels=("instance", "group", "key"))
    for key, moment in sorted(facts.rotations.items()):
        due.add_metric(key, (moment - now) / _DAY)
    read = GaugeMetricFamily("keyfleet_registry_readable", "Whether the copy of the registry could be read. Without one nothing is told.")
    if facts.readable is not None:
        read.add_metric((), float(facts.readable))
    age = GaugeMetricFamily("keyfleet_registry_copy_age_seconds", "Seconds since the copy of the registry was made.")
    if facts.copied is not None:
        age.add_metric((), now - facts.copied)
    yield from (keys, oldest, due, read, age)


def _of_groups(groups: Mapping[str, Compared], now: float) -> Iterator[Metric]:
    found = GaugeMetricFamily(
        "keyfleet_group_member_disagreements",
        "Keys that the member lacks, or has in another way than the others of its group.",
        labels=_MEMBER,
    )
    read = GaugeMetricFamily("keyfleet_group_member_read", "Whether the member's keys could be read for the comparison.", labels=_MEMBER)
    age = GaugeMetricFamily("keyfleet_group_compared_age_seconds", "Seconds since the group's members were compared.", labels=("group",))
    for name, compared in sorted(groups.items()):
        age.add_metric((name,), now - compared.read)
        for member in compared.members:
            labels = (name, member.instance, member.token)
            read.add_metric(labels, float(member.disagreements is not None))
            if member.disagreements is not None:
                found.add_metric(labels, member.disagreements)
    yield from (found, read, age)


def _of_certificates(known: Known, now: float) -> Iterator[Metric]:
    left = GaugeMetricFamily(
        "keyfleet_certificate_days_left", "Days until the certificate on the token ends.", labels=("instance", "token", "label", "id")
    )
    for labels, end in sorted(known.certificate_ends().items()):
        left.add_metric(labels, (end - now) / _DAY)
    read = GaugeMetricFamily(
        "keyfleet_certificates_read", "Whether the certificates on the token could be read, when that was tried last.", labels=_TOKEN
    )
    for token, error in sorted(known.certificate_errors().items()):
        read.add_metric(token, float(error is None))
    yield from (left, read)

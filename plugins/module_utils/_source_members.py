# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which member of a source is the primary, from what replication_info returned of each. No I/O here."""

from __future__ import annotations

import itertools


def source_members(infos, accept_multi_primary=False):
    """Decide for one source.

    infos: by a member's name, what replication_info returned; of one that could not be asked, anything else.
    accept_multi_primary: whether several members of one cluster may take writes. The first one is then the
    primary.

    Returns primary (None when there are problems), replicas (the other members), problems, warnings and
    unlisted_replicas, the last three as sentences.
    """
    known = {name: info for name, info in infos.items() if _is_info(info)}
    source = _Source(known)
    problems = [
        f"{name} could not be asked for its replication: {_reason(info)}"
        for name, info in infos.items()
        if name not in known
    ]
    problems += source.duplicates()
    # What is missing may be what the others belong to.
    if not problems:
        problems += source.strangers()
    problems += source.broken()
    primary, more, warnings = source.primary(accept_multi_primary)
    problems += more if len(known) == len(infos) else []
    if not infos:
        problems = ["the source has no members"]
    if problems:
        primary = None
    return {
        "primary": primary,
        "replicas": [name for name in infos if name != primary] if primary else [],
        "problems": problems,
        "warnings": source.paused() + warnings,
        "unlisted_replicas": source.unlisted() if len(known) == len(infos) else [],
    }


def _is_info(info):
    return isinstance(info, dict) and "accepts_writes" in info and "channels" in info


def _reason(info):
    message = info.get("msg") if isinstance(info, dict) else None
    return str(message) if message else "it returned nothing"


def _listed(names):
    return names[0] if len(names) == 1 else "{} and {}".format(", ".join(names[:-1]), names[-1])


def _address(host, port):
    return f"{host or 'an unknown host'}:{port}" if port else host or "an unknown host"


def _channel_name(channel):
    return f" (channel {channel['name']})" if channel["name"] else ""


def _is_one_cluster(one, other):
    """Whether two nodes are of one Galera cluster, whose nodes may share their server_id."""
    galera = one["galera"], other["galera"]
    return all(galera) and galera[0]["cluster_uuid"] == galera[1]["cluster_uuid"]


def _is_unknown(channel):
    """Whether a channel has never connected to the server that it replicates from."""
    return channel["source_uuid"] is None and channel["source_server_id"] is None


class _Source:
    """The members that could be asked, by name."""

    def __init__(self, infos):
        self.infos = infos

    def duplicates(self):
        """Members that are one server, or that replication takes for one."""
        problems = []
        for (first, one), (second, other) in itertools.combinations(self.infos.items(), 2):
            if (one["hostname"], one["port"]) == (other["hostname"], other["port"]):
                problems.append(
                    f"{first} and {second} are one server, {_address(one['hostname'], one['port'])}"
                )
            elif one["server_uuid"] and one["server_uuid"] == other["server_uuid"]:
                problems.append(
                    f"{first} and {second} have the same server_uuid; remove auto.cnf from the data "
                    "directory of one and restart it"
                )
            elif one["server_id"] == other["server_id"] and not _is_one_cluster(one, other):
                problems.append(
                    f"{first} and {second} have the same server_id, {one['server_id']}; give each its own"
                )
        return problems

    def source_of(self, name, channel):
        """The member that a channel replicates from, None when it is none of them."""
        for other, info in self.infos.items():
            if other != name and self._is_source(name, channel, other, info):
                return other
        return None

    def _is_source(self, name, channel, other, info):
        if channel["source_uuid"] and info["server_uuid"]:
            return channel["source_uuid"] == info["server_uuid"]
        if channel["source_server_id"] is None:
            return channel["source_port"] == info["port"] and channel["source_host"] in (
                other,
                info["hostname"],
            )
        if channel["source_server_id"] != info["server_id"]:
            return False
        # Servers that do not belong to one another may have the same number, which is 1 by default.
        own = self.infos[name]["server_id"]
        return channel["io_running"] != "Yes" or own in {replica["server_id"] for replica in info["replicas"]}

    def _clusters(self):
        """The members of each Galera cluster and replication group, by what identifies it."""
        clusters = {}
        for name, info in self.infos.items():
            if info["galera"]:
                clusters.setdefault(("Galera", info["galera"]["cluster_uuid"]), []).append(name)
            if info["group_replication"]:
                clusters.setdefault(("group", info["group_replication"]["name"]), []).append(name)
        return clusters

    def strangers(self):
        """Members that do not belong to the others."""
        problems, root, is_certain = [], {name: name for name in self.infos}, True

        def find(name):
            return name if root[name] == name else find(root[name])

        for names in self._clusters().values():
            for name in names:
                root[find(name)] = find(names[0])
        for name, info in self.infos.items():
            for channel in info["channels"]:
                source = self.source_of(name, channel)
                if source is not None:
                    root[find(name)] = find(source)
                elif _is_unknown(channel) and channel["io_running"] != "Yes":
                    is_certain = False
                else:
                    problems.append(
                        f"{name} replicates from {_address(channel['source_host'], channel['source_port'])}"
                        f"{_channel_name(channel)}, which is not a member of this source"
                    )
        parts = {}
        for name in self.infos:
            parts.setdefault(find(name), []).append(name)
        if len(parts) > 1 and is_certain:
            text = " beside ".join(_listed(names) for names in parts.values())
            problems.append(
                f"the members do not belong to one another: {text}. Neither replication nor a cluster "
                "connects them"
            )
        return problems

    def broken(self):
        """Threads that stopped because of an error, and nodes that are not in their cluster."""
        problems = []
        for name, info in self.infos.items():
            problems += [
                f"replication of {name} from {_address(channel['source_host'], channel['source_port'])}"
                f"{_channel_name(channel)} is broken: {self._thread(thread)} is "
                f"{channel[f'{thread}_running']}, error {channel[f'{thread}_error_number']}: "
                f"{channel[f'{thread}_error']}"
                for channel in info["channels"]
                for thread in ("io", "sql")
                if channel[f"{thread}_running"] != "Yes" and channel[f"{thread}_error_number"]
            ]
            galera, group = info["galera"], info["group_replication"]
            if galera and not (galera["ready"] and galera["cluster_status"] == "Primary"):
                problems.append(
                    f"{name} is a Galera node that takes no statements: it is {galera['state']}, and its "
                    f"part of the cluster is {galera['cluster_status']}"
                )
            if group and group["state"] != "ONLINE":
                problems.append(f"{name} is {group['state']} in its replication group, not ONLINE")
        return problems

    @staticmethod
    def _thread(thread):
        return "the thread that reads (IO)" if thread == "io" else "the thread that applies (SQL)"

    def paused(self):
        """Threads that do not run, without an error."""
        return [
            f"{name} does not replicate at the moment: {self._thread(thread)} is "
            f"{channel[f'{thread}_running']}{_channel_name(channel)}, without an error"
            for name, info in self.infos.items()
            for channel in info["channels"]
            for thread in ("io", "sql")
            if channel[f"{thread}_running"] != "Yes" and not channel[f"{thread}_error_number"]
        ]

    def primary(self, accept_multi_primary):
        """The primary, problems and warnings."""
        writable = [name for name, info in self.infos.items() if info["accepts_writes"]]
        if not writable:
            return None, [self._no_primary()] if self.infos else [], []
        problems, warnings = [], []
        multi = self._multi_primary(writable)
        if multi:
            (warnings if accept_multi_primary else problems).append(multi)
        elif len(writable) > 1:
            problems.append(
                f"{_listed(writable)} take writes, and one member only may: set read_only=ON on "
                f"{'the other' if len(writable) == 2 else 'the others'}"
            )
        return writable[0], problems, warnings

    def _multi_primary(self, writable):
        """What is wrong when several members of one cluster may take writes, '' when not."""
        groups = [self.infos[name]["group_replication"] for name in writable]
        if all(groups) and len({group["name"] for group in groups}) == 1 and not groups[0]["single_primary"]:
            return (
                f"the replication group of {_listed(writable)} is in multi-primary mode; switch it by SELECT "
                "group_replication_switch_to_single_primary_mode()"
            )
        clusters = [self.infos[name]["galera"] for name in writable]
        if len(writable) > 1 and all(clusters) and len({node["cluster_uuid"] for node in clusters}) == 1:
            return (
                f"{_listed(writable)} are nodes of one Galera cluster and all take writes; set read_only=ON "
                "on all but one, or have all writers and workers use one node"
            )
        return ""

    def _no_primary(self):
        reasons = []
        for name, info in self.infos.items():
            channels = [_address(item["source_host"], item["source_port"]) for item in info["channels"]]
            why = ["is read_only" if info["read_only"] else "refuses them"]
            why += [f"replicates from {_listed(channels)}"] if channels else []
            reasons.append(f"{name} {_listed(why)}")
        elsewhere = sorted(
            {
                _address(member["host"], member["port"])
                for info in self.infos.values()
                for member in (info["group_replication"] or {}).get("members", [])
                if member["role"] == "PRIMARY"
            }
        )
        hint = f". The primary of the replication group is {_listed(elsewhere)}" if elsewhere else ""
        return f"no member takes writes: {'; '.join(reasons)}{hint}"

    def unlisted(self):
        """Who replicates from a member, or is in its cluster, and is not a member."""
        unlisted = []
        for name, info in self.infos.items():
            unlisted += [
                f"{_address(replica['host'], replica['port'])} (server_id {replica['server_id']}) replicates "
                f"from {name}"
                for replica in info["replicas"]
                # A member of a group that joins replicates for a while from another one.
                if not self._is_member(replica) and replica["server_uuid"] not in self._group_members()
            ]
            unlisted += self._other_readers(name, info)
        return unlisted + self._unlisted_in_groups() + self._unlisted_in_clusters()

    def _group_members(self):
        """All members of the replication groups, listed or not, by their UUIDs."""
        return {
            member["id"]: member
            for info in self.infos.values()
            for member in (info["group_replication"] or {}).get("members", [])
        }

    def _is_member(self, replica):
        return any(
            replica["server_uuid"] == info["server_uuid"]
            if replica["server_uuid"] and info["server_uuid"]
            else replica["server_id"] == info["server_id"]
            for info in self.infos.values()
        )

    @staticmethod
    def _other_readers(name, info):
        """How many connections read the binary log without being registered as replicas; the server does not
        show which ones.
        """
        number = len(info["dump_threads"]) - len(info["replicas"])
        if number <= 0:
            return []
        threads = {f"{thread['user']}@{thread['address']}" for thread in info["dump_threads"]}
        text = (
            f"{number} of the {len(info['dump_threads'])} connections that read the binary log of {name} "
            f"{'is' if number == 1 else 'are'} not of a registered replica: {', '.join(sorted(threads))}"
        )
        return [text]

    def _unlisted_in_groups(self):
        own = {info["server_uuid"] for info in self.infos.values()}
        return [
            f"{_address(member['host'], member['port'])} is in the replication group"
            for number, member in sorted(self._group_members().items())
            if number not in own
        ]

    def _unlisted_in_clusters(self):
        unlisted = []
        for (kind, _identity), names in self._clusters().items():
            if kind != "Galera":
                continue
            node = max((self.infos[name]["galera"] for name in names), key=lambda node: node["cluster_size"])
            if node["cluster_size"] > len(names):
                unlisted.append(
                    f"the Galera cluster has {node['cluster_size']} nodes, of which {len(names)} "
                    f"{'is a member' if len(names) == 1 else 'are members'} of this source: "
                    f"{', '.join(sorted(node['addresses']))}"
                )
        return unlisted

# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks ask about the sources of an inventory. Each filter is documented in the file of its name."""

from __future__ import annotations

import itertools

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    is_durable,
    tables_problems,
)

GROUP = "gearsync_mysql"
#: The shared variable that a setting of the worker follows, where it is not called worker_NAME too.
SHARED = {
    "tables": "gearsync_tables",
    "redis": "gearsync_redis",
    "mysql": "gearsync_worker_mysql",
    "job_servers": "gearsync_job_servers",
    "mysql_login_user": "gearsync_mysql_login_user",
    "mysql_login_password": "gearsync_mysql_login_password",
    "mysql_login_unix_socket": "gearsync_mysql_login_unix_socket",
}
#: The variables that name the servers of a source.
SERVER_SETTINGS = {
    "job_servers": ("gearsync_job_servers", "worker_job_servers", "mysql_udf_job_servers"),
    "redis": ("gearsync_redis", "worker_redis"),
}
DIRECT_FUNCTION = "syncToRedis"
MYSQL_PORT = 3306
#: Seconds between two looks into the outbox of a source whose triggers wake no worker.
NETWORK_SWEEP = 0.05


def members_of_sources(groups, hostvars):
    """By source, its hosts: those of gearsync_mysql with the same gearsync_source."""
    sources = {}
    for host in groups.get(GROUP, ()):
        sources.setdefault(hostvars[host].get("gearsync_source", "main"), []).append(host)
    return dict(sorted(sources.items()))


def _address(place, count):
    """An address for the metrics of the source at ``place``: the port of the first one, and the next ones."""
    host, _colon, port = place.rpartition(":")
    return f"{host}:{int(port) + count}"


def _is_by_network(member, hostvars):
    return hostvars[member].get("gearsync_mysql_access") == "network"


def _setting(name, value, places):
    """A setting as the first of the places has it that sets it; the value when none does."""
    for variables in places:
        for each in (f"worker_{name}", SHARED.get(name)):
            if each and each in variables:
                return variables[each]
    return value


def worker_instances(own, hostvars, groups, host, wanted=()):
    """The settings of the worker of each source that a host serves."""
    sources = members_of_sources(groups, hostvars)
    if not sources:
        return [{**own, "shared_job_servers": False}]
    instances = []
    served = {source: members for source, members in sources.items() if not wanted or source in wanted}
    for number, (source, members) in enumerate(served.items()):
        variables = hostvars[members[0]]
        # Of several sources each has its own; what is set for the workers' hosts is the only one's.
        places = [variables] if len(sources) > 1 else [hostvars[host], variables]
        settings = {name: _setting(name, value, places) for name, value in own.items()}
        if len(sources) > 1 or not any("worker_source" in each for each in places):
            settings["source"] = source
        if len(sources) > 1:
            if not {"worker_mysql", SHARED["mysql"]} & set(variables) and host not in members:
                # The default is the socket of the host's own server, which is another source's.
                settings["mysql"] = {}
            if "worker_metrics_listen" not in variables and own.get("metrics_listen"):
                settings["metrics_listen"] = _address(own["metrics_listen"], number)
            settings["mysql_servers"] = variables.get("worker_mysql_servers", members)
            if settings["mysql"].get("unix_socket"):
                settings["mysql_servers"] = [host]
        settings["mysql"] = _with_members(settings["mysql"], members, hostvars)
        if _is_by_network(members[0], hostvars) and not any(
            "worker_sweep" in each for each in (variables, hostvars[host])
        ):
            settings["sweep"] = NETWORK_SWEEP
        settings["shared_job_servers"] = any(
            server in _setting("job_servers", own["job_servers"], [hostvars[others[0]]])
            for name, others in sources.items()
            if name != source
            for server in settings["job_servers"]
            if name in served or not _is_local(server)
        )
        instances.append(settings)
    return instances


def _server_of(member, hostvars, port):
    """The address at which workers reach a member: (host, port)."""
    variables = hostvars[member]
    if _is_by_network(member, hostvars):
        return str(variables.get("gearsync_mysql_login_host")), variables.get(
            "gearsync_mysql_login_port", MYSQL_PORT
        )
    return str(variables.get("ansible_host", member)), port


def _with_members(mysql, members, hostvars):
    """How a worker reaches a source that has replicas: by all of its members, of which it drains the writable
    one. An address of no member, a proxy's for example, stays as it is.
    """
    servers = dict.fromkeys(_server_of(each, hostvars, mysql.get("port", MYSQL_PORT)) for each in members)
    direct = mysql.get("host") in (None, *members, *(host for host, _port in servers))
    if not mysql or mysql.get("unix_socket") or mysql.get("members") or not direct:
        return mysql
    rest = {name: value for name, value in mysql.items() if name not in ("host", "port")}
    addresses = [{"host": host, "port": port} for host, port in servers]
    if len(members) > 1:
        return {**rest, "members": addresses}
    return {**addresses[0], **mysql} if _is_by_network(members[0], hostvars) else mysql


def source_workers(hosts, hostvars, source):
    """Those of hosts that serve a source, as the inventory has it."""
    return [host for host in hosts if source in (hostvars[host].get("gearsync_worker_sources") or [source])]


def _machine(host, hostvars):
    """What two names of one machine have in common."""
    variables = hostvars[host]
    local = "localhost" if variables.get("ansible_connection") == "local" else host
    return variables.get("ansible_host", local)


def _is_on_each_host(setting, value):
    """Whether a setting means another server on each host."""
    if setting == "redis":
        kind, *place = _redis_database(value)
        return kind == "socket" or (kind == "server" and _is_local(f"{place[0]}:"))
    return all(_is_local(each) or _is_local(f"{each}:") for each in value)


def sources_using(sources, hostvars, groups, host, setting):
    """Those of sources that may use the job server or Redis of a host."""
    members = members_of_sources(groups, hostvars)

    def may_use(source):
        hosts = {
            *members.get(source, ()),
            *source_workers(groups.get("gearsync_workers", ()), hostvars, source),
        }
        if _machine(host, hostvars) in {_machine(each, hostvars) for each in hosts}:
            return True
        names = SERVER_SETTINGS[setting]
        values = [hostvars[each][name] for each in hosts for name in names if name in hostvars[each]]
        # Without a value it is the default, which is a server of the same host.
        return not all(_is_on_each_host(setting, value) for value in values)

    return [source for source in sources if may_use(source)]


def account_servers(servers, hostvars):
    """Those of the servers of a source on which its accounts are made: of several the primary."""
    known = {server: hostvars[server].get("__sync_triggers_is_primary") for server in servers}
    if len(servers) == 1:
        return [server for server in servers if known[server] is not False]
    return [server for server in servers if known[server]]


def serving_hosts(hosts, hostvars, source):
    """Those of hosts that serve a source, when each has noted what it serves."""
    return [
        host
        for host in hosts
        if any(each["source"] == source for each in hostvars[host].get("__worker_instances", ()))
    ]


def _redis_database(redis):
    """What two settings of Redis have in common when they write to one database."""
    if redis.get("cluster"):
        return ("cluster", *sorted(redis["cluster"]))
    if redis.get("sentinels"):
        return (
            "sentinel",
            str(redis.get("sentinel_master")),
            *sorted(redis["sentinels"]),
            redis.get("db", 0),
        )
    if redis.get("unix_socket"):
        return ("socket", redis["unix_socket"], redis.get("db", 0))
    return ("server", redis.get("host", "127.0.0.1"), redis.get("port", 6379), redis.get("db", 0))


def _is_local(address):
    """Whether an address means another server on each host."""
    return str(address).rpartition(":")[0] in {"127.0.0.1", "localhost", "[::1]"}


def _share_redis(one, other, same_host):
    database = _redis_database(one["redis"])
    alone = database[0] == "socket" or (database[0] == "server" and _is_local(f"{database[1]}:"))
    return database == _redis_database(other["redis"]) and (same_host or not alone)


def _mysql_server(mysql):
    """Where a worker reaches MySQL; None without durable delivery."""
    if mysql.get("unix_socket"):
        return ("socket", mysql["unix_socket"])
    if mysql.get("members"):
        return ("server", str(sorted(map(str, mysql["members"]))))
    return ("server", f"{mysql['host']}:{mysql.get('port', 3306)}") if mysql.get("host") else None


def _named(source, tables):
    """Declarations under names that no other source has."""
    return [
        {**table, "table": f"{source}/{table['table']}"}
        for table in tables
        if isinstance(table, dict) and isinstance(table.get("table"), str)
    ]


def _functions(instance):
    return {
        table.get("function") or DIRECT_FUNCTION
        for table in instance["tables"]
        if isinstance(table, dict) and not is_durable(table)
    }


def _problems_between(host, one, other):
    """What the workers of two sources would do to each other; host: where both are, empty for two hosts."""
    names = f"sources {one['source']} and {other['source']}"
    if _share_redis(one, other, bool(host)):
        both = _named(one["source"], one["tables"]) + _named(other["source"], other["tables"])
        shared = [problem for problem in tables_problems(both) if "may be a key that" in problem.message]
        # What is wrong within one of them is reported by itself.
        if shared and not tables_problems(one["tables"]) and not tables_problems(other["tables"]):
            yield (
                f"{names} write to one Redis database with keys that can be equal: {shared[0]}; give each "
                "source a database (gearsync_redis) or keys of its own"
            )
    server = _mysql_server(one["mysql"])
    if server and server == _mysql_server(other["mysql"]) and (host or server[0] != "socket"):
        yield (
            f"{names} are two databases, but their workers reach one, {server[1]}: set gearsync_worker_mysql "
            "in the variables of each source, or one of them is never drained"
        )
    common = [
        server
        for server in one["job_servers"]
        if server in other["job_servers"] and (host or not _is_local(server))
    ]
    functions = _functions(one) & _functions(other)
    if common and functions:
        yield (
            f"{names} both have tables with direct delivery by the function {min(functions)} on the job "
            f"server {common[0]}: each one's workers would take the other's jobs; give the tables of each "
            "source a function of its own"
        )
    if host and one.get("metrics_listen") and one["metrics_listen"] == other.get("metrics_listen"):
        yield (
            f"{names} have the same worker_metrics_listen on {host}, {one['metrics_listen']}: set it in the "
            "variables of each source"
        )


def _serving_problems(sources, hostvars, workers):
    """Sources that no worker serves, and names that are no source."""
    served = {worker: hostvars[worker].get("gearsync_worker_sources") or list(sources) for worker in workers}
    for worker, names in served.items():
        for name in set(names) - set(sources):
            yield (
                f"gearsync_worker_sources of {worker} names the source {name}, which is the gearsync_source "
                f"of no host of {GROUP}; the sources are {', '.join(sources)}"
            )
    for source, members in sources.items():
        if not any(source in names for names in served.values()):
            yield (
                f"no worker serves the source {source} of {', '.join(members)}: its triggers would fill "
                "an outbox that is never emptied; add it to gearsync_worker_sources of a worker host"
            )


def _member_problems(sources, hostvars):
    """Settings of a source that its members do not agree on."""
    for source, members in sources.items():
        for name in ("gearsync_tables", "gearsync_shards", "gearsync_redis"):
            values = [hostvars[member].get(name) for member in members]
            if any(value != values[0] for value in values):
                yield (
                    f"{name} differs between {', '.join(members)}, which are the source {source}: set it for "
                    "all of them, or give different databases a gearsync_source each"
                )
        if len({_is_by_network(member, hostvars) for member in members}) > 1:
            yield (
                f"gearsync_mysql_access differs between {', '.join(members)}, which are the source {source} "
                "and have the same triggers: set it for all of them"
            )


def source_problems(instances, hostvars, groups):
    """What is wrong with the sources of an inventory, a sentence each."""
    sources = members_of_sources(groups, hostvars)
    problems = list(_serving_problems(sources, hostvars, groups.get("gearsync_workers", ())))
    problems += _member_problems(sources, hostvars)
    for host, ours in instances.items():
        for one in ours:
            if len(sources.get(one["source"], ())) > 1 and one["mysql"].get("unix_socket"):
                problems.append(
                    f"the worker of the source {one['source']} on {host} reaches MySQL by a socket, but the "
                    "source has replicas, one of which may become the primary: set gearsync_worker_mysql to "
                    "{user: gearsync, password: ...} in the variables of the source"
                )
    everywhere = [(host, instance) for host, ours in sorted(instances.items()) for instance in ours]
    for (host, one), (other_host, other) in itertools.combinations(everywhere, 2):
        if one["source"] != other["source"]:
            problems.extend(_problems_between(host if host == other_host else "", one, other))
    return list(dict.fromkeys(problems))


class FilterModule:
    def filters(self):
        return {
            "account_servers": account_servers,
            "members_of_sources": members_of_sources,
            "serving_hosts": serving_hosts,
            "source_workers": source_workers,
            "source_problems": source_problems,
            "sources_using": sources_using,
            "worker_instances": worker_instances,
        }

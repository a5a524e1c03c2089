"""The fence in Redis: which batch of a shard was the last one, and which of the outbox's ids it has applied. Scripts, and what goes in and out. Pure.

A fence is a hash, one for each shard (in a cluster one for each shard and slot), and changes in the same atomic step as the data:

``epoch``, ``number``
    The lease's epoch and the number of the last batch. A batch names the number that it follows, and is refused when the fence has another one.
    So a batch that was given up and arrives late, one of a process whose lease is another's by now, and one for a Redis that has lost its last second
    are all refused by the same comparison.
``b<number>``
    The ids that a batch has applied, until their rows are deleted from the outbox.
``x<id>``
    Why a change cannot be applied, until it is a dead letter.
``p<number>``, ``ids``
    What a batch that stopped half-way has appended: ``<id>.<n>``, the n-th append of a change. ``ids`` is the same, left by release 1.0.
``created``
    When the newest of these changes was made, by the database's clock. A row that was made later is another one, whatever its id: ids are used again
    after a database was restored, or made anew, or a replica without the last changes was promoted.

Whoever begins to write to a shard, or got no answer, claims the fence first: it raises the number, and learns what was applied. A number is never used
again, by whichever process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from gearsync.outbox.spans import Spans, from_text, runs, text_of
from gearsync.servers.redis import Script, words_of
from gearsync.shapes.shape import APPEND, Step

#: Later than every row of the outbox: release 1.0 does not say when the changes were made whose appends it keeps.
_EVER = b"9999"

#: Errors of a command that come again whatever is done about the server: of the key's type and of the value. All others wait.
PERMANENT = (
    "WRONGTYPE", "value is not a valid float", "is not a float", "hash value is not", "value is not an integer", "not a number (NaN)",
    "string exceeds maximum allowed size", "invalid expire time", "has exhausted the last possible ID",
)

#: KEYS: fences. ARGV: for each the epoch, and a number that its own must be greater than. Answers the number and the hash of each as it was before, or
#: which fence has a greater epoch, and that epoch.
CLAIM = Script("""
for place = 1, #KEYS do
  local epoch = redis.call('HGET', KEYS[place], 'epoch')
  if epoch and tonumber(epoch) > tonumber(ARGV[2 * place - 1]) then return {'refused', place, tonumber(epoch)} end
end
local answer = {'ok'}
for place = 1, #KEYS do
  local fields = redis.call('HGETALL', KEYS[place])
  local number = math.max(tonumber(redis.call('HGET', KEYS[place], 'number') or 0), tonumber(ARGV[2 * place])) + 1
  local done = redis.pcall('HSET', KEYS[place], 'epoch', ARGV[2 * place - 1], 'number', string.format('%.0f', number))
  if type(done) == 'table' and done.err then return {'later', done.err} end
  answer[#answer + 1] = number
  answer[#answer + 1] = fields
end
return answer
""")

#: KEYS: the fences, then the keys of all commands. ARGV: how many fences; for each its epoch, the number that it must have, the number that it gets, the
#: ids, when the newest was made, and how many fields it may forget, with their names; then the steps. A step is the number of its command's arguments, the
#: id of its change, and the arguments; of several commands it is their number, negative, the id, and each command after the number of its arguments; 0 is a
#: step that was done before. The id is negative when the step appends.
BATCH = Script("""
local fences, at = {}, 2
for place = 1, tonumber(ARGV[1]) do
  local fence = {key = KEYS[place], epoch = ARGV[at], follows = ARGV[at + 1], number = ARGV[at + 2], ids = ARGV[at + 3], created = ARGV[at + 4],
    forget = tonumber(ARGV[at + 5]), at = at + 6}
  local known = redis.call('HMGET', fence.key, 'epoch', 'number')
  if known[1] ~= fence.epoch or known[2] ~= fence.follows then return {'moved', place} end
  fences[place] = fence
  at = fence.at + fence.forget
end
for place, fence in ipairs(fences) do
  local done = redis.pcall('HSET', fence.key, 'number', fence.number)
  if type(done) == 'table' and done.err then return {'later', done.err} end
end
local function text_of(id) return string.format('%.0f', id) end
local owners
local function fence_of(id)
  if not owners then
    owners = {}
    for _, fence in ipairs(fences) do
      for low, high in string.gmatch(fence.ids, '(%d+)%-?(%d*)') do
        for number = tonumber(low), tonumber(high ~= '' and high or low) do owners[number] = fence end
      end
    end
  end
  return owners[id]
end
local permanent = {PERMANENT}
local function is_permanent(text)
  for _, words in ipairs(permanent) do if string.find(text, words, 1, true) then return true end end
  return false
end
-- LREM walks over its list, which may be long. After the first few of a list those that follow wait, with the list's length at the time, and what they and
-- the LTRIMs among them would do is done in two walks at the end.
local removals, waiting, mark = {}, {}, fences[1] and fences[1].key .. '\\0' .. fences[1].number
local function settle(key)
  local events, places, gone, head, removed = waiting[key], {}, {}, 0, 0
  waiting[key], removals[key] = nil, nil
  for _, event in ipairs(events) do
    if event.value then places[event.value] = {first = 1} end
  end
  for start = 0, redis.call('LLEN', key) - 1, 1000 do
    for offset, value in ipairs(redis.call('LRANGE', key, start, start + 999)) do
      if places[value] then table.insert(places[value], start + offset - 1) end
    end
  end
  for _, event in ipairs(events) do
    if event.value then
      local its = places[event.value]
      while its[its.first] and its[its.first] < head do its.first = its.first + 1 end
      local place = its[its.first]
      if place and place < event.length then gone[place], removed, its.first = true, removed + 1, its.first + 1 end
    else
      local excess = event.length - head - removed - event.most
      while excess > 0 do
        if gone[head] then gone[head], removed = nil, removed - 1 else excess = excess - 1 end
        head = head + 1
      end
    end
  end
  for place in pairs(gone) do redis.call('LSET', key, place, mark) end
  if head > 0 then redis.call('LTRIM', key, head, -1) end
  if removed > 0 then redis.call('LREM', key, removed, mark) end
end
local function execute(name, key, ...)
  local events = waiting[key]
  if events and name == 'LREM' then
    events[#events + 1] = {value = select(2, ...), length = redis.call('LLEN', key)}
    return 0
  elseif events and name == 'LTRIM' then
    events[#events + 1] = {most = -tonumber((...)), length = redis.call('LLEN', key)}
    -- Changes nothing, and tells whether it may be done.
    return redis.pcall('LTRIM', key, 0, -1)
  elseif events and name ~= 'RPUSH' and name ~= 'EXPIRE' then
    settle(key)
  end
  local reply = redis.pcall(name, key, ...)
  if name == 'LREM' and type(reply) == 'number' then
    removals[key] = (removals[key] or 0) + 1
    local length = removals[key] == 4 and redis.pcall('LLEN', key)
    -- Without the right to these commands they are done one by one.
    if type(length) == 'number' and not redis.pcall('LRANGE', key, 0, 0).err then
      local denied = redis.pcall('LSET', key, length, '').err
      if denied and string.find(denied, 'out of range', 1, true) then waiting[key] = {} end
    end
  end
  return reply
end
local answer, appends, appended, stuck = {'ok'}, {}, {}, nil
while ARGV[at] and not stuck do
  local count, id, going = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), true
  at = at + 2
  local commands = count < 0 and -count or math.min(count, 1)
  for _ = 1, commands do
    local arguments = count
    if count < 0 then
      arguments = tonumber(ARGV[at])
      at = at + 1
    end
    if going then
      local reply = execute(unpack(ARGV, at, at + arguments - 1))
      if type(reply) == 'table' and reply.err then
        going = false
        if is_permanent(reply.err) then
          local change = math.abs(id)
          redis.call('HSET', fence_of(change).key, 'x' .. text_of(change), reply.err)
          answer[#answer + 1] = change
          answer[#answer + 1] = reply.err
        else
          stuck = {change = math.abs(id), words = reply.err}
        end
      end
    end
    at = at + arguments
  end
  if id < 0 then
    local number = appends[-id] or 0
    appends[-id] = number + 1
    if going then appended[#appended + 1] = {-id, number} end
  end
end
for _, key in ipairs(KEYS) do
  if waiting[key] then settle(key) end
end
if not stuck then
  -- Last, so that a script that ends in an error before has noted nothing.
  for _, fence in ipairs(fences) do
    if fence.ids ~= '' then redis.call('HSET', fence.key, 'created', fence.created, 'b' .. fence.number, fence.ids) end
  end
  for _, fence in ipairs(fences) do
    for field = 0, fence.forget - 1, 4000 do
      redis.pcall('HDEL', fence.key, unpack(ARGV, fence.at + field, fence.at + math.min(field + 4000, fence.forget) - 1))
    end
  end
  return answer
end
for _, fence in ipairs(fences) do
  local tokens = {}
  for _, token in ipairs(appended) do
    if fence_of(token[1]) == fence then tokens[#tokens + 1] = text_of(token[1]) .. '.' .. token[2] end
  end
  if #tokens > 0 then redis.call('HSET', fence.key, 'p' .. fence.number, table.concat(tokens, ',')) end
end
return {'stuck', stuck.change, stuck.words}
""".replace("PERMANENT", ", ".join(f"'{words}'" for words in PERMANENT)), waits=True)


class Mark(NamedTuple):
    """One shard's part of a batch: its fence, what the fence must hold, and what it is to hold."""

    key: str
    epoch: int
    follows: int
    number: int
    ids: Sequence[int]
    #: When the newest change that this fence was applied to was made, as the database writes it.
    created: bytes
    #: Fields of the fence whose rows are deleted from the outbox.
    forget: Sequence[str]


class Known(NamedTuple):
    """What a fence held when it was claimed."""

    #: Epoch and number of the last batch; None for a fence that was not there.
    last: Optional[tuple[int, int]]
    #: When the newest change that it was applied to was made.
    created: bytes
    #: The applied ids by the numbers of their batches.
    batches: dict[int, Spans]
    #: Why changes cannot be applied, by id.
    dead: dict[int, str]
    #: What was appended by batches that stopped half-way: a change's id, and which of its appends.
    appended: set[tuple[int, int]]
    #: The fields that hold these.
    partial: list[str]


def claim(claims: Sequence[tuple[str, int, int]]) -> tuple[Any, ...]:
    """The arguments of CLAIM; ``claims`` are the fences' keys, the epochs of our leases, and the greatest numbers that we know."""
    return (len(claims), *(key for key, _epoch, _number in claims), *(value for _key, *values in claims for value in values))


def batch(marks: Sequence[Mark], steps: Sequence[Step], ids: Sequence[int]) -> list[Any]:
    """The arguments of BATCH; ``ids`` are those of the changes that ``steps`` are of."""
    keys = [step.key for step in steps]
    found: list[Any] = [len(marks) + len(keys), *(mark.key for mark in marks), *keys, len(marks)]
    for mark in marks:
        found += (mark.epoch, mark.follows, mark.number, text_of(runs(mark.ids)), mark.created, len(mark.forget), *mark.forget)
    for step in steps:
        commands, number = step.commands, ids[step.change]
        if step.kind == APPEND:
            number = -number
        if len(commands) < 2:
            command = commands[0] if commands else ()
            found += (len(command), number)
            found += command
            continue
        found += (-len(commands), number)
        for command in commands:
            found.append(len(command))
            found += command
    return found


def known(fields: Mapping[bytes, bytes]) -> Known:
    """What CLAIM answers for one fence."""
    epoch = fields.get(b"epoch")
    # A fence that has applied nothing has no time that another one would have to be later than.
    knows = any(name == b"ids" or (name[:1] in (b"b", b"x", b"p") and name[1:].isdigit()) for name in fields)
    created = fields.get(b"created", _EVER) if knows else b""
    found = Known((int(epoch), int(fields.get(b"number", 0))) if epoch else None, created, {}, {}, set(), [])
    for name, value in fields.items():
        kind, rest = name[:1], name[1:].decode()
        if name == b"ids" or (kind == b"p" and rest.isdigit()):
            found.partial.append(name.decode())
            found.appended.update(_tokens(value.decode()))
        elif kind == b"b" and rest.isdigit():
            found.batches[int(rest)] = Spans(from_text(value.decode()))
        elif kind == b"x" and rest.isdigit():
            found.dead[int(rest)] = words_of(value)
    return found


def _tokens(text: str) -> Iterable[tuple[int, int]]:
    for token in text.split(",") if text else ():
        number, _dot, which = token.partition(".")
        yield int(number), int(which)


def without_done(steps: Sequence[Step], ids: Sequence[int], appended: Collection[tuple[int, int]]) -> list[Step]:
    """``steps``, those that are among what was ``appended`` without their commands: they keep their place in the count of their change's appends."""
    if not appended:
        return list(steps)
    found, counted = [], dict[int, int]()
    for step in steps:
        if step.kind == APPEND:
            number = ids[step.change]
            which = counted[number] = counted.get(number, -1) + 1
            if (number, which) in appended:
                found.append(Step(step.kind, step.shape, step.key, step.place, [], step.change))
                continue
        found.append(step)
    return found

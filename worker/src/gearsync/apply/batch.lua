-- SPDX-License-Identifier: GPL-3.0-or-later
-- Applies a batch. KEYS: the fences, then the keys of all commands. ARGV: the number of fences; for each its epoch, the
-- number that it must have, the number that it gets, the ids, their digests, when the newest change was made, and the number
-- and names of fields to delete; then the steps. A step of one command: the number of its arguments, the id of its change, the arguments.
-- A step of several: the negative number of commands, the id, and each command after the number of its arguments. A step
-- with the number 0 was done before. The id is negative when the step appends.
-- Returns 'ok', and the id and error of each change that cannot be applied; 'moved' when a fence has another number;
-- 'later' and an error when Redis accepts no writes; 'stuck', an id and an error when a command failed with a temporary one.
local fences, at = {}, 2
for place = 1, tonumber(ARGV[1]) do
  local fence = {key = KEYS[place], epoch = ARGV[at], follows = ARGV[at + 1], number = ARGV[at + 2], ids = ARGV[at + 3], digests = ARGV[at + 4],
    created = ARGV[at + 5], forget = tonumber(ARGV[at + 6]), at = at + 7, places = {}}
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
      local place = 0
      for low, high in string.gmatch(fence.ids, '(%d+)%-?(%d*)') do
        for number = tonumber(low), tonumber(high ~= '' and high or low) do
          owners[number], fence.places[number] = fence, place
          place = place + 1
        end
      end
    end
  end
  return owners[id]
end
local permanent = {PERMANENT}
local function is_permanent(text)
  for _, message in ipairs(permanent) do if string.find(text, message, 1, true) then return true end end
  return false
end
-- LREM scans its list, which may be long. After the first few LREMs of a list, further ones and the LTRIMs among them are
-- deferred with the list's length at the time, and are done together in two scans at the end.
local removals, waiting, mark = {}, {}, fences[1] and fences[1].key .. '\0' .. fences[1].number
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
    -- Changes nothing, and fails if LTRIM is not allowed.
    return redis.pcall('LTRIM', key, 0, -1)
  elseif events and name ~= 'RPUSH' and name ~= 'EXPIRE' then
    settle(key)
  end
  local reply = redis.pcall(name, key, ...)
  if name == 'LREM' and type(reply) == 'number' then
    removals[key] = (removals[key] or 0) + 1
    local length = removals[key] == 4 and redis.pcall('LLEN', key)
    -- Without the rights to these commands nothing is deferred.
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
          stuck = {change = math.abs(id), message = reply.err}
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
  -- Last: a script that ends in an error before this has recorded nothing.
  for _, fence in ipairs(fences) do
    if fence.ids ~= '' then redis.call('HSET', fence.key, 'created', fence.created, 'b' .. fence.number, fence.ids) end
    if fence.digests ~= '' then redis.call('HSET', fence.key, 'c' .. fence.number, fence.digests) end
  end
  for _, fence in ipairs(fences) do
    for field = 0, fence.forget - 1, 4000 do
      redis.pcall('HDEL', fence.key, unpack(ARGV, fence.at + field, fence.at + math.min(field + 4000, fence.forget) - 1))
    end
  end
  return answer
end
for _, fence in ipairs(fences) do
  local tokens, digests = {}, {}
  for _, token in ipairs(appended) do
    if fence_of(token[1]) == fence then
      local place = 4 * fence.places[token[1]]
      tokens[#tokens + 1] = text_of(token[1]) .. '.' .. token[2]
      digests[#digests + 1] = string.sub(fence.digests, place + 1, place + 4)
    end
  end
  if #tokens > 0 then
    redis.call('HSET', fence.key, 'p' .. fence.number, table.concat(tokens, ','), 'c' .. fence.number, table.concat(digests))
  end
end
return {'stuck', stuck.change, stuck.message}

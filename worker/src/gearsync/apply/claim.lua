-- SPDX-License-Identifier: GPL-3.0-or-later
-- Claims fences. KEYS: the fences. ARGV: for each the epoch, and a number that its new one must be greater than; then, where
-- a source has several members, the term, and other terms that fences may have. Returns 'ok', and the new number and the
-- former hash of each; 'elsewhere' and the terms that may not be replaced; 'refused', the fence with a greater epoch, and that
-- epoch; 'later' and an error when Redis accepts no writes.
local term, follows, elsewhere = ARGV[2 * #KEYS + 1], {}, {'elsewhere'}
for place = 2 * #KEYS + 1, #ARGV do follows[ARGV[place]] = true end
for place = 1, term and #KEYS or 0 do
  local known = redis.call('HGET', KEYS[place], 'term')
  if known and not follows[known] then
    elsewhere[#elsewhere + 1], follows[known] = known, true
  end
end
if #elsewhere > 1 then return elsewhere end
for place = 1, #KEYS do
  local epoch = redis.call('HGET', KEYS[place], 'epoch')
  if epoch and tonumber(epoch) > tonumber(ARGV[2 * place - 1]) then return {'refused', place, tonumber(epoch)} end
end
local answer = {'ok'}
for place = 1, #KEYS do
  local fields = redis.call('HGETALL', KEYS[place])
  local number = math.max(tonumber(redis.call('HGET', KEYS[place], 'number') or 0), tonumber(ARGV[2 * place])) + 1
  local done = redis.pcall('HSET', KEYS[place], 'epoch', ARGV[2 * place - 1], 'number', string.format('%.0f', number),
    unpack(term and {'term', term} or {}))
  if type(done) == 'table' and done.err then return {'later', done.err} end
  answer[#answer + 1] = number
  answer[#answer + 1] = fields
end
return answer

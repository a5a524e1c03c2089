-- SPDX-License-Identifier: GPL-3.0-or-later
-- Claims fences. KEYS: the fences. ARGV: for each the epoch, and a number that its new one must be greater than. Returns
-- 'ok', and the new number and the former hash of each; 'refused', the fence with a greater epoch, and that epoch; 'later'
-- and an error when Redis accepts no writes.
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

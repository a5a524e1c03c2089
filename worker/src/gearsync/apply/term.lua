-- SPDX-License-Identifier: GPL-3.0-or-later
-- Records which server of a source is drained. KEYS: where. ARGV: the term of the server, the state to record, which begins
-- with it, and a state of another term that may be replaced. Returns 'ok'; 'elsewhere' when another state of another term is
-- recorded; 'later' and an error when Redis accepts no writes.
local known, own = redis.call('HGET', KEYS[1], 'term'), ARGV[1] .. ' '
if known and known ~= ARGV[3] and string.sub(known, 1, #own) ~= own then return {'elsewhere'} end
local done = redis.pcall('HSET', KEYS[1], 'term', ARGV[2])
if type(done) == 'table' and done.err then return {'later', done.err} end
return {'ok'}

-- Steps of one batch, in order, all on keys of one group. Called by gateway/state/shared/link.py.
--
-- KEYS: epoch, last reply to this journal, its last record that was posted, then every key that
-- the steps name.
-- ARGV: expected epoch, number of the batch, steps as JSON, and 0: the time is the server's; a
-- rehearsal on another clock says what time it is.
-- Reply: {now in microseconds, {reply of each step}}, or {-1, epoch or ""} where nothing was done.
--
-- An account is a hash, its document (state/shared/document.py): `v` counts its changes, `t` tells
-- its terms, `x` is when the first of its holds runs out, `z` when its own expiry is to be put off,
-- u|... is used, h|... is held, o|ID is a hold, p|JOURNAL the last record that was posted from
-- there. Integers stay below 2^53: callers see to it (core/units.py).
-- A step answers {1, ...} when it was done, {0, ...} when a limit refused, {2, document} when the
-- caller knows less than the document, {3} when there is no document, {4} when its period is over.

local KEEP_S = 172800 -- a document, and the last reply, since their last use
local PUT_OFF_US = 3600000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[4] ~= '0' then
  now = tonumber(ARGV[4])
end
local found = redis.call('MGET', KEYS[1], KEYS[2])
if found[1] ~= ARGV[1] then
  return {-1, found[1] or ''}
end
if found[2] then
  local at = string.find(found[2], ' ', 1, true)
  if string.sub(found[2], 1, at - 1) == ARGV[2] then
    return cmsgpack.unpack(string.sub(found[2], at + 1)) -- the first reply was lost
  end
end

local function document(key)
  return redis.call('HGETALL', key)
end

local function keep(key, fields, put_off)
  if now > (tonumber(put_off or 0)) then
    fields[#fields + 1] = 'z'
    fields[#fields + 1] = now + PUT_OFF_US
    redis.call('HSET', key, unpack(fields))
    redis.call('EXPIRE', key, KEEP_S)
  else
    redis.call('HSET', key, unpack(fields))
  end
end

-- Rate limits: {kind, key, a, b}. Each has two figures: what it stands at, and its instant.
-- g: a = emission interval, b = tolerance. w: a = period, b = quota. c: a = lease, b = quota.
local function stand(limit)
  local kind, key = limit[1], limit[2]
  if kind == 'c' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    local count = redis.call('ZCARD', key)
    return count < limit[4], count, 0
  end
  local value = redis.call('GET', key)
  if kind == 'g' then
    local tat = math.max(tonumber(value or 0), now)
    return tat + limit[3] - now <= limit[4], tat, 0
  end
  local end_us, count = now - now % limit[3] + limit[3], 0
  if value then
    local at = string.find(value, ' ', 1, true)
    local known = tonumber(string.sub(value, 1, at - 1))
    if known > now then
      end_us, count = known, tonumber(string.sub(value, at + 1))
    end
  end
  return count < limit[4], end_us, count
end

local function whole(n)
  return string.format('%.0f', n)
end

local function write_limit(limit, first, second)
  local ends = first
  local value = whole(first)
  if limit[1] == 'w' then
    value = value .. ' ' .. whole(second)
  end
  local left_ms = math.ceil((ends - now) / 1000)
  if left_ms > 0 then
    redis.call('SET', limit[2], value, 'PX', whole(left_ms))
  else
    redis.call('DEL', limit[2])
  end
end

local function take(limit, first, second, id)
  if limit[1] == 'c' then
    redis.call('ZADD', limit[2], whole(now + limit[3]), id)
    redis.call('PEXPIRE', limit[2], whole(math.ceil(limit[3] / 1000) + 1000))
    return first + 1, 0
  end
  if limit[1] == 'g' then
    first = first + limit[3]
  else
    second = second + 1
  end
  write_limit(limit, first, second)
  return first, second
end

-- All limits or none; the figures of each, as they are then.
local function limits_fit(limits)
  local fits, firsts, seconds = true, {}, {}
  for n, limit in ipairs(limits) do
    local one
    one, firsts[n], seconds[n] = stand(limit)
    fits = fits and one
  end
  return fits, firsts, seconds
end

local function take_all(limits, firsts, seconds, id)
  for n, limit in ipairs(limits) do
    firsts[n], seconds[n] = take(limit, firsts[n], seconds[n], id)
  end
end

local function figures(firsts, seconds)
  local flat = {}
  for n = 1, #firsts do
    flat[#flat + 1] = firsts[n]
    flat[#flat + 1] = seconds[n]
  end
  return flat
end

local steps = {}
local posted = 0

-- {"limits", id, limits}: take them alone.
function steps.limits(step)
  local id, limits = step[2], step[3]
  local fits, firsts, seconds = limits_fit(limits)
  if fits then
    take_all(limits, firsts, seconds, id)
  end
  return {fits and 1 or 0, figures(firsts, seconds)}
end

-- {"untake", id, limits}: give back what was taken for a request that something else refused.
function steps.untake(step)
  for _, limit in ipairs(step[3]) do
    if limit[1] == 'c' then
      redis.call('ZREM', limit[2], step[2])
    else
      local _, first, second = stand(limit)
      if limit[1] == 'g' then
        write_limit(limit, first - limit[3], 0)
      elseif second > 0 then
        write_limit(limit, first, second - 1)
      end
    end
  end
  return {1}
end

-- {"hold", key, terms, id, record, lease, limits, charges}; charges: {u, h, amount, room, end}.
-- Where one number decides: used + held + amount may come to room.
function steps.hold(step)
  local key, id, limits, charges = step[2], step[4], step[7], step[8]
  local names = {'v', 't', 'x', 'z'}
  for _, charge in ipairs(charges) do
    names[#names + 1] = charge[1]
    names[#names + 1] = charge[2]
  end
  local values = redis.call('HMGET', key, unpack(names))
  if not values[1] then
    return {3}
  end
  if values[2] ~= step[3] then
    return {2, document(key)}
  end
  local fits, firsts, seconds = limits_fit(limits)
  local stands = {}
  for n, charge in ipairs(charges) do
    if now >= charge[5] then
      return {4}
    end
    local used = tonumber(values[3 + 2 * n] or 0)
    local held = tonumber(values[4 + 2 * n] or 0)
    if used + held + charge[3] > charge[4] then
      fits = false
    end
    stands[2 * n - 1], stands[2 * n] = used, held
  end
  if not fits then
    local first = tonumber(values[3] or 0)
    if first > 0 and first <= now then
      return {2, document(key)} -- some of it may be held by nobody any more
    end
    return {0, figures(firsts, seconds), stands}
  end
  take_all(limits, firsts, seconds, id)
  local ends = now + step[6]
  local version = tonumber(values[1]) + 1
  local fields = {'v', version, 'o|' .. id, whole(ends) .. ' ' .. step[5]}
  if tonumber(values[3] or 0) == 0 then
    fields[#fields + 1] = 'x'
    fields[#fields + 1] = ends
  end
  for n, charge in ipairs(charges) do
    if charge[3] ~= 0 then
      stands[2 * n] = stands[2 * n] + charge[3]
      fields[#fields + 1] = charge[2]
      fields[#fields + 1] = stands[2 * n]
    end
  end
  keep(key, fields, values[4])
  return {1, figures(firsts, seconds), stands, version}
end

-- {"post", key, id, journal, seq, held, used, gauges}; held and used: {field, amount}.
-- What the journal says is posted, once; seq 0: nothing was, the hold is given back.
-- Of a hold that is posted already, nothing more is used; or what the journal says after all.
-- held 0: as the hold itself says, for its process has ended.
function steps.post(step)
  local key, id, seq, held, used = step[2], step[3], step[5], step[6], step[7]
  for _, gauge in ipairs(step[8]) do
    redis.call('ZREM', gauge, id)
  end
  local head = redis.call('HMGET', key, 'v', 'z', 'o|' .. id, 'p|' .. step[4])
  if not head[1] then
    return {3}
  end
  local hold, is_new = head[3], seq > tonumber(head[4] or 0)
  local is_posted = hold and string.find(hold, ' posted ', 1, true)
  local added = {}
  local function add(parts, sign)
    for _, part in ipairs(parts) do
      added[part[1]] = (added[part[1]] or 0) + sign * part[2]
    end
  end
  if hold and not is_posted then
    if held == 0 then
      held = {}
      for n, part in ipairs(cjson.decode(string.sub(hold, string.find(hold, ' ', 1, true) + 1))[4]) do
        held[n] = {'h|' .. part[1] .. '|' .. whole(part[2]) .. '|', part[4]}
      end
    end
    add(held, -1)
  end
  if is_new and #used > 0 then
    add(used, 1)
    if is_posted then
      local record = cjson.decode(string.sub(hold, is_posted + 8))
      add(record[#record], -1)
    end
  end
  local names = {}
  for name, amount in pairs(added) do
    if amount ~= 0 then
      names[#names + 1] = name
    end
  end
  local fields = {'v', tonumber(head[1])}
  if #names > 0 then
    fields[2] = fields[2] + 1
    for n, value in ipairs(redis.call('HMGET', key, unpack(names))) do
      fields[#fields + 1] = names[n]
      fields[#fields + 1] = tonumber(value or 0) + added[names[n]]
    end
  elseif hold and not is_posted then
    fields[2] = fields[2] + 1
  end
  if seq > posted then
    posted = seq
  end
  if is_new and seq > 0 then
    fields[#fields + 1] = 'p|' .. step[4]
    fields[#fields + 1] = seq
  end
  if hold then
    redis.call('HDEL', key, 'o|' .. id)
  end
  keep(key, fields, head[2])
  return {1, fields[2]}
end

-- {"write", key, version, terms, set, gone}: the document as it was worked out from a version.
function steps.write(step)
  local key = step[2]
  local values = redis.call('HMGET', key, 'v', 't', 'z')
  if not values[1] then
    return {3}
  end
  if values[1] ~= step[3] or values[2] ~= step[4] then
    return {2, document(key)}
  end
  if #step[6] > 0 then
    redis.call('HDEL', key, unpack(step[6]))
  end
  local fields = step[5]
  local version = tonumber(values[1]) + 1
  fields[#fields + 1] = 'v'
  fields[#fields + 1] = version
  keep(key, fields, values[3])
  return {1, version}
end

-- {"renew", key, id, lease, gauges}: the request goes on.
function steps.renew(step)
  local key, field = step[2], 'o|' .. step[3]
  local ends = whole(now + step[4])
  for _, gauge in ipairs(step[5]) do
    redis.call('ZADD', gauge, 'XX', ends, step[3])
    redis.call('PEXPIRE', gauge, whole(math.ceil(step[4] / 1000) + 1000))
  end
  local record = redis.call('HGET', key, field)
  if not record then
    return {3}
  end
  redis.call('HSET', key, field, ends .. string.sub(record, string.find(record, ' ', 1, true), -1))
  return {1}
end

-- {"open", key, waiting, fields}: the document, begun with fields and the holds that wait for it.
function steps.open(step)
  local key = step[2]
  if redis.call('EXISTS', key) == 0 then
    local fields = step[4]
    fields[#fields + 1] = 'v'
    fields[#fields + 1] = 1
    fields[#fields + 1] = 't'
    fields[#fields + 1] = whole(now)
    keep(key, fields, 0)
    for _, hold in ipairs(redis.call('LRANGE', step[3], 0, -1)) do
      local parts = cjson.decode(hold)
      redis.call('HSET', key, 'o|' .. parts[1], whole(now + parts[2]) .. ' ' .. parts[3], 'x', 1)
      for _, part in ipairs(parts[4]) do
        redis.call('HINCRBY', key, part[1], whole(part[2]))
      end
    end
    redis.call('DEL', step[3])
  end
  return {2, document(key)}
end

-- {"look", key}: the document.
function steps.look(step)
  local fields = document(step[2])
  if #fields == 0 then
    return {3}
  end
  return {2, fields}
end

-- {"changed", key}: the account's terms are others now, whoever has them is to read them again.
function steps.changed(step)
  if redis.call('EXISTS', step[2]) == 1 then
    redis.call('HSET', step[2], 't', whole(now))
  end
  return {1}
end

local replies = {}
for n, step in ipairs(cjson.decode(ARGV[3])) do
  replies[n] = steps[step[1]](step)
end
if posted > 0 then
  redis.call('SET', KEYS[3], whole(posted), 'EX', KEEP_S)
end
local reply = {now, replies}
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. cmsgpack.pack(reply), 'EX', KEEP_S)
return reply

-- Steps of one batch, in order, all on keys of one group. Called by gateway/state/shared/link.py.
--
-- KEYS: epoch, last reply to this journal, its last record that was posted, then every key that
-- the steps name.
-- ARGV: expected epoch, number of the batch, steps as JSON; 0: the time is the server's, a rehearsal
-- on another clock says what time it is; 0: nothing that was posted before waits for a document.
-- Reply: {now in microseconds, {reply of each step}}, or {-1, epoch or ""} where nothing was done.
--
-- An account is a hash, its document (state/shared/document.py): `v` counts its changes, `t` tells
-- its terms, `x` is when the first of its holds runs out, `z` when its own expiry is to be put off,
-- u|... is used, h|... is held, o|ID is a hold, j|LIFE a stake: what one process holds for requests
-- that are not told one by one, and k|LIFE|... its part in a held; p|JOURNAL is the last record
-- that was posted from there, m|METER|PERIOD|INSTANT what requests before an instant used, `b` the
-- names of these, `w` whose turn it is to write. Integers stay below 2^53: callers see to it (core/units.py).
-- A step answers {1, ...} when it was done, {0, ...} when a limit refused, {2, document} when the
-- caller knows less than the document, {3} when there is no document, {4} when its period is over,
-- {5} when only some of what it tells is new, {6} when the stake was let go of, {7} when it is
-- the turn of somebody else.

local KEEP_S = 172800 -- a document, and the last reply, since their last use
local PUT_OFF_US = 3600000000
local PLENTY = 16 -- times as much as is taken ahead has to be left
local AHEAD_US = 60000 -- it was used by then, or given back

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[4] ~= '0' then
  now = tonumber(ARGV[4])
end
local is_again = false
local found = redis.call('MGET', KEYS[1], KEYS[2])
if found[1] ~= ARGV[1] then
  return {-1, found[1] or ''}
end
if found[2] then
  local at = string.find(found[2], ' ', 1, true)
  local last = string.sub(found[2], 1, at - 1)
  if last == ARGV[2] then
    local from = string.find(found[2], ' ', at + 1, true)
    if string.sub(found[2], at + 1, from - 1) == ARGV[1] then
      return cmsgpack.unpack(string.sub(found[2], from + 1)) -- the first reply was lost
    end -- it was done in an epoch that is over: what it did was taken away with that,
    is_again = true -- but for what rate limits count: nothing is given back to them twice
  elseif tonumber(last) > tonumber(ARGV[2]) then
    return {-1, found[1]} -- a copy that came late: it was done long ago, nobody waits
  end
end

-- A command on so many words that they do not fit on Lua's stack; pairs stay together.
local function in_parts(words, call)
  for from = 1, #words, 4000 do
    call(unpack(words, from, math.min(from + 3999, #words)))
  end
end

local function document(key)
  return redis.call('HGETALL', key)
end

local function keep(key, fields, put_off)
  if now > (tonumber(put_off or 0)) then
    fields[#fields + 1] = 'z'
    fields[#fields + 1] = now + PUT_OFF_US
    in_parts(fields, function(...) redis.call('HSET', key, ...) end)
    redis.call('EXPIRE', key, KEEP_S)
  else
    in_parts(fields, function(...) redis.call('HSET', key, ...) end)
  end
end

-- Rate limits: {kind, key, a, b}. Each has two figures: what it stands at, and its instant.
-- g: a = emission interval, b = tolerance. w: a = period, b = quota. c: a = lease, b = quota.
-- How many more requests it lets in now, and its figures.
local function stand(limit)
  local kind, key = limit[1], limit[2]
  if kind == 'c' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    local count = redis.call('ZCARD', key)
    return limit[4] - count, count, 0
  end
  local value = redis.call('GET', key)
  if kind == 'g' then
    local tat = math.max(tonumber(value or 0), now)
    return math.floor((limit[4] + now - tat) / limit[3]), tat, 0
  end
  local end_us, count = now - now % limit[3] + limit[3], 0
  if value then
    local at = string.find(value, ' ', 1, true)
    local known = tonumber(string.sub(value, 1, at - 1))
    if known > now then
      end_us, count = known, tonumber(string.sub(value, at + 1))
    end
  end
  return limit[4] - count, end_us, count
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

-- Count n requests; ids are those of all that ask, of which these are the first.
local function take(limit, first, second, n, ids)
  if limit[1] == 'c' then
    local ends, members = whole(now + limit[3]), {}
    for i = 1, n do
      members[#members + 1] = ends
      members[#members + 1] = ids[i]
    end
    in_parts(members, function(...) redis.call('ZADD', limit[2], ...) end)
    redis.call('PEXPIRE', limit[2], whole(math.ceil(limit[3] / 1000) + 1000))
    return first + n, 0
  end
  if limit[1] == 'g' then
    first = first + n * limit[3]
  else
    second = second + n
  end
  write_limit(limit, first, second)
  return first, second
end

-- How many of n requests all limits let in, and the figures of each.
local function stand_all(limits, n)
  local firsts, seconds = {}, {}
  for i, limit in ipairs(limits) do
    local more
    more, firsts[i], seconds[i] = stand(limit)
    n = math.min(n, more)
  end
  return math.max(n, 0), firsts, seconds
end

local function take_all(limits, firsts, seconds, n, ids)
  for i, limit in ipairs(limits) do
    firsts[i], seconds[i] = take(limit, firsts[i], seconds[i], n, ids)
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

-- Whether a hold or stake of a document has run out; else `x` says when the first will.
local function has_run_out(key)
  local first = 0
  local fields = document(key)
  for i = 1, #fields, 2 do
    local kind = string.sub(fields[i], 1, 2)
    if kind == 'o|' or kind == 'j|' then
      local value = fields[i + 1]
      local ends = tonumber(string.sub(value, 1, string.find(value, ' ', 1, true) - 1))
      if ends <= now then
        return true
      end
      if first == 0 or ends < first then
        first = ends
      end
    end
  end
  redis.call('HSET', key, 'x', whole(first))
  return false
end

-- What somebody may have taken ahead is noted in `a`: field or limit, and until when.
local function note_ahead(text, charges, limits)
  local ends, notes = whole(now + AHEAD_US), {}
  for name, known in pairs(text and cjson.decode(text) or {}) do
    if tonumber(known) > now then
      notes[name] = known
    end
  end
  for _, parts in ipairs({charges, limits}) do
    for _, part in ipairs(parts) do
      notes[part[2]] = ends
    end
  end
  return cjson.encode(notes)
end

-- Whether that is so of one of the names, or of a limit that has less than n left: 1, or 0.
local function is_ahead(text, names, limits, n)
  local notes = cjson.decode(text)
  for _, limit in ipairs(limits) do
    if stand(limit) < n then
      names[#names + 1] = limit[2]
    end
  end
  for _, name in ipairs(names) do
    if notes[name] and tonumber(notes[name]) > now then
      return 1
    end
  end
  return 0
end

local steps = {}
local posted = 0
local behind = {} -- by the same: what a step that came before said, that is to be told again
local known = {} -- by document and journal: its last record that was posted before this batch

-- {"limits", id, limits, key}: take them alone, of an account whose document may tell what of them
-- somebody has taken ahead; "" for none. The last figure of the reply is as that of take.
function steps.limits(step)
  local limits, is_open = step[3], 0
  local count, firsts, seconds = stand_all(limits, 1)
  if count > 0 then
    take_all(limits, firsts, seconds, 1, {step[2]})
  elseif step[4] ~= '' then
    local notes = redis.call('HGET', step[4], 'a')
    is_open = notes and is_ahead(notes, {}, limits, 1) or 0
  end
  return {count, figures(firsts, seconds), is_open}
end

-- {"stand", limits}: what they stand at; nothing is taken.
function steps.stand(step)
  local _, firsts, seconds = stand_all(step[2], 0)
  return {1, figures(firsts, seconds)}
end

-- {"untake", ids, limits}: give back what was taken for requests that something else refused.
-- A window may tell its end: what was taken in another one is not given back. A bucket may tell
-- an instant: what has come again since then is not given back either.
function steps.untake(step)
  local ids = step[2]
  for _, limit in ipairs(step[3]) do
    if limit[1] == 'c' then
      in_parts(ids, function(...) redis.call('ZREM', limit[2], ...) end)
    else
      local _, first, second = stand(limit)
      if is_again or (limit[1] == 'w' and limit[5] and limit[5] ~= first) then
        -- given back already, or taken in a window that is over
      elseif limit[1] == 'g' then
        local again = limit[5] and math.ceil(math.max(0, now - limit[5]) / limit[3]) or 0
        write_limit(limit, first - math.max(0, #ids - again) * limit[3], 0)
      elseif second > 0 then
        write_limit(limit, first, math.max(0, second - #ids))
      end
    end
  end
  return {1}
end

-- {"take", n, more, is_open, ids, key, terms, life, lease, limits, charges};
-- charges: {u, h, k, amount, room, end}. Where one number decides: used + held + amount may come
-- to room. The first of n requests that are alike are let in, as many as fit. Where plenty is left
-- it is taken for so many more that are yet to come (ahead.py). As long as somebody may have some
-- of what there is too little of, nobody is refused for good: the last figure of the reply says so.
function steps.take(step)
  local n, more, key, stake = step[2], step[3], step[6], 'j|' .. step[8]
  local limits, charges = step[10], step[11]
  local names = {'v', 't', 'x', 'z', stake, 'a'}
  for _, charge in ipairs(charges) do
    names[#names + 1] = charge[1]
    names[#names + 1] = charge[2]
    names[#names + 1] = charge[3]
  end
  local values = redis.call('HMGET', key, unpack(names))
  if not values[1] then
    return {3}
  end
  if values[2] ~= step[7] then
    return {2, document(key)}
  end
  if step[4] and not values[5] then
    return {6}
  end
  local wanted, short = n + PLENTY * more, {}
  local fits, firsts, seconds = stand_all(limits, wanted)
  local stands = {}
  for i, charge in ipairs(charges) do
    if now >= charge[6] then
      return {4}
    end
    local used = tonumber(values[4 + 3 * i] or 0)
    local held = tonumber(values[5 + 3 * i] or 0)
    local left = charge[5] - used - held
    local more_fit = left < 0 and 0 or wanted
    if left >= 0 and charge[4] > 0 then
      more_fit = math.floor(left / charge[4])
    end
    if more_fit < n then
      short[#short + 1] = charge[2]
    end
    fits = math.min(fits, more_fit)
    stands[2 * i - 1], stands[2 * i] = used, held
  end
  local count, ahead = math.min(n, fits), fits == wanted and more or 0
  local first = tonumber(values[3] or 0)
  if count < n and first > 0 and first <= now and has_run_out(key) then
    return {2, document(key)} -- some of it is held by nobody any more
  end
  local is_open = 0
  if count < n and values[6] then
    is_open = is_ahead(values[6], short, limits, n)
  end
  local all = count + ahead
  if all == 0 then
    return {1, 0, figures(firsts, seconds), stands, 0, is_open}
  end
  take_all(limits, firsts, seconds, all, step[5])
  local ends, since, requests = whole(now + step[9]), whole(now), all
  if values[5] then
    local _, since_known, requests_known = string.match(values[5], '(%d+) (%d+) (%d+)')
    since, requests = since_known, all + requests_known
  end
  local fields = {'v', values[1] + 1, stake, ends .. ' ' .. since .. ' ' .. whole(requests)}
  if first == 0 then
    fields[5], fields[6] = 'x', ends
  end
  if ahead > 0 then
    fields[#fields + 1] = 'a'
    fields[#fields + 1] = note_ahead(values[6], charges, limits)
  end
  for i, charge in ipairs(charges) do
    if charge[4] ~= 0 then
      local taken = all * charge[4]
      stands[2 * i] = stands[2 * i] + taken
      fields[#fields + 1] = charge[2]
      fields[#fields + 1] = stands[2 * i]
      fields[#fields + 1] = charge[3]
      fields[#fields + 1] = tonumber(values[6 + 3 * i] or 0) + taken
    end
  end
  keep(key, fields, values[4])
  return {1, count, figures(firsts, seconds), stands, ahead, is_open}
end

-- {"give", key, journal, first, last, stakes, singles, used, gauges, time}: requests that are over,
-- whose records in the journal are from first to last; 0: nothing is recorded of any of them.
-- stakes: {life, n, held}; held: {h, k, sum}. A stake that is not there was let go of, with all it
-- held. {life, 1, held, id}: unless that one is a single by now. singles: {id, held, used, time}; held: {field, amount}, or 0: as the hold itself says, for
-- its process has ended. Of a hold that is posted already, nothing more is used; or what the
-- journal says after all. used: {field, sum}, of the stakes. gauges: {key, id}. time: when the
-- request came, 0 where that is not known any more; of the stakes, where they are of one request.
-- What a request used was used before all marks that are later. Where the time is not known the
-- marks are forgotten: the next one to read asks the store.
function steps.give(step)
  local key, last, stakes, singles = step[2], step[5], step[6], step[7]
  for _, gauge in ipairs(step[9]) do
    redis.call('ZREM', gauge[1], gauge[2])
  end
  local stored = {}
  local function fetch(names)
    local at = 0
    in_parts(names, function(...)
      for _, value in ipairs(redis.call('HMGET', key, ...)) do
        at = at + 1
        stored[names[at]] = value
      end
    end)
  end
  local journal = 'p|' .. step[3]
  local names = {'v', 'z', journal, 'b'}
  for _, stake in ipairs(stakes) do
    names[#names + 1] = 'j|' .. stake[1]
    for _, part in ipairs(stake[3]) do
      names[#names + 1] = part[1]
      names[#names + 1] = part[2]
    end
  end
  for _, single in ipairs(singles) do
    names[#names + 1] = 'o|' .. single[1]
  end
  for _, part in ipairs(step[8]) do
    names[#names + 1] = part[1]
  end
  if step[5] > 0 and behind[key .. journal] then
    return {behind[key .. journal]} -- nothing later may be known before that
  end
  fetch(names)
  if not stored.v then
    behind[key .. journal] = 3
    return {3}
  end
  local before = known[key .. journal] or tonumber(stored[journal] or 0)
  known[key .. journal] = before
  local is_new = last > before
  local marks = stored.b and cjson.decode(stored.b) or {}
  if is_new and (step[4] <= before or (#marks > 0 and #step[8] > 0 and step[10] == 0)) then
    behind[key .. journal] = 5
    return {5}
  end
  local added, order, gone, is_changed = {}, {}, {}, false
  local function add(name, amount)
    if not added[name] then
      order[#order + 1] = name
    end
    added[name] = (added[name] or 0) + amount
  end
  local forgotten = {}
  local function use(parts, time, sign)
    for _, part in ipairs(parts) do
      local name, amount = part[1], sign * part[2]
      add(name, amount)
      for _, mark in ipairs(marks) do
        local period, at = string.match(mark, '^m|(.*)|(%-?%d+)$')
        if name == 'u|' .. period .. '|' then
          if time == 0 then
            forgotten[mark] = true
          elseif time < tonumber(at) then
            add(mark, amount)
          end
        end
      end
    end
  end
  local fields, given = {'v', 0}, {}
  for _, stake in ipairs(stakes) do
    local name = 'j|' .. stake[1]
    local value = stored[name]
    if value and not (stake[4] and stored['o|' .. stake[4]]) then
      local ends, since, requests = string.match(value, '(%d+) (%d+) (%d+)')
      is_changed = true
      for _, part in ipairs(stake[3]) do
        add(part[1], -part[3])
        add(part[2], -part[3])
      end
      requests = requests - stake[2]
      stored[name] = requests > 0 and ends .. ' ' .. since .. ' ' .. whole(requests)
      given[name] = stored[name]
    end
  end
  for name, value in pairs(given) do -- one stake may be told of several times
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    else
      gone[#gone + 1] = name
    end
  end
  for _, single in ipairs(singles) do
    local hold = stored['o|' .. single[1]]
    local at = hold and string.find(hold, ' posted ', 1, true)
    if hold then
      gone[#gone + 1] = 'o|' .. single[1]
      is_changed = is_changed or not at
    end
    if hold and not at then
      if single[2] == 0 then
        local record = cjson.decode(string.sub(hold, string.find(hold, ' ', 1, true) + 1))
        for _, part in ipairs(record[4]) do
          add('h|' .. part[1] .. '|' .. whole(part[2]) .. '|', -part[4])
        end
      else
        for _, part in ipairs(single[2]) do
          add(part[1], -part[2])
        end
      end
    end
    if is_new and #single[3] > 0 then
      local time = single[4]
      if time == 0 and hold then
        time = cjson.decode(string.match(hold, '%[.*'))[1]
      end
      use(single[3], time, 1)
      if at then
        local record = cjson.decode(string.sub(hold, at + 8))
        use(record[#record], time, -1)
      end
    end
  end
  if is_new then
    use(step[8], step[10], 1)
    fields[#fields + 1] = journal
    fields[#fields + 1] = whole(last)
    posted = math.max(posted, last)
  end
  local unknown = {}
  for _, name in ipairs(order) do
    if stored[name] == nil then
      unknown[#unknown + 1] = name
    end
  end
  if #unknown > 0 then
    fetch(unknown)
  end
  if next(forgotten) then
    local left = {}
    for _, mark in ipairs(marks) do
      if forgotten[mark] then
        gone[#gone + 1] = mark
        added[mark] = added[mark] and 0
      else
        left[#left + 1] = mark
      end
    end
    if #left > 0 then
      fields[#fields + 1] = 'b'
      fields[#fields + 1] = cjson.encode(left)
    else
      gone[#gone + 1] = 'b'
    end
  end
  for _, name in ipairs(order) do
    if added[name] ~= 0 then
      local stands = tonumber(stored[name] or 0) + added[name]
      is_changed = true
      if stands == 0 and string.sub(name, 1, 2) == 'k|' then
        gone[#gone + 1] = name
      else
        fields[#fields + 1] = name
        fields[#fields + 1] = whole(stands)
      end
    end
  end
  fields[2] = stored.v + (is_changed and 1 or 0)
  if #gone > 0 then
    in_parts(gone, function(...) redis.call('HDEL', key, ...) end)
  end
  keep(key, fields, stored.z)
  return {1}
end

-- {"write", key, version, terms, set, gone, who, turn}: the document as it was worked out from a
-- version. Others are faster where they are nearer: who was overtaken again and again has a turn of
-- so many microseconds (0: is not in need of one), and then not before the same time has passed.
function steps.write(step)
  local key, who = step[2], step[7]
  local values = redis.call('HMGET', key, 'v', 't', 'z', 'w')
  if not values[1] then
    return {3}
  end
  local ends, whose = 0, ''
  if values[4] then
    ends, whose = string.match(values[4], '^(%d+) (.*)$')
    ends = tonumber(ends)
  end
  if whose ~= who and ends > now then
    return {7}
  end
  if values[1] ~= step[3] or values[2] ~= step[4] then
    if step[8] > 0 and (whose ~= who or now > ends + step[8]) then
      redis.call('HSET', key, 'w', whole(now + step[8]) .. ' ' .. who)
    end
    return {2, document(key)}
  end
  if whose == who then
    redis.call('HDEL', key, 'w')
  end
  if #step[6] > 0 then
    in_parts(step[6], function(...) redis.call('HDEL', key, ...) end)
  end
  local fields = step[5]
  local version = tonumber(values[1]) + 1
  fields[#fields + 1] = 'v'
  fields[#fields + 1] = version
  keep(key, fields, values[3])
  return {1, version}
end

-- {"renew", key, field, lease, gauges}: what a hold or stake is for goes on; gauges: {key, id}.
function steps.renew(step)
  local key, field = step[2], step[3]
  local ends = whole(now + step[4])
  for _, gauge in ipairs(step[5]) do
    redis.call('ZADD', gauge[1], ends, gauge[2]) -- also where the server was emptied
    redis.call('PEXPIRE', gauge[1], whole(math.ceil(step[4] / 1000) + 1000))
  end
  local record = redis.call('HGET', key, field)
  if not record then
    return {3}
  end
  redis.call('HSET', key, field, ends .. string.sub(record, string.find(record, ' ', 1, true), -1))
  return {1}
end

-- {"open", key, waiting, fields}: the document, begun with fields and the holds that wait for it
-- since this epoch began.
function steps.open(step)
  local key, waiting = step[2], step[3] .. ARGV[1]
  if step[5] ~= ARGV[1] then
    return {3}
  end
  if redis.call('EXISTS', key) == 0 then
    local fields = step[4]
    fields[#fields + 1] = 'v'
    fields[#fields + 1] = 1
    fields[#fields + 1] = 't'
    fields[#fields + 1] = whole(now)
    keep(key, fields, 0)
    local told = redis.call('HGETALL', waiting) -- by gateways
    for i = 2, #told, 2 do
      for _, hold in ipairs(cjson.decode(told[i])) do
        redis.call('HSET', key, hold[1], whole(now + hold[2]) .. ' ' .. hold[3], 'x', 1)
        for _, part in ipairs(hold[4]) do
          redis.call('HINCRBY', key, part[1], whole(part[2]))
        end
      end
    end
    redis.call('DEL', waiting)
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
if posted > 0 and ARGV[5] == '0' and not next(behind) then
  redis.call('SET', KEYS[3], whole(posted), 'EX', KEEP_S)
end
local reply = {now, replies}
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. ARGV[1] .. ' ' .. cmsgpack.pack(reply), 'EX', KEEP_S)
return reply

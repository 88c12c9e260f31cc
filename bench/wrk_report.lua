-- Reports a run of wrk as one line of JSON, and may spread the requests.
--
-- `wrk ... -- FILE`: each line of FILE is "PATH<tab>KEY"; the requests go through
-- the lines in turn, each with its own bearer key. Without FILE every request is
-- the one of the command line. Latencies are in microseconds.

local requests, count, turn

function init(arguments)
  if not arguments[1] then return end
  requests, count, turn = {}, 0, 0
  for line in io.lines(arguments[1]) do
    local path, key = line:match("^(%S+)\t(%S+)$")
    count = count + 1
    requests[count] = wrk.format(nil, path, { Authorization = "Bearer " .. key, Host = "bench" })
  end
  function request()
    turn = turn % count + 1
    return requests[turn]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'REPORT {"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end

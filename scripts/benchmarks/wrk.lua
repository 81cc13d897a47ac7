-- What load.py's wrk_script writes goes before: variants, path, method, headers, body. wrk runs it with LuaJIT.
local made, next_one = {}, 0

function init()
  for n = 0, variants - 1 do
    local own = {}
    for name, value in pairs(headers) do own[name] = value:gsub("{n}", n) end
    made[n] = wrk.format(method, path, own, body and body:gsub("{n}", n))
  end
end

function request()
  next_one = (next_one + 1) % variants
  return made[next_one]
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "errors": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6,
    failed.status + failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end

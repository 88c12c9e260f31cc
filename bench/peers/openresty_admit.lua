-- Admits a request: 401 without a known key, 429 past the hourly limit or the weekly budget.
-- `openresty_keys` is generated: {["KEY"] = {account=, user=, hourly=, weekly=, cost=}}.
-- The key is looked up as it is, not by its SHA-256: the cheaper way, in this peer's favour.

local keys = require("openresty_keys")
local counters = ngx.shared.counters
local budgets = ngx.shared.budgets
local floor, sub = math.floor, string.sub
local HOUR, WEEK = 3600, 604800

local M = {}

function M.run()
  local var = ngx.var
  local authorization = var.http_authorization
  local caller = authorization and sub(authorization, 1, 7) == "Bearer " and keys[sub(authorization, 8)]
  if not caller then return ngx.exit(401) end

  local now = ngx.time()
  local account, cost = caller.account, caller.cost
  local used = counters:incr(account .. ":" .. floor(now / HOUR), 1, 0, 2 * HOUR)
  if used > caller.hourly then return ngx.exit(429) end

  local budget = account .. ":" .. floor(now / WEEK)
  local remaining = budgets:incr(budget, -cost, caller.weekly, 2 * WEEK)
  if remaining < 0 then
    budgets:incr(budget, cost)
    return ngx.exit(429)
  end
  var.account, var.user, var.cost = account, caller.user, cost
end

return M

-- Asks the gateway whether a request may pass. Needs HAProxy 2.6 or later.
--
--   lua-load ratelimit.lua
--   http-request lua.ratelimit PATH closed|open
--   http-request deny deny_status 503 unless { var(txn.ratelimit_passes) -m bool }
--   listen ratelimit: bind abns@ratelimit

-- One name for the machine: a second HAProxy needs another one, here and in its configuration.
local GATEWAY = "abns@ratelimit"

-- A request with more headers gets 431. The client of Lua has a table of tune.http.maxhdr (101) headers, in
-- which it puts those below and its own. Version 2.6 writes beyond the end of the table, which ends
-- HAProxy; later versions leave headers out.
local MAX_HEADERS = 90

-- Headers of one connection, and those that describe the request: the latter come from HAProxy alone.
local DROPPED = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true,
    ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["content-length"] = true,
    ["expect"] = true, ["host"] = true, ["x-ratelimit-key"] = true, ["x-forwarded-for"] = true,
    ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-host"] = true,
}

-- Headers of the answer that the client gets.
local PASSED = { "retry-after", "ratelimit", "ratelimit-policy", "cache-control", "x-request-id" }

-- Returns the headers of the question, or nil if there are too many.
local function question(txn)
    local headers, count = {}, 0
    for name, values in pairs(txn.http:req_get_headers()) do
        if not DROPPED[name] then
            headers[name] = {}
            for index = 0, #values do
                table.insert(headers[name], values[index])
            end
            count = count + #headers[name]
        end
    end
    if count > MAX_HEADERS then
        return nil
    end
    headers["x-forwarded-method"] = { txn.sf:method() }
    headers["x-forwarded-uri"] = { txn.sf:pathq() }
    -- The whole line: `req_hdr` returns what is behind a comma, where rules of HAProxy find each part.
    headers["x-forwarded-host"] = { txn.sf:req_fhdr("host") }
    headers["x-forwarded-for"] = { txn.sf:src() }
    return headers
end

local function refuse(txn, status, headers)
    local reply = txn:reply({ status = status })
    for _, name in ipairs(PASSED) do
        if headers[name] then
            reply:add_header(name, headers[name][0])
        end
    end
    txn:done(reply)
end

-- Sets txn.ratelimit_passes, or refuses the request. HAProxy goes on after an error of an action, and
-- the rule behind the action then finds no variable.
core.register_action("ratelimit", { "http-req" }, function(txn, path, fail_mode)
    local headers = question(txn)
    if not headers then
        return refuse(txn, 431, {})
    end
    local answer = core.httpclient():get({
        url = "http://ratelimit" .. path, dst = GATEWAY, headers = headers,
    })
    if answer.status == 200 then
        for variable, name in pairs({ ratelimit = "ratelimit", ratelimit_policy = "ratelimit-policy" }) do
            if answer.headers[name] then
                txn:set_var("txn." .. variable, answer.headers[name][0])
            end
        end
    elseif answer.status ~= 0 and answer.status < 500 then
        return refuse(txn, answer.status, answer.headers)
    elseif answer.status == 500 or fail_mode ~= "open" then
        -- 500 is a fault of the configuration, which no fail mode hides.
        return refuse(txn, answer.status == 500 and 500 or 503, answer.headers or {})
    end
    txn:set_var("txn.ratelimit_passes", true)
end, 2)

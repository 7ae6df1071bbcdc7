-- Asks the gateway whether a request may pass. Needs HAProxy 2.6 or later.
--
--   lua-load ratelimit.lua
--   http-request lua.ratelimit PATH closed|open
--   listen ratelimit: bind abns@ratelimit

local GATEWAY = "abns@ratelimit"

-- Headers of one connection, and those that describe the request: the latter come from HAProxy alone.
local DROPPED = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true,
    ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["content-length"] = true,
    ["expect"] = true, ["host"] = true, ["x-ratelimit-key"] = true, ["x-forwarded-for"] = true,
    ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-host"] = true,
}

-- Headers of the answer that the client gets.
local PASSED = { "retry-after", "ratelimit", "ratelimit-policy", "cache-control", "x-request-id" }

local function question(txn)
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not DROPPED[name] then
            headers[name] = {}
            for index = 0, #values do
                table.insert(headers[name], values[index])
            end
        end
    end
    headers["x-forwarded-method"] = { txn.sf:method() }
    headers["x-forwarded-uri"] = { txn.sf:pathq() }
    headers["x-forwarded-host"] = { txn.sf:req_hdr("host") }
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

core.register_action("ratelimit", { "http-req" }, function(txn, path, fail_mode)
    local answer = core.httpclient():get({
        url = "http://ratelimit" .. path, dst = GATEWAY, headers = question(txn),
    })
    if answer.status == 200 then
        for variable, name in pairs({ ratelimit = "ratelimit", ratelimit_policy = "ratelimit-policy" }) do
            if answer.headers[name] then
                txn:set_var("txn." .. variable, answer.headers[name][0])
            end
        end
    elseif answer.status ~= 0 and answer.status < 500 then
        refuse(txn, answer.status, answer.headers)
    elseif answer.status == 500 or fail_mode ~= "open" then
        -- 500 is a fault of the configuration, which no fail mode hides.
        refuse(txn, answer.status == 500 and 500 or 503, answer.headers or {})
    end
end, 2)

-- securedelivery/1 for Wireshark 4.0 and later: frames, Noise handshake, certificates, JSON-RPC, and what AES-GCM says.
--
-- Use:   wireshark -X lua_script:securedelivery.lua CAPTURE      (tshark likewise; not as root, who may run no scripts)
-- Keys:  TLS's are Wireshark's own business (tls.keylog_file, or in the capture). Those of the frames come from
--          the file that the environment variable SECUREDELIVERY_FRAME_KEYLOG names,
--          the preference securedelivery.keylog_file, and
--          packet comments that stand before the frames,
--        as lines of docs/protocol.md, "SD_FRAME_KEY_C2S <client's e> <key>" and "SD_FRAME_KEY_S2C <client's e> <key>".
--
-- How it works. Wireshark shows packets in any order, any number of times, but the first time in theirs. The first time
-- (`pinfo.visited` is false) each frame is judged and, where its key is known, opened, and the outcome is kept in
-- `outcomes` by packet number and the frame's place among the packet's. Everything that is shown is read from there.

local aesgcm = require("aesgcm") -- in the file that `securedelivery.wireshark.plugin` makes, aesgcm.lua stands here

local once, proto = pcall(Proto, "securedelivery", "SecureDelivery")
if not once then
    return -- this script was loaded before, from another folder: Wireshark has the protocol
end
local watcher = Proto("securedelivery_watcher", "SecureDelivery keys in comments, connections that were cut")

local ALPN = "securedelivery/1"
local HEADER_LENGTH, TAG_LENGTH = 4, 16
local REKEY_INTERVAL = 1024
local CLIENT_HANDSHAKE_LENGTH = 32 + 1184
local SERVER_HANDSHAKE_LENGTH = 32 + (1088 + TAG_LENGTH) + TAG_LENGTH
local MAX_KEY_LOG = 67108864 -- bytes; a line has 146, so this is a key log that never ends
local KNOWN_CIPHERS = 128 -- their tables take 60 KiB each
local LONGEST_WORD = 128 -- bytes of a method, an id or a reason in the Info column; an id has no more
local SEARCHED_BACK, SEARCHED_AHEAD = 4096, 2048 -- counters that a rejected frame is tried under; 10 microseconds each

local HANDSHAKE, AUTH, MESSAGE, CLOSE = 1, 2, 3, 4
local KINDS = { [HANDSHAKE] = "HANDSHAKE", [AUTH] = "AUTH", [MESSAGE] = "MESSAGE", [CLOSE] = "CLOSE" }
local SCHEMES = { [0x0403] = "ECDSA P-256, SHA-256", [0x0804] = "RSA-PSS, SHA-256", [0] = "none" }
local C2S, S2C = "client to server", "server to client"

local OPENED, NO_KEY, REJECTED = "opened", "no key", "rejected"
local BEHIND, UNKNOWN, CLEAR = "behind a rejected frame", "counter unknown", "clear"

-- What may follow in one direction, docs/protocol.md, "States of a connection".
local TURNS = {
    ["at its beginning"] = { [HANDSHAKE] = "behind HANDSHAKE" },
    ["behind HANDSHAKE"] = { [AUTH] = "behind AUTH", [CLOSE] = "behind CLOSE" },
    ["behind AUTH"] = { [MESSAGE] = "behind AUTH", [CLOSE] = "behind CLOSE" },
    ["behind CLOSE"] = {},
}

local f = {
    kind = ProtoField.uint8("securedelivery.kind", "Kind", base.DEC, KINDS),
    flags = ProtoField.uint8("securedelivery.flags", "Flags", base.HEX),
    length = ProtoField.uint16("securedelivery.length", "Length of the body", base.DEC),
    body = ProtoField.bytes("securedelivery.body", "Body"),
    tag = ProtoField.bytes("securedelivery.tag", "Tag of AES-256-GCM"),
    direction = ProtoField.string("securedelivery.direction", "Direction"),
    counter = ProtoField.uint64("securedelivery.counter", "Counter (not sent)", base.DEC),
    rekeys = ProtoField.uint32("securedelivery.rekeys", "Rekeys before it", base.DEC),
    tag_ok = ProtoField.bool("securedelivery.tag_ok", "Tag is right"),
    status = ProtoField.string("securedelivery.status", "Status"),
    diagnosis = ProtoField.string("securedelivery.diagnosis", "Diagnosis"),
    e = ProtoField.bytes("securedelivery.noise.e", "e (X25519 public key)"),
    e1 = ProtoField.bytes("securedelivery.noise.e1", "e1 (ML-KEM-768 encapsulation key)"),
    ekem1 = ProtoField.bytes("securedelivery.noise.ekem1", "ekem1 (ML-KEM-768 ciphertext, sealed)"),
    ekem1_tag = ProtoField.bytes("securedelivery.noise.ekem1_tag", "Tag of ekem1"),
    payload_tag = ProtoField.bytes("securedelivery.noise.payload_tag", "Tag of the empty payload"),
    chain_length = ProtoField.uint24("securedelivery.auth.chain_length", "Length of the certificate chain", base.DEC),
    certificate = ProtoField.bytes("securedelivery.auth.certificate", "Certificate"),
    scheme = ProtoField.uint16("securedelivery.auth.scheme", "Signature scheme", base.HEX, SCHEMES),
    signature = ProtoField.bytes("securedelivery.auth.signature", "Signature over the handshake"),
    auth_padding = ProtoField.uint16("securedelivery.auth.padding", "Padding with zeros (bytes)", base.DEC),
    plaintext = ProtoField.string("securedelivery.plaintext", "Plaintext", base.UNICODE),
    padding = ProtoField.uint16("securedelivery.padding", "Padding with spaces (bytes)", base.DEC),
    method = ProtoField.string("securedelivery.method", "Method", base.UNICODE),
    id = ProtoField.string("securedelivery.id", "Id", base.UNICODE),
    reason = ProtoField.string("securedelivery.reason", "Reason of the refusal", base.UNICODE),
    close_reason = ProtoField.string("securedelivery.close.reason", "Reason of the end", base.UNICODE),
    unreadable = ProtoField.bytes("securedelivery.unreadable", "Not a frame"),
}
proto.fields = f

local x = {
    rejected = ProtoExpert.new("securedelivery.rejected", "The receiver rejects this frame", expert.group.DECRYPTION,
        expert.severity.ERROR),
    protocol_error = ProtoExpert.new("securedelivery.protocol_error", "Against the protocol", expert.group.PROTOCOL,
        expert.severity.ERROR),
    truncated = ProtoExpert.new("securedelivery.truncated", "The connection ended without CLOSE", expert.group.SEQUENCE,
        expert.severity.WARN),
}
proto.experts = x

proto.prefs.keylog_file = Pref.string("Frame key log", "", "A file of SD_FRAME_KEY_C2S and SD_FRAME_KEY_S2C lines")
proto.prefs.port = Pref.uint("TLS port", 5555, "Where ALPN is not seen; 0 for none")
proto.prefs.pure_lua = Pref.bool("AES-GCM in Lua only", false, "Leave libgcrypt aside where Wireshark offers it")

local stream_field = Field.new("tcp.stream")
local comment_field = Field.new("frame.comment")
local fin_field, reset_field = Field.new("tcp.flags.fin"), Field.new("tcp.flags.reset")
local alert_field = Field.new("tls.alert_message.desc")

-- Keys ----------------------------------------------------------------------------------------------------------------

local keys -- "C2S <e>" and "S2C <e>" to 32 bytes
local read_until -- how far each key log was read
local complaints -- why a key log could not be read

local function from_hex(digits)
    return (digits:gsub("..", function(pair)
        return string.char(tonumber(pair, 16))
    end))
end

local function to_hex(bytes)
    return (bytes:gsub(".", function(one)
        return ("%02x"):format(one:byte())
    end))
end

local function take_keys(text)
    for direction, e, key in text:gmatch("SD_FRAME_KEY_([CS]2[CS]) (%x+) (%x+)") do
        if #e == 64 and #key == 64 then
            keys[direction .. " " .. e:lower()] = from_hex(key)
        end
    end
end

-- What was appended to a key log since it was last looked at: a living capture's keys come later than its packets.
local function read_key_log(path)
    local file, problem = io.open(path, "rb")
    if not file then
        complaints[path] = problem
        return
    end
    local position = read_until[path] or 0
    if (file:seek("end") or 0) < position then
        position = 0 -- it was begun anew
    end
    file:seek("set", position)
    local text
    text, problem = file:read(MAX_KEY_LOG)
    file:close()
    complaints[path] = problem
    if text then
        take_keys(text)
        local complete = text:match(".*\n") or ""
        read_until[path] = position + #complete
    end
end

local function key_logs()
    local paths = {}
    for _, path in ipairs({ os.getenv("SECUREDELIVERY_FRAME_KEYLOG") or "", proto.prefs.keylog_file }) do
        if path ~= "" and path ~= paths[1] then
            paths[#paths + 1] = path
        end
    end
    return paths
end

local function find_key(name)
    if not keys[name] then
        for _, path in ipairs(key_logs()) do
            read_key_log(path)
        end
    end
    return keys[name]
end

-- AES-GCM -------------------------------------------------------------------------------------------------------------

local ciphers, ciphers_known -- by their 32 bytes, what aesgcm.new() made of them
local gcrypts -- by their 32 bytes, libgcrypt's
local use_gcrypt

local function cipher(key)
    local known = ciphers[key]
    if not known then
        if ciphers_known == KNOWN_CIPHERS then
            ciphers, ciphers_known = {}, 0
        end
        known = aesgcm.new(key)
        ciphers[key], ciphers_known = known, ciphers_known + 1
    end
    return known
end

local function gcrypt(key)
    local known = gcrypts[key]
    if not known then
        if gcrypts.count == KNOWN_CIPHERS then
            gcrypts = { count = 0 }
        end
        known = GcryptCipher.open(GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_GCM, 0)
        known:setkey(ByteArray.new(key, true))
        gcrypts[key], gcrypts.count = known, gcrypts.count + 1
    end
    return known
end

local function gcrypt_open(key, counter, ad, ciphertext, tag)
    local handle = gcrypt(key)
    handle:setiv(ByteArray.new(("%024x"):format(counter)))
    handle:authenticate(ByteArray.new(ad, true))
    local plaintext = handle:decrypt(nil, ByteArray.new(ciphertext, true))
    return handle:checktag(ByteArray.new(tag, true)) == 0 and plaintext:raw() or nil
end

-- The plaintext, or nil where the tag is wrong.
local function open(key, counter, ad, ciphertext, tag)
    if use_gcrypt then
        return gcrypt_open(key, counter, ad, ciphertext, tag)
    end
    local n0, n1, n2 = aesgcm.nonce(counter)
    return aesgcm.open(cipher(key), n0, n1, n2, ad, ciphertext, tag)
end

local function choose_cipher()
    use_gcrypt = GcryptCipher ~= nil and not proto.prefs.pure_lua
end

-- Conversations -------------------------------------------------------------------------------------------------------
-- A conversation: its two directions; e, the client's, in hex; complete (it is here from its beginning); keyed_at, the
-- packet from which on both sides have keys.
-- A direction: name (C2S, S2C or nil), stage (of TURNS; nil where the capture does not have its beginning), sealed (how
-- many frames so far), counter of the next one that opens, keys (generation, from 0, to 32 bytes), waiting (outcomes,
-- from the first on that needs a key), broken (the receiver has given up), failed (because a frame did not open),
-- closed_at (the packet with CLOSE), ended_at (the packet that ends TLS or TCP).

local conversations, outcomes, endings

local function reset()
    keys, read_until, complaints = {}, {}, {}
    ciphers, ciphers_known = {}, 0
    gcrypts = { count = 0 }
    conversations, outcomes, endings = {}, {}, {}
    choose_cipher()
end

reset()
proto.init = reset

local function endpoints_of(pinfo)
    local from = ("%s %d"):format(tostring(pinfo.src), pinfo.src_port)
    local to = ("%s %d"):format(tostring(pinfo.dst), pinfo.dst_port)
    return from < to and from .. " " .. to or to .. " " .. from
end

-- Wireshark's number of the TCP connection. The first of tshark's two passes makes no fields unless a filter asks for
-- some; then addresses and ports have to do.
local function stream_of(pinfo)
    local stream = stream_field()
    return stream and stream.value or endpoints_of(pinfo)
end

local function is_over(conversation)
    for _, direction in ipairs(conversation) do
        if direction.broken or direction.closed_at then
            return true
        end
    end
    return false
end

local function conversation_of(pinfo, kind, length)
    local stream = stream_of(pinfo)
    local conversation = conversations[stream]
    local begins = kind == HANDSHAKE and length == CLIENT_HANDSHAKE_LENGTH
    if not conversation or (begins and type(stream) == "string" and is_over(conversation)) then
        conversation = {}
        conversations[stream] = conversation
    end
    return conversation
end

-- The direction of this packet.
local function direction_of(pinfo, conversation)
    local address, port = pinfo.src, pinfo.src_port
    for _, direction in ipairs(conversation) do
        if direction.port == port and (port ~= pinfo.dst_port or direction.address == address) then
            return direction
        end
    end
    local direction = { address = address, port = port, sealed = 0, counter = 0, keys = {}, waiting = {} }
    conversation[#conversation + 1] = direction
    if conversation[1] ~= direction and conversation[1].name then
        direction.name = conversation[1].name == C2S and S2C or C2S
        direction.stage = conversation.complete and "at its beginning" or nil
    end
    return direction
end

-- The first HANDSHAKE is the client's and begins the conversation; their lengths tell the two apart.
local function note_handshake(conversation, direction, body)
    local other = conversation[1] == direction and conversation[2] or conversation[1]
    if direction.name or (other and other ~= direction and other.name) then
        return
    end
    direction.name = #body == CLIENT_HANDSHAKE_LENGTH and C2S or S2C
    if other and other ~= direction then
        other.name = direction.name == C2S and S2C or C2S
    elseif direction.name == C2S then
        conversation.complete = true
        conversation.e = to_hex(body:sub(1, 32))
        direction.stage = "at its beginning"
    end
end

local function key_of(conversation, direction, generation)
    local known = direction.keys
    if not known[0] then
        known[0] = find_key((direction.name == C2S and "C2S " or "S2C ") .. conversation.e)
        if not known[0] then
            return nil
        end
    end
    for at = 1, generation do
        known[at] = known[at] or aesgcm.rekey(cipher(known[at - 1]))
    end
    return known[generation]
end

local function generation_of(counter)
    return math.floor(counter / REKEY_INTERVAL)
end

-- The counter from first to last (downwards where step is -1) under which the frame's tag is right, or nil.
local function fitting_counter(conversation, direction, outcome, first, last, step)
    local generation, key, a, b, c, d
    for counter = first, last, step do
        if generation_of(counter) ~= generation then
            generation = generation_of(counter)
            key = key_of(conversation, direction, generation)
            if not key then
                return nil
            end
            key = cipher(key)
            a, b, c, d = aesgcm.ghash(key, outcome.header, outcome.ciphertext)
        end
        local n0, n1, n2 = aesgcm.nonce(counter)
        if aesgcm.tag(key, n0, n1, n2, a, b, c, d) == outcome.tag then
            return counter
        end
    end
    return nil
end

local function diagnose(conversation, direction, outcome)
    local expected = direction.counter
    local before = fitting_counter(conversation, direction, outcome, expected - 1,
        math.max(0, expected - SEARCHED_BACK), -1)
    if before then
        return ("a replay: frame %d again, where frame %d is due"):format(before, expected)
    end
    local later = fitting_counter(conversation, direction, outcome, expected + 1, expected + SEARCHED_AHEAD, 1)
    if later then
        return ("too early: frame %d, where frame %d is due; frames were lost, held back or reordered"):format(
            later, expected)
    end
    for _, other in ipairs(conversation) do
        if other ~= direction and other.name then
            local own = fitting_counter(conversation, other, outcome, outcome.other_sealed,
                math.max(0, outcome.other_sealed - SEARCHED_BACK), -1)
            if own then
                return ("reflected: the receiver's own frame %d, sent back to it"):format(own)
            end
        end
    end
    return ("altered: neither the counter %d that is due nor another near it fits%s"):format(expected,
        expected == 0 and " (or the key in the log is not this connection's)" or "")
end

-- AUTH and JSON -------------------------------------------------------------------------------------------------------

local function u24(text, at)
    local a, b, c = text:byte(at, at + 2)
    return a * 65536 + b * 256 + c
end

local function u16(text, at)
    local a, b = text:byte(at, at + 1)
    return a * 256 + b
end

-- The parts of an AUTH plaintext as {place, length} (places from 0), and what is wrong with it, or nil.
local function read_auth(text)
    local auth = { certificates = {}, chain_length = u24(text, 1) }
    local rest = 3 + auth.chain_length
    if #text < rest + 4 then
        return auth, "AUTH is shorter than the lengths in it"
    end
    auth.scheme_at, auth.scheme = rest, u16(text, rest + 1)
    auth.signature = { rest + 4, u16(text, rest + 3) }
    auth.end_at = rest + 4 + auth.signature[2]
    if #text < auth.end_at then
        return auth, "AUTH is shorter than the lengths in it"
    end
    local at = 3
    while at < rest do
        local length = at + 3 <= rest and u24(text, at + 1) or 0
        if length == 0 or at + 3 + length > rest then
            return auth, "the certificate chain is cut short"
        end
        auth.certificates[#auth.certificates + 1] = { at + 3, length }
        at = at + 3 + length
    end
    if text:find("[^\0]", auth.end_at + 1) then
        return auth, "AUTH is padded with something other than zeros"
    end
    if auth.chain_length == 0 and (auth.scheme ~= 0 or auth.signature[2] ~= 0) then
        return auth, "AUTH has a signature and no certificate"
    end
    return auth
end

local function string_end(text, at)
    while true do
        at = text:find('["\\]', at + 1)
        if not at then
            return nil
        end
        if text:byte(at) == 34 then
            return at
        end
        at = at + 1
    end
end

local function value_end(text, at)
    local first = text:sub(at, at)
    if first == '"' then
        return string_end(text, at)
    end
    if first ~= "{" and first ~= "[" then
        local _, last = text:find("^[%w.+-]+", at)
        return last
    end
    local depth = 0
    repeat
        at = text:find('["{}%[%]]', at)
        if not at then
            return nil
        end
        local sign = text:sub(at, at)
        if sign == '"' then
            at = string_end(text, at)
            if not at then
                return nil
            end
        else
            depth = depth + ((sign == "{" or sign == "[") and 1 or -1)
        end
        at = at + 1
    until depth == 0
    return at - 1
end

-- The members of the JSON object that begins at `at`: name to {first, last}; up to the first fault.
local function members(text, at)
    local found = {}
    local position = text:match("^%s*{()", at)
    while position do
        local name_at = text:match('^%s*()"', position)
        local name_end = name_at and string_end(text, name_at)
        local value_at = name_end and text:match("^%s*:%s*()", name_end + 1)
        local last = value_at and value_end(text, value_at)
        if not last then
            return found
        end
        found[text:sub(name_at + 1, name_end - 1)] = { value_at, last }
        position = text:match("^%s*,()", last + 1)
    end
    return found
end

-- A member without the quotes of a string, as {first, last}.
local function inner(text, place)
    if place and text:byte(place[1]) == 34 then
        return { place[1] + 1, place[2] - 1 }
    end
    return place
end

-- For the Info column, which takes one short line of plain characters.
local function word(text, place)
    local found = text:sub(place[1], math.min(place[2], place[1] + LONGEST_WORD - 1))
    return (found:gsub("[^\32-\126]", "."))
end

-- What a message says of itself: places of method, id and reason in it, and a line for people.
local function read_message(text)
    local whole = members(text, 1)
    local said = { method = inner(text, whole.method), id = inner(text, whole.id) }
    local id = said.id and (" (id %s)"):format(word(text, said.id)) or ""
    if said.method then
        return said, word(text, said.method) .. id
    end
    if whole.error then
        local data = members(text, whole.error[1]).data
        said.reason = data and inner(text, members(text, data[1]).reason)
        return said, "error" .. (said.reason and " " .. word(text, said.reason) or "") .. id
    end
    return said, (whole.result and "result" or "not JSON-RPC") .. id
end

local function read_close(text)
    local said = { close_reason = inner(text, members(text, 1).reason) }
    return said, said.close_reason and word(text, said.close_reason) or "not JSON"
end

-- The first time ------------------------------------------------------------------------------------------------------
-- An outcome: kind, direction, status; counter, where known; header, ciphertext and tag until it is opened; plaintext
-- and what was read in it; faults (texts); line (for the Info column).

local function break_off(direction, outcome, fault)
    outcome.faults = outcome.faults or {}
    outcome.faults[#outcome.faults + 1] = fault
    direction.broken = true
end

local function wait(direction, outcome)
    direction.waiting[#direction.waiting + 1] = outcome
end

local function read_plaintext(direction, outcome)
    local text = outcome.plaintext
    if outcome.kind == AUTH then
        local fault
        outcome.auth, fault = read_auth(text)
        local count = #outcome.auth.certificates
        outcome.line = count == 0 and "no certificate" or ("%d certificate%s"):format(count, count == 1 and "" or "s")
        if fault then
            break_off(direction, outcome, fault)
            direction.failed = true
        end
        return
    end
    local length = #text
    while text:byte(length) == 32 do
        length = length - 1
    end
    outcome.json_length = length
    text = text:sub(1, length)
    if outcome.kind == MESSAGE then
        outcome.said, outcome.line = read_message(text)
        return
    end
    outcome.said, outcome.line = read_close(text)
    if not outcome.said.close_reason then
        break_off(direction, outcome, "CLOSE is not what it should be")
        direction.failed = true
    end
end

local function open_outcome(conversation, direction, outcome)
    local counter = direction.counter
    outcome.counter = counter
    local key = key_of(conversation, direction, generation_of(counter))
    outcome.plaintext = open(key, counter, outcome.header, outcome.ciphertext, outcome.tag)
    outcome.tag_ok = outcome.plaintext ~= nil
    if outcome.tag_ok then
        direction.counter = counter + 1
        outcome.status = OPENED
        read_plaintext(direction, outcome)
    else
        outcome.status = REJECTED
        outcome.diagnosis = diagnose(conversation, direction, outcome)
        direction.broken, direction.failed = true, true
    end
    outcome.header, outcome.ciphertext, outcome.tag = nil, nil, nil
end

-- Open what waits in this direction, in its order, if there is a key by now. Whatever came behind a frame that waits
-- waits with it: a frame that does not open makes it one behind a rejected frame.
local function settle(conversation, direction)
    local waiting = direction.waiting
    if #waiting == 0 or not key_of(conversation, direction, 0) then
        return
    end
    direction.waiting = {}
    for _, outcome in ipairs(waiting) do
        if direction.failed then
            outcome.status, outcome.counter, outcome.faults = BEHIND, nil, nil
        elseif outcome.ciphertext then
            open_outcome(conversation, direction, outcome)
        end
    end
end

local function well_formed(kind, flags, length)
    if flags ~= 0 or not KINDS[kind] then
        return false
    end
    if kind == HANDSHAKE then
        return length == CLIENT_HANDSHAKE_LENGTH or length == SERVER_HANDSHAKE_LENGTH
    end
    local block = kind == AUTH and 1024 or 64
    local largest = kind == AUTH and 64512 or 65472
    local plaintext = length - TAG_LENGTH
    return plaintext >= block and plaintext <= largest and plaintext % block == 0
end

local function header_fault(kind, flags, length)
    if not KINDS[kind] then
        return ("unknown kind %d"):format(kind)
    end
    if flags ~= 0 then
        return ("flags are 0x%02x, not 0"):format(flags)
    end
    return ("a %s body cannot have %d bytes"):format(KINDS[kind], length)
end

local function sealed_by_other(conversation, direction)
    for _, other in ipairs(conversation) do
        if other ~= direction then
            return other.sealed
        end
    end
    return 0
end

local function judge(packet, conversation, direction, kind, flags, length, header, body)
    if kind == HANDSHAKE and well_formed(kind, flags, length) then
        note_handshake(conversation, direction, body)
    end
    local outcome = { kind = kind, conversation = conversation, way = direction, direction = direction.name }
    if not well_formed(kind, flags, length) then
        outcome.unreadable = true
        outcome.status = direction.broken and BEHIND or REJECTED
        if not direction.broken then
            break_off(direction, outcome, header_fault(kind, flags, length))
            wait(direction, outcome)
        end
        return outcome
    end
    if kind ~= HANDSHAKE then
        direction.sealed = direction.sealed + 1
    end
    if kind == CLOSE then
        direction.closed_at = direction.closed_at or packet
    end
    if direction.broken then
        outcome.status = BEHIND
        return outcome
    end
    if not direction.stage then -- the capture began later than the conversation
        outcome.status = kind == HANDSHAKE and CLEAR or UNKNOWN
        return outcome
    end
    local following = TURNS[direction.stage][kind]
    local due = direction.name == C2S and CLIENT_HANDSHAKE_LENGTH or SERVER_HANDSHAKE_LENGTH
    if not following or (kind == HANDSHAKE and length ~= due) then
        outcome.status = REJECTED
        break_off(direction, outcome, ("%s is out of turn %s"):format(KINDS[kind], direction.stage))
        wait(direction, outcome)
        return outcome
    end
    direction.stage = following
    if kind == HANDSHAKE then
        outcome.status = CLEAR
        if direction.name == S2C then
            conversation.keyed_at = packet
        end
        return outcome
    end
    outcome.status, outcome.counter = NO_KEY, direction.counter + #direction.waiting
    outcome.header = header
    outcome.other_sealed = sealed_by_other(conversation, direction)
    outcome.ciphertext, outcome.tag = body:sub(1, -TAG_LENGTH - 1), body:sub(-TAG_LENGTH)
    wait(direction, outcome)
    settle(conversation, direction)
    return outcome
end

-- The outcome of the frame that is being shown. Its place among the packet's frames is counted in `pinfo.private`,
-- which lives for one dissection of a packet.
local function outcome_of(pinfo, kind, flags, length, tvb)
    local place = tonumber(pinfo.private["securedelivery.frames"] or 0) + 1
    pinfo.private["securedelivery.frames"] = tostring(place)
    local kept = outcomes[pinfo.number]
    local outcome = kept and kept[place]
    if not outcome and not pinfo.visited then
        local conversation = conversation_of(pinfo, kind, length)
        local direction = direction_of(pinfo, conversation)
        local header = tvb:raw(0, HEADER_LENGTH)
        outcome = judge(pinfo.number, conversation, direction, kind, flags, length, header, tvb:raw(HEADER_LENGTH))
        outcomes[pinfo.number] = kept or {}
        outcomes[pinfo.number][place] = outcome
    end
    if outcome and outcome.status == NO_KEY then
        settle(outcome.conversation, outcome.way)
    end
    return outcome
end

-- What is shown -------------------------------------------------------------------------------------------------------

local json_dissector = Dissector.get("json")
local certificate_dissector = DissectorTable.get("ber.syntax"):get_dissector("Certificate")

-- Wireshark's own dissectors get bytes that only the peer vouches for. What is malformed they mark in the tree, and
-- then raise an error, which must not keep us from the next frame.
local function hand_over(dissector, tvb, pinfo, tree)
    pcall(dissector.call, dissector, tvb, pinfo, tree)
end

local function show_handshake(tvb, tree, client)
    tree:add(f.e, tvb(HEADER_LENGTH, 32))
    if client then
        tree:add(f.e1, tvb(HEADER_LENGTH + 32, 1184))
    else
        tree:add(f.ekem1, tvb(HEADER_LENGTH + 32, 1088))
        tree:add(f.ekem1_tag, tvb(HEADER_LENGTH + 32 + 1088, TAG_LENGTH))
        tree:add(f.payload_tag, tvb(HEADER_LENGTH + 32 + 1088 + TAG_LENGTH, TAG_LENGTH))
    end
end

local function show_auth(outcome, tvb, pinfo, tree)
    local auth = outcome.auth
    tree:add(f.chain_length, tvb(0, 3))
    for _, place in ipairs(auth.certificates) do
        local range = tvb(place[1], place[2])
        local item = tree:add(f.certificate, range)
        if certificate_dissector then
            hand_over(certificate_dissector, range:tvb(), pinfo, item)
        end
    end
    if auth.signature then
        tree:add(f.scheme, tvb(auth.scheme_at, 2))
    end
    if auth.end_at and auth.end_at <= tvb:len() then
        if auth.signature[2] > 0 then
            tree:add(f.signature, tvb(auth.signature[1], auth.signature[2]))
        end
        local padding = tvb:len() - auth.end_at
        tree:add(f.auth_padding, tvb(auth.end_at, padding), padding)
    end
end

local function show_json(outcome, tvb, pinfo, tree)
    local length = outcome.json_length
    tree:add_packet_field(f.plaintext, tvb(0, length), ENC_UTF_8)
    for _, name in ipairs({ "method", "id", "reason", "close_reason" }) do
        local place = outcome.said[name]
        if place then
            tree:add_packet_field(f[name], tvb(place[1] - 1, place[2] - place[1] + 1), ENC_UTF_8)
        end
    end
    tree:add(f.padding, tvb(length), tvb:len() - length)
    if length > 0 then
        hand_over(json_dissector, tvb(0, length):tvb(), pinfo, tree)
    end
end

local function missing_key(outcome)
    local logs = {}
    for _, path in ipairs(key_logs()) do
        logs[#logs + 1] = complaints[path] or path
    end
    return ("SD_FRAME_KEY_%s %s... is in no packet comment before it%s"):format(
        outcome.direction == C2S and "C2S" or "S2C", outcome.conversation.e:sub(1, 8),
        #logs > 0 and (", nor in " .. table.concat(logs, ", ")) or ", and no key log is set")
end

local function show_outcome(outcome, tvb, pinfo, tree)
    if outcome.direction then
        tree:add(f.direction, outcome.direction):set_generated()
    end
    if outcome.counter and outcome.status ~= BEHIND then
        tree:add(f.counter, UInt64.new(outcome.counter)):set_generated()
        tree:add(f.rekeys, generation_of(outcome.counter)):set_generated()
    end
    if outcome.tag_ok ~= nil then
        tree:add(f.tag_ok, outcome.tag_ok):set_generated()
    end
    local status = tree:add(f.status, outcome.status):set_generated()
    if outcome.status == NO_KEY then
        status:append_text(": " .. missing_key(outcome))
    end
    if outcome.diagnosis then
        tree:add(f.diagnosis, outcome.diagnosis):set_generated()
        tree:add_proto_expert_info(x.rejected, outcome.diagnosis)
    end
    for _, fault in ipairs(outcome.faults or {}) do
        tree:add_proto_expert_info(x.protocol_error, fault)
    end
    if outcome.plaintext then
        local kind = KINDS[outcome.kind]
        local opened = ByteArray.new(outcome.plaintext, true):tvb(("%s %d, opened"):format(kind, outcome.counter))
        if outcome.kind == AUTH then
            show_auth(outcome, opened, pinfo, tree)
        else
            show_json(outcome, opened, pinfo, tree)
        end
    end
end

local function line_of(kind, outcome)
    local name = outcome and not outcome.unreadable and KINDS[kind] or "not a frame"
    if not outcome then
        return name
    end
    local words = { name }
    if outcome.counter and outcome.status ~= BEHIND then
        words[#words + 1] = tostring(outcome.counter)
    end
    if outcome.status == OPENED then
        words[#words + 1] = outcome.line
    elseif outcome.status ~= CLEAR then
        words[#words + 1] = outcome.status .. (outcome.diagnosis and (": " .. outcome.diagnosis:match("^[^:]*")) or "")
    end
    return table.concat(words, " ")
end

-- The columns are written behind each frame, and again at the very end by the watcher: TLS and JSON write there too.
local function show_columns(pinfo)
    pinfo.cols.protocol = "SecureDelivery"
    pinfo.cols.info:clear_fence()
    pinfo.cols.info = pinfo.private["securedelivery.info"]
    pinfo.cols.info:fence()
end

-- Add a frame's line to those of the packet's, behind what TLS said of its own records in it.
local function note_line(pinfo, line, before)
    local known = pinfo.private["securedelivery.info"]
    if not known and before ~= "" then
        known = before
    end
    pinfo.private["securedelivery.info"] = known and (known .. " | " .. line) or line
    show_columns(pinfo)
end

local function words_of_tls(pinfo)
    if not tostring(pinfo.cols.protocol):find("^TLS") then
        return ""
    end
    return (tostring(pinfo.cols.info):gsub("%[[^%]]*%]", ""):gsub(",? ?Application Data", ""))
end

local function dissect_frame(tvb, pinfo, root)
    local kind, flags, length = tvb(0, 1):uint(), tvb(1, 1):uint(), tvb(2, 2):uint()
    local before = words_of_tls(pinfo)
    local outcome = outcome_of(pinfo, kind, flags, length, tvb)
    local line = line_of(kind, outcome)
    local tree = root:add(proto, tvb(), "SecureDelivery, " .. line)
    if outcome and outcome.unreadable then
        tree:add(f.unreadable, tvb())
    else
        tree:add(f.kind, tvb(0, 1))
        tree:add(f.flags, tvb(1, 1))
        tree:add(f.length, tvb(2, 2))
        tree:add(f.body, tvb(HEADER_LENGTH))
        if kind == HANDSHAKE then
            show_handshake(tvb, tree, length == CLIENT_HANDSHAKE_LENGTH)
        else
            tree:add(f.tag, tvb(tvb:len() - TAG_LENGTH))
        end
    end
    if outcome then
        show_outcome(outcome, tvb, pinfo, tree)
    end
    note_line(pinfo, line, before)
    return tvb:len()
end

-- The whole frame; where there cannot be one, the rest of what TLS gave.
local function frame_length(tvb, _, offset)
    local kind, flags, length = tvb(offset, 1):uint(), tvb(offset + 1, 1):uint(), tvb(offset + 2, 2):uint()
    if well_formed(kind, flags, length) then
        return HEADER_LENGTH + length
    end
    return tvb:len() - offset
end

function proto.dissector(tvb, pinfo, tree)
    dissect_tcp_pdus(tvb, tree, HEADER_LENGTH, frame_length, dissect_frame)
    return tvb:len()
end

-- Keys in comments, and connections that end without CLOSE ------------------------------------------------------------

local function ending_of(pinfo)
    local alert = alert_field()
    if alert then
        return alert.value == 0 and "TLS close_notify" or ("TLS alert %d"):format(alert.value)
    end
    local reset_flag, fin_flag = reset_field(), fin_field()
    return reset_flag and reset_flag.value and "TCP RST" or fin_flag and fin_flag.value and "TCP FIN" or nil
end

local function note_ending(pinfo)
    local how = ending_of(pinfo)
    local conversation = how and (conversations[stream_of(pinfo)] or conversations[endpoints_of(pinfo)])
    if not conversation then
        return
    end
    local packet, keyed_at = pinfo.number, conversation.keyed_at
    local direction = direction_of(pinfo, conversation)
    local closed = direction.closed_at and direction.closed_at <= packet
    if keyed_at and keyed_at <= packet and not closed and not direction.ended_at then
        endings[packet] = how .. " without a CLOSE before it: what was not answered may or may not have happened"
    end
    direction.ended_at = direction.ended_at or packet
end

function watcher.dissector(tvb, pinfo, tree)
    if pinfo.private["securedelivery.info"] then
        show_columns(pinfo)
    end
    for _, comment in ipairs({ comment_field() }) do
        take_keys(comment.value)
    end
    note_ending(pinfo)
    local ending = endings[pinfo.number]
    if ending then
        tree:add(proto, tvb(0, 0), "SecureDelivery, cut short"):add_proto_expert_info(x.truncated, ending)
    end
end

register_postdissector(watcher)

-- Where it is found ---------------------------------------------------------------------------------------------------

local tls_ports = DissectorTable.get("tls.port")
local registered_port

local function register_port()
    if registered_port and registered_port > 0 then
        tls_ports:remove(registered_port, proto)
    end
    registered_port = proto.prefs.port
    if registered_port > 0 then
        tls_ports:add(registered_port, proto)
    end
end

function proto.prefs_changed()
    if proto.prefs.port ~= registered_port then
        register_port()
    end
    choose_cipher()
end

DissectorTable.get("tls.alpn"):add(ALPN, proto)
DissectorTable.get("tcp.port"):add_for_decode_as(proto)
register_port()

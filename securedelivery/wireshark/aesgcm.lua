-- AES-256-GCM (FIPS 197, NIST SP 800-38D) for Wireshark's Lua, 5.2 and 5.4 alike: whole numbers and the `bit` library.
--
-- A key is what aesgcm.new() makes of 32 bytes. A nonce is three words n0, n1, n2 (96 bits). Texts are Lua strings.
-- It is written for reading captures: nothing here is done in constant time, and nothing needs to be.
--
-- Speed. A call of `bit.bxor` costs more than ten steps of Lua's own arithmetic, so words are cut into bytes with % and
-- /, and one bxor takes as many terms as there are. A word may come as -2^31 .. 2^31 - 1 or as 0 .. 2^32 - 1: tables
-- that are looked up with the topmost part of a word hold both.

local aesgcm = {}

local bxor, bor, lshift, rshift = bit.bxor, bit.bor, bit.lshift, bit.rshift
local byte, char, concat = string.byte, string.char, table.concat
local floor = math.floor

-- AES: T0 to T3 join SubBytes, ShiftRows and MixColumns of one byte; S0 to S3 are those of the last round.
-- T0 and S0 are looked up with a word's topmost byte, -128 .. 255, plus TOP.

local TOP = 129
local sbox = {}
local T0, T1, T2, T3 = {}, {}, {}, {}
local S0, S1, S2, S3 = {}, {}, {}, {}

local function double(value) -- times x in GF(2^8), modulo x^8 + x^4 + x^3 + x + 1
    value = value * 2
    if value > 255 then
        value = bxor(value, 0x11b)
    end
    return value
end

local function make_tables()
    local powers, logarithms, value = {}, {}, 1
    for exponent = 0, 254 do
        powers[exponent], logarithms[value] = value, exponent
        value = bxor(value, double(value)) -- times 3, which generates the field
    end
    for input = 0, 255 do
        local inverse = input == 0 and 0 or powers[(255 - logarithms[input]) % 255]
        local rotated = inverse
        local s = bxor(inverse, 0x63)
        for _ = 1, 4 do
            rotated = rotated * 2 % 256 + floor(rotated / 128)
            s = bxor(s, rotated)
        end
        local two = double(s)
        local three = bxor(two, s)
        sbox[input] = s
        T1[input] = three * 16777216 + two * 65536 + s * 256 + s
        T2[input] = s * 16777216 + three * 65536 + two * 256 + s
        T3[input] = s * 16777216 + s * 65536 + three * 256 + two
        S1[input], S2[input], S3[input] = s * 65536, s * 256, s
        T0[input + TOP] = two * 16777216 + s * 65536 + s * 256 + three
        S0[input + TOP] = s * 16777216
    end
    for top = -128, -1 do
        T0[top + TOP], S0[top + TOP] = T0[top + 256 + TOP], S0[top + 256 + TOP]
    end
end

make_tables()

local function substitute(word)
    local b0, b1, b2, b3 = floor(word / 16777216) % 256, floor(word / 65536) % 256, floor(word / 256) % 256, word % 256
    return sbox[b0] * 16777216 + sbox[b1] * 65536 + sbox[b2] * 256 + sbox[b3]
end

local function expand(k) -- FIPS 197, section 5.2: 60 words
    local words, constant = {}, 1
    for i = 0, 7 do
        local b0, b1, b2, b3 = byte(k, 4 * i + 1, 4 * i + 4)
        words[i + 1] = b0 * 16777216 + b1 * 65536 + b2 * 256 + b3
    end
    for i = 9, 60 do
        local word = words[i - 1] % 4294967296
        if i % 8 == 1 then
            word = bxor(substitute(word % 16777216 * 256 + floor(word / 16777216)), constant * 16777216)
            constant = double(constant)
        elseif i % 8 == 5 then
            word = substitute(word)
        end
        words[i] = bxor(words[i - 8], word)
    end
    return words
end

-- One block: four words in, four words out.
local function encrypt(words, a, b, c, d)
    local T0, T1, T2, T3, bxor = T0, T1, T2, T3, bxor
    a, b, c, d = bxor(a, words[1]), bxor(b, words[2]), bxor(c, words[3]), bxor(d, words[4])
    local a1, a2, a3, b1, b2, b3, c1, c2, c3, d1, d2, d3
    for i = 5, 53, 4 do
        a3 = a % 256 a = (a - a3) / 256 a2 = a % 256 a = (a - a2) / 256 a1 = a % 256
        b3 = b % 256 b = (b - b3) / 256 b2 = b % 256 b = (b - b2) / 256 b1 = b % 256
        c3 = c % 256 c = (c - c3) / 256 c2 = c % 256 c = (c - c2) / 256 c1 = c % 256
        d3 = d % 256 d = (d - d3) / 256 d2 = d % 256 d = (d - d2) / 256 d1 = d % 256
        a, b, c, d = bxor(T0[(a - a1) / 256 + 129], T1[b1], T2[c2], T3[d3], words[i]),
            bxor(T0[(b - b1) / 256 + 129], T1[c1], T2[d2], T3[a3], words[i + 1]),
            bxor(T0[(c - c1) / 256 + 129], T1[d1], T2[a2], T3[b3], words[i + 2]),
            bxor(T0[(d - d1) / 256 + 129], T1[a1], T2[b2], T3[c3], words[i + 3])
    end
    a3 = a % 256 a = (a - a3) / 256 a2 = a % 256 a = (a - a2) / 256 a1 = a % 256
    b3 = b % 256 b = (b - b3) / 256 b2 = b % 256 b = (b - b2) / 256 b1 = b % 256
    c3 = c % 256 c = (c - c3) / 256 c2 = c % 256 c = (c - c2) / 256 c1 = c % 256
    d3 = d % 256 d = (d - d3) / 256 d2 = d % 256 d = (d - d2) / 256 d1 = d % 256
    return bxor(S0[(a - a1) / 256 + 129], S1[b1], S2[c2], S3[d3], words[57]),
        bxor(S0[(b - b1) / 256 + 129], S1[c1], S2[d2], S3[a3], words[58]),
        bxor(S0[(c - c1) / 256 + 129], S1[d1], S2[a2], S3[b3], words[59]),
        bxor(S0[(d - d1) / 256 + 129], S1[a1], S2[b2], S3[c3], words[60])
end

local function to_bytes(a, b, c, d)
    local a3, b3, c3, d3 = a % 256, b % 256, c % 256, d % 256
    a, b, c, d = (a - a3) / 256, (b - b3) / 256, (c - c3) / 256, (d - d3) / 256
    local a2, b2, c2, d2 = a % 256, b % 256, c % 256, d % 256
    a, b, c, d = (a - a2) / 256, (b - b2) / 256, (c - c2) / 256, (d - d2) / 256
    local a1, b1, c1, d1 = a % 256, b % 256, c % 256, d % 256
    a, b, c, d = (a - a1) / 256 % 256, (b - b1) / 256 % 256, (c - c1) / 256 % 256, (d - d1) / 256 % 256
    return char(a, a1, a2, a3, b, b1, b2, b3, c, c1, c2, c3, d, d1, d2, d3)
end

-- GHASH: for each of the 32 nibbles of a block and each of its 16 values, the product with H; one table for each of the
-- product's four words. A nibble's values begin at SLOT * its number + ZERO; the topmost nibble of a word is -8 .. 15.

local SLOT, ZERO = 24, 9

local function make_products(h0, h1, h2, h3)
    local w0, w1, w2, w3 = {}, {}, {}, {}
    for at = 1, 32 * SLOT do -- filled in order, so that Lua keeps them as arrays
        w0[at], w1[at], w2[at], w3[at] = 0, 0, 0, 0
    end
    for nibble = 0, 31 do
        local zero = SLOT * nibble + ZERO
        local weight = 8
        while weight >= 1 do
            for value = weight, 15, 2 * weight do -- those whose lowest bit this is; the rest of them is there already
                local rest = zero + value - weight
                w0[zero + value], w1[zero + value] = bxor(w0[rest], h0), bxor(w1[rest], h1)
                w2[zero + value], w3[zero + value] = bxor(w2[rest], h2), bxor(w3[rest], h3)
            end
            -- Times x, modulo x^128 + x^7 + x^2 + x + 1; bit 0 comes first.
            local carry = h3 % 2 == 1 and 0xe1000000 or 0
            h0, h1, h2, h3 = bxor(rshift(h0, 1), carry), bor(rshift(h1, 1), lshift(h0, 31)),
                bor(rshift(h2, 1), lshift(h1, 31)), bor(rshift(h3, 1), lshift(h2, 31))
            weight = weight / 2
        end
        if nibble % 8 == 0 then
            for top = -8, -1 do
                local at, same = zero + top, zero + top + 16
                w0[at], w1[at], w2[at], w3[at] = w0[same], w1[same], w2[same], w3[same]
            end
        end
    end
    return w0, w1, w2, w3
end

local function zeros_to_block(length)
    return ("\0"):rep(-length % 16)
end

local function bit_length(text)
    return #text * 8 -- of fewer than 2^32 bits
end

-- The state of the tag: GHASH over associated data and ciphertext. Four words, the same whatever the nonce.
function aesgcm.ghash(key, ad, ciphertext)
    local w0, w1, w2, w3, bxor = key.w0, key.w1, key.w2, key.w3, bxor
    local data = concat({
        ad, zeros_to_block(#ad), ciphertext, zeros_to_block(#ciphertext),
        to_bytes(0, bit_length(ad), 0, bit_length(ciphertext)),
    })
    local a, b, c, d = 0, 0, 0, 0
    for at = 1, #data, 16 do
        local x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = byte(data, at, at + 15)
        a = bxor(a, x0 * 16777216 + x1 * 65536 + x2 * 256 + x3)
        b = bxor(b, x4 * 16777216 + x5 * 65536 + x6 * 256 + x7)
        c = bxor(c, x8 * 16777216 + x9 * 65536 + x10 * 256 + x11)
        d = bxor(d, x12 * 16777216 + x13 * 65536 + x14 * 256 + x15)
        -- Each word's nibbles, the topmost first, as places in the tables.
        local a0, a1, a2, a3, a4, a5, a6, a7
        a7 = a % 16 a = (a - a7) / 16 a7 = a7 + 177 a6 = a % 16 a = (a - a6) / 16 a6 = a6 + 153
        a5 = a % 16 a = (a - a5) / 16 a5 = a5 + 129 a4 = a % 16 a = (a - a4) / 16 a4 = a4 + 105
        a3 = a % 16 a = (a - a3) / 16 a3 = a3 + 81 a2 = a % 16 a = (a - a2) / 16 a2 = a2 + 57
        a1 = a % 16 a0 = (a - a1) / 16 + 9 a1 = a1 + 33
        local b0, b1, b2, b3, b4, b5, b6, b7
        b7 = b % 16 b = (b - b7) / 16 b7 = b7 + 369 b6 = b % 16 b = (b - b6) / 16 b6 = b6 + 345
        b5 = b % 16 b = (b - b5) / 16 b5 = b5 + 321 b4 = b % 16 b = (b - b4) / 16 b4 = b4 + 297
        b3 = b % 16 b = (b - b3) / 16 b3 = b3 + 273 b2 = b % 16 b = (b - b2) / 16 b2 = b2 + 249
        b1 = b % 16 b0 = (b - b1) / 16 + 201 b1 = b1 + 225
        local c0, c1, c2, c3, c4, c5, c6, c7
        c7 = c % 16 c = (c - c7) / 16 c7 = c7 + 561 c6 = c % 16 c = (c - c6) / 16 c6 = c6 + 537
        c5 = c % 16 c = (c - c5) / 16 c5 = c5 + 513 c4 = c % 16 c = (c - c4) / 16 c4 = c4 + 489
        c3 = c % 16 c = (c - c3) / 16 c3 = c3 + 465 c2 = c % 16 c = (c - c2) / 16 c2 = c2 + 441
        c1 = c % 16 c0 = (c - c1) / 16 + 393 c1 = c1 + 417
        local d0, d1, d2, d3, d4, d5, d6, d7
        d7 = d % 16 d = (d - d7) / 16 d7 = d7 + 753 d6 = d % 16 d = (d - d6) / 16 d6 = d6 + 729
        d5 = d % 16 d = (d - d5) / 16 d5 = d5 + 705 d4 = d % 16 d = (d - d4) / 16 d4 = d4 + 681
        d3 = d % 16 d = (d - d3) / 16 d3 = d3 + 657 d2 = d % 16 d = (d - d2) / 16 d2 = d2 + 633
        d1 = d % 16 d0 = (d - d1) / 16 + 585 d1 = d1 + 609
        a = bxor(w0[a0], w0[a1], w0[a2], w0[a3], w0[a4], w0[a5], w0[a6], w0[a7],
            w0[b0], w0[b1], w0[b2], w0[b3], w0[b4], w0[b5], w0[b6], w0[b7],
            w0[c0], w0[c1], w0[c2], w0[c3], w0[c4], w0[c5], w0[c6], w0[c7],
            w0[d0], w0[d1], w0[d2], w0[d3], w0[d4], w0[d5], w0[d6], w0[d7])
        b = bxor(w1[a0], w1[a1], w1[a2], w1[a3], w1[a4], w1[a5], w1[a6], w1[a7],
            w1[b0], w1[b1], w1[b2], w1[b3], w1[b4], w1[b5], w1[b6], w1[b7],
            w1[c0], w1[c1], w1[c2], w1[c3], w1[c4], w1[c5], w1[c6], w1[c7],
            w1[d0], w1[d1], w1[d2], w1[d3], w1[d4], w1[d5], w1[d6], w1[d7])
        c = bxor(w2[a0], w2[a1], w2[a2], w2[a3], w2[a4], w2[a5], w2[a6], w2[a7],
            w2[b0], w2[b1], w2[b2], w2[b3], w2[b4], w2[b5], w2[b6], w2[b7],
            w2[c0], w2[c1], w2[c2], w2[c3], w2[c4], w2[c5], w2[c6], w2[c7],
            w2[d0], w2[d1], w2[d2], w2[d3], w2[d4], w2[d5], w2[d6], w2[d7])
        d = bxor(w3[a0], w3[a1], w3[a2], w3[a3], w3[a4], w3[a5], w3[a6], w3[a7],
            w3[b0], w3[b1], w3[b2], w3[b3], w3[b4], w3[b5], w3[b6], w3[b7],
            w3[c0], w3[c1], w3[c2], w3[c3], w3[c4], w3[c5], w3[c6], w3[c7],
            w3[d0], w3[d1], w3[d2], w3[d3], w3[d4], w3[d5], w3[d6], w3[d7])
    end
    return a, b, c, d
end

-- k: 32 bytes.
function aesgcm.new(k)
    local words = expand(k)
    local w0, w1, w2, w3 = make_products(encrypt(words, 0, 0, 0, 0))
    return { words = words, w0 = w0, w1 = w1, w2 = w2, w3 = w3 }
end

-- The tag (16 bytes) that a state a, b, c, d of ghash() gives under a nonce: one AES block.
function aesgcm.tag(key, n0, n1, n2, a, b, c, d)
    local e, f, g, h = encrypt(key.words, n0, n1, n2, 1)
    return to_bytes(bxor(a, e), bxor(b, f), bxor(c, g), bxor(d, h))
end

-- Counter mode, which is its own inverse. It looks at no tag: call it behind tag().
function aesgcm.crypt(key, n0, n1, n2, text)
    local words, bxor, byte = key.words, bxor, byte
    local pieces, count = {}, 0
    local whole = #text
    text = text .. zeros_to_block(whole)
    for at = 1, whole, 16 do
        local x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = byte(text, at, at + 15)
        count = count + 1
        local a, b, c, d = encrypt(words, n0, n1, n2, count + 1)
        pieces[count] = to_bytes(
            bxor(a, x0 * 16777216 + x1 * 65536 + x2 * 256 + x3),
            bxor(b, x4 * 16777216 + x5 * 65536 + x6 * 256 + x7),
            bxor(c, x8 * 16777216 + x9 * 65536 + x10 * 256 + x11),
            bxor(d, x12 * 16777216 + x13 * 65536 + x14 * 256 + x15)
        )
    end
    return concat(pieces):sub(1, whole)
end

-- The plaintext, or nil where the tag (16 bytes) is wrong.
function aesgcm.open(key, n0, n1, n2, ad, ciphertext, tag)
    if aesgcm.tag(key, n0, n1, n2, aesgcm.ghash(key, ad, ciphertext)) ~= tag then
        return nil
    end
    return aesgcm.crypt(key, n0, n1, n2, ciphertext)
end

-- Noise: 32 zero bits, then the counter (below 2^53) big-endian; revision 34, section 12.4.
function aesgcm.nonce(counter)
    return 0, floor(counter / 4294967296), counter % 4294967296
end

-- Noise's REKEY(k), section 4.2: the first 32 bytes of ENCRYPT(k, 2^64 - 1, zerolen, zeros); returns the next 32 bytes.
function aesgcm.rekey(key)
    return aesgcm.crypt(key, 0, 0xffffffff, 0xffffffff, ("\0"):rep(32))
end

return aesgcm

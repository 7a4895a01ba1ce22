-- Copyright: (c) 2026, keyfleet.hsm contributors
-- GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later

-- The converter lua.dns_names of HAProxy, which has none of its own for alternative names: from a certificate (DER in hex, which HAProxy
-- has verified before) to its DNS names in small letters, each between two commas, as in ",app1,app1.example.com,".
-- It walks through the structure of the certificate (RFC 5280, section 4.1). Looking for the bytes of a name anywhere in it would also find
-- them where a client chose them, as in its public key. What it cannot read has no names, and nobody is let in by it.

local OCTETS, OID, SEQUENCE, EXTENSIONS, DNS_NAME = 0x04, 0x06, 0x30, 0xa3, 0x82
local SUBJECT_ALT_NAME = "\x55\x1d\x11"

-- The tag of the element at this place, its first byte, its last one. An error where it goes beyond ``last``.
local function element(der, at, last)
  local tag, length = der:byte(at, at + 1)
  local first = at + 2
  if length >= 0x80 then
    local digits = length - 0x80
    if digits < 1 or digits > 3 then error("length") end
    length = 0
    for index = first, first + digits - 1 do length = length * 256 + der:byte(index) end
    first = first + digits
  end
  if first + length - 1 > last then error("end") end
  return tag, first, first + length - 1
end

-- All that stand side by side from first to last.
local function elements(der, first, last)
  local found = {}
  while first <= last do
    local tag, from, to = element(der, first, last)
    found[#found + 1] = {tag = tag, from = from, to = to}
    first = to + 1
  end
  return found
end

-- Those within the one element of this tag that lies from first to last.
local function within(der, first, last, tag)
  local found, from, to = element(der, first, last)
  if found ~= tag or to ~= last then error("tag") end
  return elements(der, from, to)
end

local function names_of(der)
  local names = {}
  local certificate = within(der, 1, #der, SEQUENCE)
  if certificate[1].tag ~= SEQUENCE then error("tag") end
  for _, field in ipairs(elements(der, certificate[1].from, certificate[1].to)) do
    for _, extension in ipairs(field.tag == EXTENSIONS and within(der, field.from, field.to, SEQUENCE) or {}) do
      local parts = elements(der, extension.from, extension.to)
      local id, value = parts[1], parts[#parts]
      if id.tag == OID and value.tag == OCTETS and der:sub(id.from, id.to) == SUBJECT_ALT_NAME then
        for _, name in ipairs(within(der, value.from, value.to, SEQUENCE)) do
          local text = der:sub(name.from, name.to)
          -- Neither a comma nor a wildcard.
          if name.tag == DNS_NAME and text:match("^[%w._-]+$") then names[#names + 1] = text:lower() end
        end
      end
    end
  end
  return names
end

core.register_converters("dns_names", function(hex)
  local der = hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
  local good, names = pcall(names_of, der)
  return good and #names > 0 and "," .. table.concat(names, ",") .. "," or ""
end)

import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type Bind, clash, exposed, isBind, parse } from "../../../src/server/internal/bind.ts"

const bind = (text: string): Bind => {
  const parsed = parse(text)
  if (!isBind(parsed)) return assert.fail(`${text} ${parsed.message}`)
  return parsed
}

describe("bind", () => {
  it.each([
    ["127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080"],
    ["localhost:8080", "localhost", 8080, "localhost:8080"],
    ["LocalHost:8080", "localhost", 8080, "localhost:8080"],
    [":8080", undefined, 8080, ":8080"],
    ["*:8080", undefined, 8080, ":8080"],
    ["[::]:8080", undefined, 8080, ":8080"],
    ["[0:0:0:0:0:0:0:0]:8080", undefined, 8080, ":8080"],
    ["0.0.0.0:8080", "0.0.0.0", 8080, "0.0.0.0:8080"],
    ["[::1]:8080", "::1", 8080, "[::1]:8080"],
    ["[0:0::0001]:8080", "::1", 8080, "[::1]:8080"],
    ["[FE80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"],
    ["127.1:80", "127.0.0.1", 80, "127.0.0.1:80"],
    ["[::ffff:127.0.0.1]:80", "127.0.0.1", 80, "127.0.0.1:80"],
    ["[::FFFF:c0a8:102]:80", "192.168.1.2", 80, "192.168.1.2:80"],
    ["127.0.0.1:0", "127.0.0.1", 0, "127.0.0.1:0"],
    [":0", undefined, 0, ":0"],
    [" :080 ", undefined, 80, ":80"],
    ["my_host.internal:65535", "my_host.internal", 65_535, "my_host.internal:65535"]
  ])("%s is understood", (text, host, port, key) => {
    assert.deepStrictEqual(parse(text), { text: text.trim(), host, port, key })
  })

  it.each([
    [undefined, /^must be an address such as/],
    [8080, /such as "127.0.0.1:8080"/],
    ["", /such as/],
    ["8080", /for a port of all addresses write ":8080"$/],
    ["localhost", /the port is missing$/],
    ["[::1]", /the port is missing$/],
    ["::1:8080", /an IPv6 address stands in brackets$/],
    ["::8080", /in brackets$/],
    ["http://localhost:8080", /without a scheme; URLs belong to expose$/],
    ["localhost:8080/path", /without a path$/],
    ["localhost:65536", /from 0 \(the system chooses\) to 65535$/],
    ["localhost:", /the port is a number/],
    ["localhost:-1", /the port is a number/],
    ["localhost:http", /the port is a number/],
    ["a b:80", /neither a name nor an IP address$/],
    ["user@host:80", /neither a name/],
    ["[::g]:80", /neither a name/],
    ["[1::2::3]:80", /neither a name/],
    ["256.0.0.1:80", /neither a name/],
    ["[127.0.0.1]:80", /neither a name/]
  ])("%s is refused, and why", (text, message) => {
    const parsed = parse(text)
    if (isBind(parsed)) return assert.fail(`understood as ${parsed.key}`)
    assert.match(parsed.message, message)
  })

  it("a key is understood as itself", () => {
    for (const text of [":80", "127.1:80", "[0::1]:80", "[::]:0", "LOCALHOST:1", "[fe80::1%eth0]:80"]) {
      assert.strictEqual(bind(bind(text).key).key, bind(text).key)
    }
  })

  it.prop(
    "what is understood is understood again by its key, and nothing throws",
    [Schema.String, Schema.Int],
    ([host, port]) => {
      for (const text of [host, `${host}:${port}`, `[${host}]:${port}`]) {
        const parsed = parse(text)
        if (isBind(parsed)) assert.strictEqual(bind(parsed.key).key, parsed.key)
        else assert.match(parsed.message, /^must be an address/)
      }
    },
    { arbitrary: { runs: 200, seed: 1 } }
  )

  it.each([
    [":80", "[::]:80", true],
    [":80", "127.0.0.1:80", true],
    ["localhost:80", "*:80", true],
    [":80", "0.0.0.0:80", true],
    ["0.0.0.0:80", "127.0.0.1:80", true],
    ["0.0.0.0:80", "[::1]:80", false],
    ["0.0.0.0:80", "localhost:80", false],
    ["[::1]:80", "[0::1]:80", true],
    ["127.0.0.1:80", "127.0.0.2:80", false],
    [":80", ":81", false],
    [":0", ":0", false],
    ["127.0.0.1:0", "127.0.0.1:0", false]
  ])("%s and %s clash: %s", (a, b, expected) => {
    assert.strictEqual(clash(bind(a), bind(b)), expected)
    assert.strictEqual(clash(bind(b), bind(a)), expected)
  })

  it.each([
    [":8080", false, "http://localhost:8080/"],
    ["0.0.0.0:8443", true, "https://localhost:8443/"],
    [":80", false, "http://localhost/"],
    [":443", true, "https://localhost/"],
    ["[::1]:8080", false, "http://[::1]:8080/"],
    ["[fe80::1%eth0]:8080", false, "http://[fe80::1]:8080/"],
    ["api.internal:8080", false, "http://api.internal:8080/"],
    [":0", false, "http://localhost:0/"]
  ])("%s is exposed as a URL (TLS: %s)", (text, secure, url) => {
    assert.strictEqual(exposed(bind(text), secure).href, url)
  })
})

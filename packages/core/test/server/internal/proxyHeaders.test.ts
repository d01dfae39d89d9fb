import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Cookies, Headers } from "effect/http"
import * as ProxyHeaders from "../../../src/server/internal/proxyHeaders.ts"

const received: ProxyHeaders.Received = {
  peer: "192.0.2.1",
  host: "shop.test",
  proto: "http",
  version: "1.1",
  trusted: false
}

const silent: ProxyHeaders.Telling = { forwarded: false, xForwarded: false, via: false, host: "upstream", prefix: "" }
const telling: ProxyHeaders.Telling = { ...silent, forwarded: true, xForwarded: true, via: "gateway" }

const sent = (
  headers: Headers.Input,
  from: Partial<ProxyHeaders.Received> = {},
  what: Partial<ProxyHeaders.Telling> = {}
): Record<string, string> => {
  const { ["accept-encoding"]: _, ...rest } = ProxyHeaders.ofRequest(
    Headers.fromInput(headers),
    { ...received, ...from },
    { ...silent, ...what }
  )
  return rest
}

const responseHeaders = (raw: Parameters<typeof ProxyHeaders.ofResponse>[0]) => ProxyHeaders.ofResponse(raw).headers

describe("ofRequest", () => {
  it("what belongs to the connection is not passed on, nor what Connection names", () => {
    assert.deepStrictEqual(
      sent({
        connection: "close, X-Hop , x-other,,cookie",
        "keep-alive": "timeout=5",
        "proxy-connection": "keep-alive",
        "proxy-authorization": "Basic x",
        te: "trailers",
        trailer: "x-t",
        "transfer-encoding": "chunked",
        upgrade: "h2c",
        "http2-settings": "AA",
        expect: "100-continue",
        host: "shop.test",
        "content-length": "5",
        "x-hop": "1",
        "x-other": "2",
        cookie: "a=1",
        "x-stays": "3",
        authorization: "Bearer x"
      }),
      { "x-stays": "3", authorization: "Bearer x" }
    )
  })

  it("a name with underscores is the name that CGI makes of it", () => {
    assert.deepStrictEqual(
      sent({
        connection: "x-hop",
        transfer_encoding: "chunked",
        content_length: "5",
        x_forwarded_for: "1.2.3.4",
        x_hop: "1",
        x_mine: "2"
      }),
      { x_mine: "2" }
    )
  })

  const told = {
    forwarded: "for=203.0.113.9;proto=https",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil.test",
    "x-forwarded-port": "443",
    "x-forwarded-prefix": "/p",
    "x-forwarded-anything": "1",
    "x-real-ip": "203.0.113.9",
    "x-client-ip": "203.0.113.9",
    "true-client-ip": "203.0.113.9",
    "cf-connecting-ip": "203.0.113.9",
    "x-original-forwarded-for": "203.0.113.9",
    "x-original-url": "/admin",
    "x-rewrite-url": "/admin",
    "x-envoy-original-path": "/admin",
    "x-scheme": "https"
  }

  it("what a client says of earlier hops is not believed", () => {
    assert.deepStrictEqual(sent(told), {})
    assert.deepStrictEqual(sent({ x_original_url: "/admin", "x-originality": "1" }), { "x-originality": "1" })
    assert.deepStrictEqual(sent(told, {}, telling), {
      forwarded: "for=192.0.2.1;host=shop.test;proto=http",
      "x-forwarded-for": "192.0.2.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": "shop.test",
      via: "1.1 gateway"
    })
  })

  it("what a trusted peer says is continued", () => {
    assert.deepStrictEqual(sent(told, { trusted: true }, { ...telling, prefix: "/billing" }), {
      ...told,
      forwarded: "for=203.0.113.9;proto=https, for=192.0.2.1;host=shop.test;proto=http",
      "x-forwarded-for": "203.0.113.9, 192.0.2.1",
      "x-forwarded-prefix": "/p/billing",
      via: "1.1 gateway"
    })
  })

  it("a Connection that names what the proxy writes does not stop it", () => {
    const headers = sent({ connection: "forwarded, x-forwarded-for, via, host" }, {}, { ...telling, host: "preserve" })
    assert.hasAllKeys(headers, ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "host"])
  })

  it("Forwarded quotes what is no token, and an IPv6 address stands in brackets (RFC 7239, 6)", () => {
    const forwarded = (from: Partial<ProxyHeaders.Received>) => sent({}, from, { forwarded: true })["forwarded"]
    assert.strictEqual(
      forwarded({ peer: "2001:db8::1", host: "shop.test:8080", proto: "https" }),
      'for="[2001:db8::1]";host="shop.test:8080";proto=https'
    )
    assert.strictEqual(forwarded({ peer: undefined, host: undefined }), "for=unknown;proto=http")
  })

  it("each kind of telling alone", () => {
    assert.hasAllKeys(sent({}, {}, { forwarded: true }), ["forwarded"])
    assert.deepStrictEqual(sent({}, { host: undefined, peer: undefined }, { xForwarded: true, prefix: "/p" }), {
      "x-forwarded-for": "unknown",
      "x-forwarded-proto": "http",
      "x-forwarded-prefix": "/p"
    })
  })

  it("Via is continued, with the version that came", () => {
    assert.strictEqual(
      sent({ via: "1.0 fred" }, { version: "1.0" }, { via: "gateway" })["via"],
      "1.0 fred, 1.0 gateway"
    )
    assert.strictEqual(sent({ via: "1.0 fred" })["via"], "1.0 fred")
  })

  it("no coding is asked for that the client has not asked for", () => {
    const of = (input: Headers.Input) =>
      ProxyHeaders.ofRequest(Headers.fromInput(input), received, silent)["accept-encoding"]
    assert.strictEqual(of({}), "identity")
    assert.strictEqual(of({ "accept-encoding": "br" }), "br")
  })

  const names = [
    "connection",
    "te",
    "x-a",
    "x-b",
    "x-c",
    "upgrade",
    "x-forwarded-for",
    "content-length",
    "x_d",
    "cookie"
  ]
  const name = Schema.Literals(names)

  it.effect.prop(
    "of any headers: all that is not of this hop passes unchanged, and nothing else",
    [Schema.Array(Schema.Tuple([name, Schema.String])), Schema.Array(name)],
    ([pairs, named]) =>
      Effect.sync(() => {
        const headers = Headers.fromInput({ ...Object.fromEntries(pairs), connection: named.join(" ,\t") })
        const out = sent(headers)
        const asRead = (text: string) => text.replaceAll("_", "-")
        const gone = new Set([...named.map(asRead), "connection", "te", "upgrade", "x-forwarded-for", "content-length"])
        const expected = Object.entries(headers).filter(([key]) => !gone.has(asRead(key)))
        assert.deepStrictEqual(Object.entries(out), expected)
      }),
    { arbitrary: { runs: 300 } }
  )

  it.effect.prop(
    "order and number of names in Connection do not matter, and filtering twice changes nothing",
    [Schema.Array(name)],
    ([named]) =>
      Effect.sync(() => {
        const all = Object.fromEntries(names.map((key) => [key, key]))
        const once = (connection: string) => responseHeaders({ ...all, connection })
        const forth = once(named.join(","))
        assert.deepStrictEqual(once([...named].reverse().join(", ").toUpperCase()), forth)
        assert.deepStrictEqual(responseHeaders(forth), forth)
      }),
    { arbitrary: { runs: 200 } }
  )
})

describe("withoutFraming", () => {
  it("a hook cannot bring back what says where a message ends", () => {
    const headers = Headers.fromInput({
      "content-length": "5",
      "transfer-encoding": "chunked",
      connection: "x-a",
      expect: "100-continue",
      host: "a",
      "x-a": "1",
      "x-b": "2"
    })
    assert.deepStrictEqual({ ...ProxyHeaders.withoutFraming(headers) }, { host: "a", "x-b": "2" })
  })
})

describe("ofResponse", () => {
  it("what belongs to the connection is not passed on; repeated headers are one list", () => {
    assert.deepStrictEqual(
      {
        ...responseHeaders({
          connection: ["keep-alive", "x-hop"],
          "x-hop": "1",
          "proxy-authenticate": "Basic",
          "content-length": "5",
          "set-cookie": ["a=1"],
          vary: ["a", "b"],
          via: "1.1 cache",
          nothing: undefined
        })
      },
      { vary: "a, b", via: "1.1 cache" }
    )
  })
})

describe("Set-Cookie", () => {
  const written = (given: string | Array<string> | undefined) => {
    const { cookies, lines } = ProxyHeaders.ofResponse(given === undefined ? {} : { "set-cookie": given })
    return { cookies: Cookies.toSetCookieHeaders(cookies), lines }
  }

  it("every line comes out as it went in", () => {
    const lines = ["a=1; Path=/", "a=2; Path=/x; Unknown=1", 'b="x, y"', "d=", "e==="]
    assert.deepStrictEqual(written(lines), { cookies: lines, lines: undefined })
    assert.deepStrictEqual(written("a=1"), { cookies: ["a=1"], lines: undefined })
    assert.deepStrictEqual(written(undefined), { cookies: [], lines: undefined })
  })

  it("names that are no tokens, and none at all, are left as lines", () => {
    for (const odd of ["a[0]=1; Path=/", "bare", "=x", "a b=1", "", "__proto__"]) {
      assert.deepStrictEqual(written(["a=1", odd]), { cookies: [], lines: ["a=1", odd] })
    }
  })
})

describe("framingOf", () => {
  const of = (input: Headers.Input) => {
    const framing = ProxyHeaders.framingOf(Headers.fromInput(input))
    if (framing._tag === "Refused") return framing.status
    return framing._tag === "Length" ? `length ${framing.length}` : framing._tag
  }

  it("RFC 9112, 6.3", () => {
    assert.strictEqual(of({}), "None")
    assert.strictEqual(of({ "content-length": "0" }), "None")
    assert.strictEqual(of({ "content-length": "17" }), "length 17")
    assert.strictEqual(of({ "transfer-encoding": " Chunked " }), "Chunked")
    assert.strictEqual(of({ "transfer-encoding": "chunked", "content-length": "0" }), 400)
    for (const coding of ["gzip, chunked", "chunked, chunked", "xchunked", "identity", ""]) {
      assert.strictEqual(of({ "transfer-encoding": coding }), 501, coding)
    }
    const old = ProxyHeaders.framingOf(Headers.fromInput({ "transfer-encoding": "chunked" }), "1.0")
    assert.strictEqual(old._tag === "Refused" && old.status, 400)
    for (const length of ["+1", "-1", "1,1", "1, 2", "0x1", "", " 1", "1e3", "9999999999999999"]) {
      assert.strictEqual(of({ "content-length": length }), 400, length)
    }
  })

  it("the length of a response", () => {
    assert.strictEqual(ProxyHeaders.lengthOf({ "content-length": "5" }), 5)
    assert.isUndefined(ProxyHeaders.lengthOf({}))
    assert.isUndefined(ProxyHeaders.lengthOf({ "content-length": "5", "transfer-encoding": "chunked" }))
    assert.isUndefined(ProxyHeaders.lengthOf({ "content-length": ["5", "5"] }))
    assert.isUndefined(ProxyHeaders.lengthOf({ "content-length": "x" }))
  })
})

it("isHost takes names and addresses with ports, and nothing else", () => {
  for (const host of ["a", "a.test", "a_b.test:80", "127.0.0.1", "[::1]:8080", "a:", "%61.test"]) {
    assert.isTrue(ProxyHeaders.isHost(host), host)
  }
  for (const host of ["a b", "a/b", "a?b", "a@b", "a:b", "::1", 'a,b"', "[::1", "a\\b", "<a>"]) {
    assert.isFalse(ProxyHeaders.isHost(host), host)
  }
})

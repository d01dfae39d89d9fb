import { assert, describe, it } from "@effect/vitest"
import { IpNetwork } from "effect/net"
import type { Problem } from "../../../src/model/internal/field.ts"
import { fieldsFromText, readFields } from "../../../src/model/internal/groupField.ts"
import { fields, type Given, resolve } from "../../../src/server/internal/proxyOptions.ts"

const read = (input: unknown) => {
  const problems: Array<Problem> = []
  const given = readFields<Given>(fields, input, "", problems)
  return problems.length === 0 ? given : problems.map(({ path }) => path)
}

const networks = (value: unknown) => {
  const given = read({ trustForwarded: value })
  return Array.isArray(given) ? given : given.trustForwarded?.map(IpNetwork.format)
}

describe("options of a proxy", () => {
  it("what is not given", () => {
    assert.deepStrictEqual(resolve({}), {
      stripPrefix: "",
      rewrite: undefined,
      timeout: Infinity,
      trustForwarded: [],
      forwarded: true,
      xForwarded: true,
      via: "millrace",
      host: "upstream",
      maxBodySize: Infinity,
      webSockets: true,
      webSocketIdleTimeout: 300_000,
      requestHeaders: undefined,
      responseHeaders: undefined,
      onError: undefined
    })
  })

  it("as text, as environments and files hold them", () => {
    const text = {
      stripPrefix: "/api/v1/",
      timeout: "30s",
      trustForwarded: "10.0.0.0/8, ::1",
      forwarded: "x-forwarded",
      via: "false",
      host: "preserve",
      maxBodySize: "1 MiB"
    }
    const { trustForwarded, ...given } = resolve(readFields<Given>(fields, fieldsFromText(fields, text), "", []))
    assert.deepStrictEqual(trustForwarded.map(IpNetwork.format), ["10.0.0.0/8", "::1/128"])
    assert.include(given, {
      stripPrefix: "/api/v1",
      timeout: 30_000,
      forwarded: false,
      xForwarded: true,
      via: false,
      host: "preserve",
      maxBodySize: 1_048_576
    })
    assert.strictEqual(fields.trustForwarded.fromText("no"), false)
    assert.deepStrictEqual(fields.trustForwarded.fromText(["::1"]), ["::1"])
    assert.deepStrictEqual(networks(fields.trustForwarded.fromText("")), [])
    assert.strictEqual(fields.via.fromText("gateway"), "gateway")
  })

  it("trustForwarded takes addresses and networks, and nothing that could trust more than it says", () => {
    assert.deepStrictEqual(networks(false), [])
    assert.deepStrictEqual(networks(["192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "::1"]), [
      "192.0.2.7/32",
      "10.0.0.0/8",
      "2001:db8::/32",
      "::1/128"
    ])
    for (const wrong of ["10.0.0.1/8", "10", "*", "10.0.0.0/33", "localhost", "", 7]) {
      assert.deepStrictEqual(networks([wrong]), ["trustForwarded[0]"], String(wrong))
    }
    assert.deepStrictEqual(networks(true), ["trustForwarded"])
  })

  it("stripPrefix is whole segments, as they stand in a request line", () => {
    for (const right of ["/api", "/api/", "/a/b%20c"]) assert.isNotArray(read({ stripPrefix: right }), right)
    for (const wrong of ["", "/", "api", "//api", "/a//b", "/a?b", "/a#b", "/a b"]) {
      assert.deepStrictEqual(read({ stripPrefix: wrong }), ["stripPrefix"], wrong)
    }
  })

  it("via is a token, or a host with a port", () => {
    for (const right of ["gateway-1", "proxy.test:8080", false]) assert.isNotArray(read({ via: right }), String(right))
    for (const wrong of ["", "a b", "a,b", "(x)", true])
      assert.deepStrictEqual(read({ via: wrong }), ["via"], String(wrong))
  })
})

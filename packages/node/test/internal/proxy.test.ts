import { assert, describe, it } from "@effect/vitest"
import { Redacted } from "effect"
import { bareHost, proxyFor } from "../../src/internal/proxy.ts"
import { targetOf } from "../fixtures/target.ts"

const fromEnvironment = (origin: string, environment: Record<string, string>) =>
  proxyFor(targetOf(origin, { proxy: "environment" }), environment)

const bypassed = (origin: string, noProxy: string) =>
  fromEnvironment(origin, { all_proxy: "http://p.test:1", no_proxy: noProxy }) === undefined

describe("proxy", () => {
  it("none when switched off, for a Unix socket, or when the environment names none", () => {
    const environment = { http_proxy: "http://p.test:1", https_proxy: "http://p.test:1" }
    assert.isUndefined(proxyFor(targetOf("http://a.test", { proxy: false }), environment))
    assert.isUndefined(proxyFor(targetOf("http://a.test", { proxy: "environment", socketPath: "/s" }), environment))
    assert.isUndefined(fromEnvironment("http://a.test", {}))
    assert.isUndefined(fromEnvironment("http://a.test", { http_proxy: " " }))
  })

  it("reads the process's own environment by default", () => {
    const before = process.env["no_proxy"]
    process.env["no_proxy"] = "*"
    try {
      assert.isUndefined(proxyFor(targetOf("http://a.test", { proxy: "environment" })))
    } finally {
      if (before === undefined) delete process.env["no_proxy"]
      else process.env["no_proxy"] = before
    }
  })

  it("each scheme has its variable, lower case first, all_proxy last", () => {
    const environment = {
      http_proxy: "http://low.test:1",
      HTTP_PROXY: "http://up.test:1",
      HTTPS_PROXY: "http://tls.test:1",
      all_proxy: "http://all.test:1"
    }
    assert.strictEqual(fromEnvironment("http://a.test", environment)?.url, "http://low.test:1")
    assert.strictEqual(fromEnvironment("https://a.test", environment)?.url, "http://tls.test:1")
    assert.strictEqual(fromEnvironment("http://a.test", { HTTP_PROXY: "http://up.test:1" })?.url, "http://up.test:1")
    assert.strictEqual(fromEnvironment("http://a.test", { ALL_PROXY: "all.test:3128" })?.url, "http://all.test:3128")
    assert.isUndefined(fromEnvironment("https://a.test", { http_proxy: "http://low.test:1" }))
  })

  it("does not believe HTTP_PROXY where REQUEST_METHOD says that this is CGI (httpoxy)", () => {
    const cgi = { REQUEST_METHOD: "GET", HTTP_PROXY: "http://attacker.test:1" }
    assert.isUndefined(fromEnvironment("http://a.test", cgi))
    assert.strictEqual(fromEnvironment("http://a.test", { ...cgi, http_proxy: "http://p.test" })?.url, "http://p.test")
    assert.strictEqual(
      fromEnvironment("https://a.test", { ...cgi, HTTPS_PROXY: "http://p.test" })?.url,
      "http://p.test"
    )
  })

  it("loopback and localhost never go through the environment's proxy, but do through an explicit one", () => {
    for (const host of ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"]) {
      assert.isUndefined(fromEnvironment(`http://${host}:80`, { http_proxy: "http://p.test:1" }), host)
    }
    assert.isDefined(fromEnvironment("http://128.0.0.1", { http_proxy: "http://p.test:1" }))
    assert.isDefined(proxyFor(targetOf("http://localhost", { proxy: Redacted.make("http://p.test:1") }), {}))
  })

  it.each([
    ["http://a.test", "*", true],
    ["http://a.test", "a.test", true],
    ["http://a.test", "A.TEST", true],
    ["http://x.a.test", "a.test", true],
    ["http://ba.test", "a.test", false],
    ["http://a.test", ".a.test", false],
    ["http://x.a.test", ".a.test", true],
    ["http://a.test", "*.a.test", false],
    ["http://x.a.test", "*.a.test", true],
    ["http://a.test", "b.test, a.test", true],
    ["http://a.test", "b.test a.test", true],
    ["http://a.test:8080", "a.test:8080", true],
    ["http://a.test:8081", "a.test:8080", false],
    ["http://a.test", "a.test:80", true],
    ["https://a.test", "a.test:443", true],
    ["http://10.1.2.3", "10.0.0.0/8", true],
    ["http://11.1.2.3", "10.0.0.0/8", false],
    ["http://a.test", "10.0.0.0/8", false],
    ["http://10.1.2.3", "10.0.0.0/99", false],
    ["http://10.1.2.3", "10.0.0.0/x", false],
    ["http://10.1.2.3", "fe80::/10", false],
    ["http://[fe80::1]", "fe80::/10", true],
    ["http://10.1.2.3", "10.1.2.3", true],
    ["http://10.1.2.3:81", "10.1.2.3:80", false],
    ["http://[2001:db8::1]", "2001:db8:0::1", true],
    ["http://[2001:db8::1]:8080", "[2001:db8::1]:8080", true],
    ["http://[2001:db8::1]", "[2001:db8::2]", false],
    ["http://1.2.3.4", "3.4", false],
    ["http://a.test", ":80", false],
    ["http://a.test", "", false]
  ])("%s with no_proxy=%s: direct %s", (origin, noProxy, expected) => {
    assert.strictEqual(bypassed(origin, noProxy), expected)
  })

  it("credentials leave the URL and become Basic authorization", () => {
    const proxy = proxyFor(targetOf("http://a.test", { proxy: Redacted.make("http://us%40er:p%3Ass@p.test:3128/x") }))
    assert.deepStrictEqual(proxy, {
      url: "http://p.test:3128",
      authorization: `Basic ${Buffer.from("us@er:p:ss").toString("base64")}`
    })
  })

  it("what cannot be used says why, without the URL", () => {
    const problem = (proxy: string) => proxyFor(targetOf("http://a.test", { proxy: Redacted.make(proxy) }))?.problem
    assert.strictEqual(problem("http://a b:secret"), "the option `proxy` is not a URL")
    assert.include(problem("socks5://u:secret@p.test"), "only http:// and https://")
    assert.include(problem("http://u:%E0%A4%A@p.test"), "percent-encoding")
    assert.strictEqual(fromEnvironment("http://a.test", { ALL_PROXY: "http://a b" })?.problem, "ALL_PROXY is not a URL")
  })

  it("bareHost", () => {
    assert.strictEqual(bareHost("[::1]"), "::1")
    assert.strictEqual(bareHost("a.test."), "a.test")
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as ProxyPath from "../../../src/server/internal/proxyPath.ts"

const pathOf = (url: string, strip = "", rewrite?: (path: string) => string): string | number => {
  const target = ProxyPath.resolve(url, strip, rewrite)
  return ProxyPath.isRefusal(target)
    ? target.status
    : target.path + (target.query === undefined ? "" : `?${target.query}`)
}

describe("resolve", () => {
  it("what is encoded stays encoded, once", () => {
    for (const url of [
      "/a%2Fb",
      "/a%2fb",
      "/%252e%252e/x",
      "/%zz",
      "/a%20b;v=1,2",
      "/a//b",
      "/%61",
      "/x/",
      "/~a/.b/..c/c.."
    ]) {
      assert.strictEqual(pathOf(url), url)
    }
  })

  it("the query passes untouched", () => {
    for (const query of ["", "a=1&a=2", "x=%2F&y=/../..", "q='a'&b[]={}|^`", "?", "a=b?c=d", "+%20"]) {
      assert.strictEqual(pathOf(`/p?${query}`), `/p?${query}`)
    }
  })

  it("dot segments are resolved, however their dots are written", () => {
    const cases: ReadonlyArray<readonly [string, string | number]> = [
      ["/a/./b", "/a/b"],
      ["/a/../b", "/b"],
      ["/a/%2e%2E/b", "/b"],
      ["/a/.%2e/b/", "/b/"],
      ["/a/b/..", "/a/"],
      ["/a/b/.", "/a/b/"],
      ["/a/..", "/"],
      ["/.", "/"],
      ["//a", "/a"],
      ["///", "/"],
      ["/./", "/"],
      ["/a//../b", "/a/b"]
    ]
    for (const [url, path] of cases) assert.strictEqual(pathOf(url), path, url)
  })

  it("a path that climbs above its root is refused, and so is what only some servers take for climbing", () => {
    for (const url of [
      "/..",
      "/../a",
      "/a/../../b",
      "/%2e%2e/a",
      "/a/..%2f..%2fb",
      "/a/..%5Cb",
      "/a/%2e%2e%2fb",
      "/a/..\\b",
      "/a/..;/b",
      "/a/..;x=1/b",
      "/a/b%2f..",
      "/a/b%2f%2e%2e%2fc"
    ]) {
      assert.strictEqual(pathOf(url), 400, url)
    }
  })

  it("what is no path is refused", () => {
    for (const url of ["*", "a.test:443", "", "http://a/", "/a#b", "/a b", "/a\tb", "/a\0"])
      assert.strictEqual(pathOf(url), 400, url)
  })

  it("bytes that no URL has are encoded as the bytes that they were", () => {
    assert.strictEqual(pathOf('/caf\u00e9"<>\\^`{|}?\u00e9\'"'), "/caf%E9%22%3C%3E%5C%5E%60%7B%7C%7D?%E9'\"")
    assert.strictEqual(pathOf("/\u20ac"), "/%E2%82%AC")
  })

  it("stripPrefix takes off whole segments, after dot segments are gone", () => {
    assert.strictEqual(pathOf("/api", "/api"), "/")
    assert.strictEqual(pathOf("/api?x", "/api"), "/?x")
    assert.strictEqual(pathOf("/api/", "/api"), "/")
    assert.strictEqual(pathOf("/api/a", "/api"), "/a")
    assert.strictEqual(pathOf("/api//a", "/api"), "/a")
    assert.strictEqual(pathOf("/x/../api/a", "/api"), "/a")
    assert.strictEqual(pathOf("/apiary", "/api"), 404)
    assert.strictEqual(pathOf("/api/../admin", "/api"), 404)
    assert.strictEqual(pathOf("/%61pi/a", "/api"), 404)
    assert.strictEqual(pathOf("/", "/api"), 404)
  })

  it("rewrite sees the path as it stands, and what it gives is looked at again", () => {
    assert.strictEqual(
      pathOf("/api/a%2Fb?q", "/api", (path) => `/v2${path}`),
      "/v2/a%2Fb?q"
    )
    assert.strictEqual(
      pathOf("/a", "", () => "b"),
      "/b"
    )
    assert.strictEqual(
      pathOf("/a?q", "", () => "/b?c#d"),
      "/b%3Fc%23d?q"
    )
    assert.strictEqual(
      pathOf("/a", "", (path) => `${path}/../..`),
      400
    )
  })

  const piece = Schema.Literals(["a", ".", "..", "%2e", "%2E%2e", "", "/", "%2f", "%5c", "\\", ";", "%252e", "..a"])

  it.effect.prop(
    "whatever a path is made of, a URL parser and a careless server find no way above the base",
    [Schema.Array(piece)],
    ([pieces]) =>
      Effect.sync(() => {
        const path = pathOf(`/${pieces.join("")}`)
        if (typeof path === "number") return
        assert.isTrue(new URL(`http://h/base${path}`).pathname.startsWith("/base/"))
        const careless = path
          .replaceAll(/%2f|%5c|\\/gi, "/")
          .replaceAll(/%2e/gi, ".")
          .replaceAll(/;[^/]*/g, "")
        assert.isTrue(new URL(`http://h/base${careless}`).pathname.startsWith("/base/"))
        // Once normal, always normal.
        assert.strictEqual(pathOf(path), path)
      }),
    { arbitrary: { runs: 1000 } }
  )
})

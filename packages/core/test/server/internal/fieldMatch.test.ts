import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { isBind, parse } from "../../../src/server/internal/bind.ts"
import { type Field, matcher, textOf } from "../../../src/server/internal/fieldMatch.ts"

const server = (name: string, text: string, expose: string) => {
  const bind = parse(text)
  if (!isBind(bind)) return assert.fail(bind.message)
  return { name, bind, expose: new URL(expose) }
}

const servers = [
  server("api-server", "127.0.0.1:8080", "http://localhost:8080"),
  server("web-server", "127.0.0.1:8081", "http://localhost:8081"),
  server("admin-server", "192.168.1.1:8080", "http://admin.example.com:8080"),
  server("api-v2-server", "[0::1]:9000", "https://api.example.com/v2")
]

const found = (field: Field, pattern?: string, regex?: string | RegExp): ReadonlyArray<string> => {
  const matches = Result.getOrThrow(matcher(field, pattern, regex))
  return servers.filter(matches).map(({ name }) => name)
}

describe("fieldMatch", () => {
  it("an exact match ignores case", () => {
    assert.deepStrictEqual(found("name", "API-Server"), ["api-server"])
    assert.deepStrictEqual(found("expose", "HTTP://LOCALHOST:8080"), ["api-server"])
  })

  it("an exact match is of the whole text", () => {
    assert.deepStrictEqual(found("name", "api"), [])
    assert.deepStrictEqual(found("name", "api.server"), [])
  })

  it("a bind matches however it is written", () => {
    for (const text of ["[0::1]:9000", "[::1]:9000", "[0:0:0:0:0:0:0:1]:9000"]) {
      assert.deepStrictEqual(found("bind", text), ["api-v2-server"], text)
    }
    assert.deepStrictEqual(found("bind", "not a bind"), [])
  })

  it("an expose matches with and without its slash, or by host and port", () => {
    for (const text of ["http://localhost:8080", "http://localhost:8080/", "localhost:8080"]) {
      assert.deepStrictEqual(found("expose", text), ["api-server"], text)
    }
    assert.deepStrictEqual(found("expose", "https://api.example.com/v2"), ["api-v2-server"])
  })

  it("a regular expression is found anywhere, and its case matters", () => {
    assert.deepStrictEqual(found("name", undefined, "^api-.*"), ["api-server", "api-v2-server"])
    assert.deepStrictEqual(found("name", "", "API"), [])
    assert.deepStrictEqual(found("bind", "", "^127\\.0\\.0\\.1:"), ["api-server", "web-server"])
    assert.deepStrictEqual(found("expose", "", "example\\.com"), ["admin-server", "api-v2-server"])
    assert.strictEqual(found("name", "", ".*").length, 4)
  })

  it("a RegExp remembers nothing from server to server", () => {
    assert.deepStrictEqual(found("name", undefined, /SERVER$/gi).length, 4)
  })

  it("with pattern and regex one of them is enough", () => {
    assert.deepStrictEqual(found("name", "web-server", "^api"), ["api-server", "web-server", "api-v2-server"])
  })

  it("with neither, or with empty ones, no server is meant", () => {
    assert.deepStrictEqual(found("name"), [])
    assert.deepStrictEqual(found("bind", "", ""), [])
  })

  it("a bad regular expression is a typed error, also beside a pattern", () => {
    for (const pattern of ["", "api-server"]) {
      const error = Result.getOrThrow(Result.flip(matcher("name", pattern, "[invalid(regex")))
      assert.strictEqual(error._tag, "ServerPoolError")
      assert.strictEqual(error.reason, "ParamEmpty")
      assert.match(error.message, /^A parameter is empty or not valid: regex: .*\[invalid\(regex/)
    }
  })

  it("lists what it searches", () => {
    const texts = (field: Field) => servers.map((one) => textOf(one, field))
    assert.deepStrictEqual(texts("name"), ["api-server", "web-server", "admin-server", "api-v2-server"])
    assert.deepStrictEqual(texts("bind").at(-1), "[::1]:9000")
    assert.deepStrictEqual(texts("expose"), [
      "http://localhost:8080",
      "http://localhost:8081",
      "http://admin.example.com:8080",
      "https://api.example.com/v2"
    ])
  })
})

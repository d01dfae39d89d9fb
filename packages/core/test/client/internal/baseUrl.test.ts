import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { HttpClientRequest } from "effect/http"
import * as BaseUrl from "../../../src/client/internal/baseUrl.ts"

const join = (baseUrl: string | undefined, url: string, params: Record<string, string> = {}) =>
  BaseUrl.resolve(
    baseUrl === undefined ? undefined : BaseUrl.fromUrl(new URL(baseUrl)),
    HttpClientRequest.get(url, { urlParams: params })
  )

/** The whole URL, or why there is none. */
const joined = (baseUrl: string | undefined, url: string, params: Record<string, string> = {}): string => {
  const target = join(baseUrl, url, params)
  return target.origin === undefined ? `not sent: ${target.reason}` : target.origin + target.path
}

const climbs = "not sent: its path climbs above the pool's `baseUrl`"

const textOf = (parts: ReadonlyArray<string>) =>
  Arbitrary.map(Arbitrary.array(Arbitrary.schema(Schema.Literals(parts))), (chosen) => chosen.join(""))

/** What attackers and careless callers write. */
const nasty = textOf([
  ...Array.from("ab/\\.?#:@%; \t\n\r\0=&é😀"),
  "..",
  "/..",
  "../",
  "%2e",
  "%2E%2e",
  "%2f",
  "%5c",
  ".\t.",
  "//evil.test",
  "\\\\evil.test",
  "http:",
  "https:/",
  ".;"
])

/** Paths that the URL standard leaves as they are. */
const plain = Arbitrary.map(
  Arbitrary.array(
    Arbitrary.schema(Schema.Literals(["a", "users", "7", "x-y", "v1.2", "a:b", "~me", "(1)", "%20", "%c3%a9"]))
  ),
  (segments) => segments.join("/")
)

describe("baseUrl", () => {
  describe("joins by path segments", () => {
    for (const [baseUrl, url] of [
      ["http://h/api", "users"],
      ["http://h/api", "/users"],
      ["http://h/api/", "users"],
      ["http://h/api/", "/users"],
      ["http://h/api//", "//users"],
      ["http://h/api", "./users"],
      ["http://h/api", "x/../users"],
      ["http://h/api", "%2e/users"],
      ["http://h/api", "http://h/api/users"]
    ] as const) {
      it(`${baseUrl} + ${url}`, () => {
        assert.strictEqual(joined(baseUrl, url), "http://h/api/users")
      })
    }

    it("without a path in the base", () => {
      assert.strictEqual(joined("http://h", "users"), "http://h/users")
      assert.strictEqual(joined("http://h", "/users"), "http://h/users")
      assert.strictEqual(joined("http://h/", ""), "http://h/")
    })

    it("nothing, and a slash alone", () => {
      assert.strictEqual(joined("http://h/api", ""), "http://h/api")
      assert.strictEqual(joined("http://h/api", "/"), "http://h/api/")
      assert.strictEqual(joined("http://h/api", "/?x=1"), "http://h/api/?x=1")
      assert.strictEqual(joined("http://h/api", "a/.."), "http://h/api/")
      assert.strictEqual(joined("http://h/api", "a/b/.."), "http://h/api/a/")
      assert.strictEqual(joined("http://h/api", "."), "http://h/api/")
      assert.strictEqual(joined("http://h/api", "?x=1"), "http://h/api?x=1")
    })

    it("keeps a slash at the end, and those between segments", () => {
      assert.strictEqual(joined("http://h/api", "users/"), "http://h/api/users/")
      assert.strictEqual(joined("http://h/api", "a//b"), "http://h/api/a//b")
      assert.strictEqual(joined("http://h/api", "a//b c"), "http://h/api/a//b%20c")
      assert.strictEqual(joined("http://h/api", "é/"), "http://h/api/%C3%A9/")
    })

    it("leaves names made of dots that are not dot segments", () => {
      assert.strictEqual(joined("http://h/api", "..."), "http://h/api/...")
      assert.strictEqual(joined("http://h/api", "a/..."), "http://h/api/a/...")
      assert.strictEqual(joined("http://h/api", "a/.hidden"), "http://h/api/a/.hidden")
      assert.strictEqual(joined("http://h/api", "..a"), "http://h/api/..a")
      assert.strictEqual(joined("http://h/api", "..;/x"), "http://h/api/..;/x")
    })

    it("keeps the port, and drops the hash", () => {
      assert.strictEqual(joined("https://h:8443/api", "a#top"), "https://h:8443/api/a")
      assert.strictEqual(joined("https://h:443/api", "#top"), "https://h/api")
    })
  })

  describe("never leaves the base", () => {
    for (const url of [
      "..",
      "../",
      "/..",
      "a/../..",
      "%2e%2e",
      "%2E.",
      ".%2e/x",
      "..\\x",
      "\\..\\x",
      ".\t./x",
      ".\n.",
      "\r..",
      "..\t",
      "..#x",
      "..?x"
    ]) {
      it(`upwards with ${JSON.stringify(url)}`, () => {
        assert.strictEqual(joined("http://h/api", url), climbs)
        assert.strictEqual(joined("http://h", url), climbs)
      })
    }

    for (const [url, path] of [
      [".. ", "..%20"],
      ["a/../.. ", "..%20"],
      [" ../x", "%20../x"],
      ["..\0", "..%00"],
      [".. #x", "..%20"],
      [".. ?x", "..%20?x"]
    ] as const) {
      it(`upwards where the URL standard would forget a blank: ${JSON.stringify(url)}`, () => {
        assert.strictEqual(joined("http://h/api", url), `http://h/api/${path}`)
      })
    }

    for (const url of [
      "//evil.test",
      "\\\\evil.test",
      "/\\evil.test",
      "///evil.test/x",
      "\t//evil.test",
      "@evil.test",
      ":80@evil.test"
    ]) {
      it(`sideways with ${JSON.stringify(url)}`, () => {
        assert.strictEqual(join("http://h/api", url).origin, "http://h")
        assert.match(joined("http://h/api", url), /^http:\/\/h\/api\//)
        assert.strictEqual(new URL(joined("http://h", url)).host, "h")
      })
    }

    it.prop(
      "whatever the input",
      [nasty, Arbitrary.schema(Schema.Literals(["http://h", "http://h/api", "https://h:8443/a/b/"]))],
      ([url, baseUrl]) => {
        // An absolute URL is another matter.
        if (/^[a-z][a-z\d+.-]*:\/\//i.test(url)) return
        const base = new URL(baseUrl)
        const target = join(baseUrl, url)
        if (target.origin === undefined) {
          assert.strictEqual(target.reason, "its path climbs above the pool's `baseUrl`")
          return
        }
        const basePath = base.pathname.replace(/\/+$/, "")
        const path = target.path.split("?")[0] ?? ""
        assert.strictEqual(target.origin, base.origin)
        assert.isTrue(path === basePath || path.startsWith(`${basePath}/`), path)
        // It stands on the request line, and in a URL, as it is.
        assert.match(target.path, /^[\x21-\x7e]+$/)
        assert.strictEqual(new URL(target.origin + target.path).href, target.origin + target.path)
        const climbed = path
          .split("/")
          .reduce((depth, segment) => (segment.replaceAll(/%2e/gi, ".") === ".." ? depth + 1 : depth), 0)
        assert.strictEqual(climbed, 0)
      },
      { arbitrary: { runs: 2000 } }
    )
  })

  describe("writes what the URL standard writes", () => {
    it.prop(
      "for plain paths",
      [plain],
      ([path]) => {
        if (path === "") return
        assert.strictEqual(joined("http://h/api", path), new URL(`http://h/api/${path}`).href)
        assert.strictEqual(joined("http://h/api/", `/${path}`), new URL(`http://h/api/${path}`).href)
      },
      { arbitrary: { runs: 300 } }
    )

    it.prop(
      "for any path that has neither dots nor backslashes in it",
      [textOf([...Array.from("ab/:@%;=&é😀\"<>`{}|^'"), "%2f", "%zz", "x y"])],
      ([path]) => {
        const relative = path.replace(/^\/+/, "")
        // `a://b` is absolute.
        if (relative === "" || /^[a-z][a-z\d+.-]*:\/\//i.test(relative)) return
        assert.strictEqual(joined("http://h/api", relative), new URL(`http://h/api/${relative}`).href)
      },
      { arbitrary: { runs: 300 } }
    )

    it("but leaves a query that needs no encoding as it is: RFC 3986 (2.2) takes %27 for another than its apostrophe", () => {
      for (const query of ["q='a'&b=(c)", "x[]={}|^`", "a=%27&b=%2F", "?", "a=b?c"]) {
        assert.strictEqual(joined("http://h/api", `a?${query}`), `http://h/api/a?${query}`)
        assert.strictEqual(joined(undefined, `http://h/a?${query}#f`), `http://h/a?${query}`)
      }
      assert.strictEqual(joined(undefined, "http://h/a?q=\"<ü>'"), "http://h/a?q=%22%3C%C3%BC%3E%27")
    })

    it("percent-encodes what must be, and nothing twice", () => {
      assert.strictEqual(joined("http://h/api", "a b/é?q=ü x"), "http://h/api/a%20b/%C3%A9?q=%C3%BC%20x")
      assert.strictEqual(joined("http://h/api", "a%20b/%C3%A9?q=%C3%BC"), "http://h/api/a%20b/%C3%A9?q=%C3%BC")
      assert.strictEqual(joined("http://h/api", "100%"), "http://h/api/100%")
    })
  })

  describe("absolute URLs", () => {
    it("pass through, whatever the base", () => {
      for (const baseUrl of [undefined, "http://h/api?k=1"]) {
        assert.strictEqual(joined(baseUrl, "https://other.test:444/a/../b?x=1#y"), "https://other.test:444/b?x=1")
        assert.strictEqual(joined(baseUrl, "HTTP://Other.Test"), "http://other.test/")
      }
    })

    it("need a scheme and a host that make sense", () => {
      assert.strictEqual(joined(undefined, "http://"), "not sent: its URL cannot be parsed")
      assert.strictEqual(joined("http://h", "http://h:99999/"), "not sent: its URL cannot be parsed")
      assert.strictEqual(joined("http://h", "ftp://h/"), "not sent: its URL has the scheme ftp:, not http: or https:")
    })

    it("may not hold credentials", () => {
      for (const user of ["user:pass", "user", ":pass"]) {
        assert.strictEqual(
          joined(undefined, `http://${user}@h/`),
          "not sent: its URL holds credentials; send them in an `authorization` header"
        )
      }
    })

    it("are the only ones without a base", () => {
      for (const url of ["", "/", "users", "//h/users", "http:users"]) {
        assert.strictEqual(joined(undefined, url), "not sent: its URL is relative and the pool has no `baseUrl`")
      }
    })
  })

  describe("query strings", () => {
    it("merge: the base's, then the URL's, then the parameters", () => {
      assert.strictEqual(
        joined("http://h/api?k=1&l=2", "users?k=3", { m: "4 5" }),
        "http://h/api/users?k=1&l=2&k=3&m=4+5"
      )
      assert.strictEqual(joined("http://h/api?k=1", "users"), "http://h/api/users?k=1")
      assert.strictEqual(joined("http://h/api?k=1", "", { m: "4" }), "http://h/api?k=1&m=4")
      assert.strictEqual(joined("http://h/api", "users?", { m: "4" }), "http://h/api/users?m=4")
      assert.strictEqual(joined("http://h/api?k=1", "http://h/users?l=2", { m: "3" }), "http://h/users?l=2&m=3")
    })

    it("may hold whatever a path may not", () => {
      assert.strictEqual(joined("http://h/api", "x?u=../..//\\?y=http://e"), "http://h/api/x?u=../..//\\?y=http://e")
    })
  })
})

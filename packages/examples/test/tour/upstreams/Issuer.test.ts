import { assert, describe, it } from "@effect/vitest"
import * as Issuer from "../../../src/tour/upstreams/Issuer.ts"

const setUp = (revokedAfter: ReadonlyArray<number | null> = []) => {
  const clock = { now: 0 }
  const issuer = Issuer.make({ lifetime: 1, revokedAfter, now: () => clock.now })
  const token = () => issuer.reply({ url: "/token", method: "POST", headers: {} })
  const call = (url: string, token?: string) => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const reply = issuer.reply({ url, method: "GET", headers })
    return reply === "reset" ? reply : reply.status
  }
  return { call, clock, issuer, token }
}

describe("Issuer", () => {
  it("issues tokens that are good until they expire", () => {
    const { call, clock, token } = setUp()
    assert.deepStrictEqual(token(), {
      status: 200,
      body: { access_token: "token-1", token_type: "Bearer", expires_in: 1 }
    })
    assert.strictEqual(call("/1", "token-1"), 200)
    clock.now = 999
    assert.strictEqual(call("/2", "token-1"), 200)
    clock.now = 1000
    assert.strictEqual(call("/3", "token-1"), 401)
  })

  it("refuses what is no token of its own", () => {
    const { call, token } = setUp()
    token()
    assert.deepStrictEqual(
      [call("/1"), call("/1", "token-2"), call("/1", "token-0"), call("/1", "x token-1")],
      [401, 401, 401, 401]
    )
  })

  it("revokes a token after so many requests", () => {
    const { call, issuer, token } = setUp([2])
    token()
    assert.deepStrictEqual(
      [1, 2, 3, 4].map((n) => call(`/${n}`, "token-1")),
      [200, 200, 401, 401]
    )
    assert.deepStrictEqual(issuer.tokens(), [{ endedBy: null, accepted: 2, refused: 2 }])
  })

  it("knows which token was replaced without need", () => {
    const { call, clock, issuer, token } = setUp([null, 0])
    token()
    clock.now = 501
    token()
    call("/1", "token-2")
    token()
    clock.now = 1001
    token()
    assert.deepStrictEqual(
      issuer.tokens().map(({ endedBy }) => endedBy),
      ["ageing", "revocation", "nothing", null]
    )
  })

  it("counts how often each call was sent, token requests aside", () => {
    const { call, issuer, token } = setUp()
    token()
    for (const path of ["/1", "/2", "/1"]) call(path, "token-1")
    assert.deepStrictEqual(issuer.sent(), [2, 1])
  })
})

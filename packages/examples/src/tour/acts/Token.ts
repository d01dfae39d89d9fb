/**
 * Tokens that expire, and tokens that are revoked while everybody uses them.
 */
import { Auth, Pool } from "@millrace/core"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Redacted from "effect/Redacted"
import { millrace } from "../contenders/Millrace.ts"
import { sum, total } from "../Counts.ts"
import { say } from "../Progress.ts"
import * as Stage from "../Stage.ts"
import { sendEach } from "../Traffic.ts"
import * as Issuer from "../upstreams/Issuer.ts"
import { type Act, onStage, showErrors, slots } from "./Act.ts"

/** Two tokens grow old, two are revoked; it ends when the fifth has been in use. */
const plan = {
  callers: 32,
  /** Milliseconds between two calls of a caller. */
  pause: 10,
  /** Seconds. */
  lifetime: 1,
  skew: 300,
  revokedAfter: [null, 50, null, 50],
  tokens: 5,
  lastUsed: 100,
  /** Far more than it takes, so that it ends whatever happens. */
  calls: 10_000
} as const

const reasons = { ageing: "near its end", revocation: "revoked", nothing: "nothing", inUse: "in use" } as const

export const token: Act = {
  key: "token",
  title: "A token expires",
  claimed:
    `Tokens live for ${plan.lifetime} s here, and two of five are revoked in mid-traffic. \`Auth.oauth2\` gets the next one ` +
    "before the old one ends; and when the API refuses one, everybody waits for a single new one and is sent again, once. " +
    "Callers notice nothing.",
  play: Effect.gen(function* () {
    yield* say(`token: ${plan.callers} callers until the ${plan.tokens}th token is in use`)
    const issuer = Issuer.make(plan)
    const stage = yield* Stage.make({ reply: issuer.reply })
    const login = yield* Effect.orDie(Pool.make({ name: "login", size: 1, drainTimeout: 0 }))
    const auth = yield* Effect.orDie(
      Auth.oauth2With(login.client, {
        tokenUrl: new URL("/token", stage.url),
        clientId: "tour",
        clientSecret: Redacted.make("a secret of the tour"),
        skew: plan.skew
      })
    )
    const client = yield* onStage(millrace({ slots, policies: { auth } }), stage)
    const call = (n: number) => Effect.delay(client.send(HttpClientRequest.get(`/calls/${n}`)), plan.pause)
    const { errors, requests, statuses } = yield* sendEach(call, {
      requests: plan.calls,
      callers: plan.callers,
      onEnd: () => (issuer.tokens()[plan.tokens - 1]?.accepted ?? 0) < plan.lastUsed
    })

    const tokens = issuer.tokens()
    const endedBy = (reason: Issuer.Issued["endedBy"]) => tokens.filter((token) => token.endedBy === reason).length
    const renewed = endedBy("ageing")
    const revoked = endedBy("revocation")
    const refused = sum(tokens.map((token) => token.refused))
    const sent = issuer.sent()
    return {
      tables: [
        {
          title: `${requests} calls from ${plan.callers} callers`,
          columns: ["token", "replaced as", "accepted", "401"],
          rows: tokens.map(({ accepted, endedBy, refused }, i) => [
            i + 1,
            reasons[endedBy ?? "inUse"],
            accepted,
            refused
          ])
        }
      ],
      note: "401: requests that had left with a token when it was revoked.",
      claims: [
        {
          text: "No caller sees a 401, or any error.",
          holds: refused > 0 && statuses[200] === requests && total(errors) === 0,
          seen: `${statuses[401] ?? 0} of ${requests} calls, ${refused} refused on the way; errors: ${showErrors(errors)}`
        },
        {
          text: "One token request for each token that grew old or was revoked, and the first.",
          holds: renewed === 2 && revoked === 2 && tokens.length === 1 + renewed + revoked,
          seen: `${tokens.length} requests: 1 + ${renewed} + ${revoked}`
        },
        {
          text: "A call is sent again once at most, and only after a 401.",
          holds: Math.max(...sent) <= 2 && sum(sent) === requests + refused,
          seen: `${sum(sent) - requests} sent again for ${refused} 401`
        }
      ],
      figures: { ...plan, requests, statuses, errors, tokens, tokenRequests: tokens.length, sent: sum(sent) }
    }
  })
}

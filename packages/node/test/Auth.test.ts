/** Authentication against a real OAuth2 server, whose signed tokens a real API checks, over real sockets. */
import { assert, describe, it } from "@effect/vitest"
import type { Options as PoolOptions } from "@millrace/core/client/PoolConfig"
import * as Auth from "@millrace/core/policy/Auth"
import { Effect, Fiber, Redacted, type Scope } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { Events, type MutableResponse, type MutableToken, OAuth2Server } from "oauth2-mock-server"
import { createHash, createPublicKey, randomUUID, verify } from "node:crypto"
import type { IncomingMessage } from "node:http"
import { inspect } from "node:util"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { closedPort, Later, loopback, tcpServer } from "./fixtures/net.ts"
import { poolOn } from "./fixtures/pool.ts"

const secret = "s3cr3t:+/ü"
const client = { clientId: "billing", clientSecret: Redacted.make(secret) }

interface Form {
  readonly [name: string]: unknown
}

/** The server, who asked it for tokens, and what it answers besides. */
class Login {
  readonly server: OAuth2Server
  readonly asked: Array<{ readonly authorization: string | undefined; readonly body: Form }> = []
  change: (answer: MutableResponse) => void = () => {}
  expiresIn = 3600

  constructor(server: OAuth2Server) {
    this.server = server
    // Two tokens of the same second would be the same.
    server.service.on(Events.BeforeTokenSigning, ({ payload }: MutableToken) => {
      payload["jti"] = randomUUID()
    })
    server.service.on(Events.BeforeResponse, (answer: MutableResponse, request: IncomingMessage & { body: object }) => {
      this.asked.push({ authorization: request.headers.authorization, body: { ...request.body } })
      if (answer.body !== "") answer.body["expires_in"] = this.expiresIn
      this.change(answer)
    })
  }

  get tokenUrl(): string {
    return `${this.server.issuer.url}/token`
  }
}

const login: Effect.Effect<Login, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => {
    const server = new OAuth2Server()
    await server.issuer.keys.generate("RS256")
    await server.start(0, loopback)
    return new Login(server)
  }),
  ({ server }) => Effect.promise(() => server.stop())
)

/** Whether the server has signed it. */
const isSigned = ({ server }: Login, token: string): boolean => {
  const [head = "", payload = "", signature = ""] = token.split(".")
  return server.issuer.keys
    .toJSON()
    .some((key) =>
      verify(
        "RSA-SHA256",
        Buffer.from(`${head}.${payload}`),
        createPublicKey({ key: { ...key }, format: "jwk" }),
        Buffer.from(signature, "base64url")
      )
    )
}

/** An API that takes signed tokens, but for those that were revoked. */
const apiOf = Effect.fnUntraced(function* (from: Login) {
  const revoked = new Set<string>()
  const seen: Array<string> = []
  const server = yield* HostileServer.make((request) =>
    request.whole(() => {
      const token = request.headers["authorization"]?.replace(/^Bearer /, "") ?? ""
      seen.push(token)
      if (isSigned(from, token) && !revoked.has(token)) request.answer("welcome")
      else request.answer("who?", "WWW-Authenticate: Bearer\r\n", 401)
    })
  )
  return { origin: server.origin, revoked, seen }
})

const setUp = Effect.fnUntraced(function* (given: Partial<Auth.OAuth2Options> = {}, options: PoolOptions = {}) {
  const server = yield* login
  const api = yield* apiOf(server)
  const pool = yield* poolOn(api, { size: 4, ...options })
  const auth = yield* Auth.oauth2With(pool.client, { ...client, tokenUrl: server.tokenUrl, ...given })
  const { wrap } = yield* Auth.policy({ auth, origins: [api.origin] })
  return { api, login: server, pool, auth, client: wrap(pool.client) }
})

const text = <E>(http: HttpClient.HttpClient.With<E>, path = "/x") => Effect.flatMap(http.get(path), (_) => _.text)

const distinct = (values: ReadonlyArray<unknown>): number => new Set(values).size

const failureOf = (tokenUrl: string, given: Partial<Auth.OAuth2Options> = {}) =>
  Effect.gen(function* () {
    const pool = yield* poolOn({ origin: "http://api.invalid" })
    const auth = yield* Auth.oauth2With(pool.client, { ...client, tokenUrl, maxRetries: 0, ...given })
    const answer = auth.authorize(HttpClientRequest.get("http://api.invalid/x"))
    const error = yield* Effect.flip(Effect.isEffect(answer) ? answer : Effect.die("it does not wait"))
    assert.strictEqual(error._tag, "AuthError")
    const shown = [error.message, String(error), JSON.stringify(error), inspect(error, { depth: 12, showHidden: true })]
    const digest = Buffer.from(`billing:${new URLSearchParams({ s: secret }).toString().slice(2)}`).toString("base64")
    for (const hidden of [secret, digest, encodeURIComponent(secret)]) assert.notInclude(shown.join("\n"), hidden)
    assert.include(error.message, tokenUrl)
    return error
  })

describe("Auth", () => {
  it.live("a token of a real server is accepted by an API that checks its signature", () =>
    Effect.gen(function* () {
      const { api, client, login } = yield* setUp()
      assert.strictEqual(yield* text(client), "welcome")
      assert.isTrue(isSigned(login, api.seen[0] ?? ""))
    })
  )

  it.live("the server reads the credentials as they were meant: client_secret_basic", () =>
    Effect.gen(function* () {
      const { client, login } = yield* setUp({ scope: "a b", audience: "https://api.test" })
      yield* text(client)
      const [asked] = login.asked
      const [user = "", password = ""] = Buffer.from(asked?.authorization?.slice(6) ?? "", "base64")
        .toString()
        .split(":")
      const decoded = new URLSearchParams(`user=${user}&password=${password}`)
      assert.deepStrictEqual([decoded.get("user"), decoded.get("password")], ["billing", secret])
      assert.deepStrictEqual(asked?.body, {
        grant_type: "client_credentials",
        scope: "a b",
        audience: "https://api.test"
      })
    })
  )

  it.live("the server reads the credentials as they were meant: client_secret_post", () =>
    Effect.gen(function* () {
      const { client, login } = yield* setUp({ method: "client_secret_post" })
      assert.strictEqual(yield* text(client), "welcome")
      assert.strictEqual(login.asked[0]?.authorization, undefined)
      assert.strictEqual(login.asked[0]?.body["client_id"], "billing")
      assert.strictEqual(login.asked[0]?.body["client_secret"], secret)
    })
  )

  it.live("one token request for a thousand concurrent callers, through the very pool that they use", () =>
    Effect.gen(function* () {
      const { api, client, login } = yield* setUp({}, { size: 1 })
      const answers = yield* Effect.all(
        Array.from({ length: 1_000 }, () => text(client)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(answers)], ["welcome"])
      assert.strictEqual(login.asked.length, 1)
      assert.strictEqual(distinct(api.seen), 1)
    })
  )

  it.live("a revoked token: each of a hundred concurrent requests succeeds, with one more token request", () =>
    Effect.gen(function* () {
      const { api, client, login } = yield* setUp()
      yield* text(client)
      api.revoked.add(api.seen[0] ?? "")
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, () => text(client)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(answers)], ["welcome"])
      assert.strictEqual(login.asked.length, 2)
      assert.strictEqual(distinct(api.seen), 2)
    })
  )

  it.live("the same in a pool that has it as an option", () =>
    Effect.gen(function* () {
      const { api, auth, login } = yield* setUp()
      const pool = yield* poolOn(api, { size: 2, auth })
      yield* text(pool.client)
      api.revoked.add(api.seen[0] ?? "")
      const answers = yield* Effect.all(
        Array.from({ length: 100 }, () => text(pool.client)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(answers)], ["welcome"])
      assert.strictEqual(login.asked.length, 2)
      assert.strictEqual(distinct(api.seen), 2)
    })
  )

  it.live.each(["client_secret_basic", "client_secret_post"] as const)(
    "a pool of one slot gets its own tokens, from the very origin that wants them (%s)",
    (method) =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          if (request.path === "/token") request.answer('{"access_token":"t0ken","expires_in":60}')
          else request.answer(request.headers["authorization"] ?? "none")
        })
        const pool = yield* poolOn(server, { size: 1 })
        const auth = yield* Auth.oauth2With(pool.client, { ...client, tokenUrl: `${server.origin}/token`, method })
        yield* pool.configureHost(server.origin, { auth })
        const answers = yield* Effect.all([text(pool.client), text(pool.client)], { concurrency: 2 })
        assert.deepStrictEqual(answers, ["Bearer t0ken", "Bearer t0ken"])
        assert.deepStrictEqual(
          server.requests.map(({ path }) => path),
          ["/token", "/x", "/x"]
        )
        assert.notInclude(server.requests[0]?.headers["authorization"] ?? "", "Bearer")
      })
  )

  it.live("a server that accepts no token is asked twice, not for ever", () =>
    Effect.gen(function* () {
      const { api, client } = yield* setUp()
      yield* text(client)
      api.seen.length = 0
      api.revoked.has = () => true
      const response = yield* client.get("/x")
      assert.strictEqual(response.status, 401)
      assert.strictEqual(yield* response.text, "who?")
      assert.strictEqual(distinct(api.seen), 2)
      assert.strictEqual(api.seen.length, 2)
    })
  )

  it.live("a token near its end is renewed beside the requests, none of which waits or fails", () =>
    Effect.gen(function* () {
      const { api, client, login } = yield* setUp()
      // Half of its life is 100 ms.
      login.expiresIn = 0.2
      const end = performance.now() + 700
      while (performance.now() < end) assert.strictEqual(yield* text(client), "welcome")
      assert.isAbove(login.asked.length, 2)
      assert.isBelow(login.asked.length, 12)
      assert.strictEqual(distinct(api.seen), api.seen.filter((token, i) => token !== api.seen[i - 1]).length)
    })
  )

  it.live("a redirect from the API to another origin takes no token there", () =>
    Effect.gen(function* () {
      const elsewhere = yield* HostileServer.make((request) => request.whole(() => request.answer("elsewhere")))
      const home = yield* HostileServer.make((request) =>
        request.answer("", `Location: ${elsewhere.origin}/stolen\r\n`, 302)
      )
      const pool = yield* poolOn(home)
      const auth = yield* Auth.bearer(Redacted.make("t0ken"))
      const { wrap } = yield* Auth.policy({ auth, origins: [home.origin] })
      const http = HttpClient.followRedirects(wrap(pool.client))
      assert.strictEqual(yield* text(http), "elsewhere")
      assert.strictEqual(home.requests[0]?.headers["authorization"], "Bearer t0ken")
      assert.strictEqual(elsewhere.requests[0]?.headers["authorization"], undefined)
    })
  )

  describe("a token endpoint that", () => {
    it.live("refuses the client is named with what it said, but for secrets", () =>
      Effect.gen(function* () {
        const server = yield* login
        server.change = (answer) => {
          answer.statusCode = 401
          answer.body = { error: "invalid_client", error_description: `no client with ${secret}` }
        }
        const error = yield* failureOf(server.tokenUrl)
        assert.include(error.reason, "answered 401 invalid_client: no client with <redacted>")
        assert.strictEqual(server.asked.length, 1)
      })
    )

    it.live("fails at first is asked again", () =>
      Effect.gen(function* () {
        const { client, login } = yield* setUp()
        login.change = (answer) => {
          if (login.asked.length === 1) answer.statusCode = 503
        }
        assert.strictEqual(yield* text(client), "welcome")
        assert.strictEqual(login.asked.length, 2)
      })
    )

    it.live("is down", () =>
      Effect.gen(function* () {
        const error = yield* failureOf(`http://${loopback}:${yield* closedPort}/token`)
        assert.include(error.reason, "cannot be reached (ECONNREFUSED)")
      })
    )

    it.live("does not answer ends with its own timeout, and its connection is closed", () =>
      Effect.gen(function* () {
        const closed = new Later<boolean>()
        const port = yield* tcpServer((socket) => {
          socket.resume()
          socket.on("close", () => closed.resolve(true))
        })
        const error = yield* failureOf(`http://${loopback}:${port}/token`, { timeout: "50 millis" })
        assert.include(error.reason, "did not answer within 50 ms")
        assert.isTrue(yield* closed.wait)
      })
    )

    it.live("answers with a page, or hangs up", () =>
      Effect.gen(function* () {
        const page = yield* HostileServer.make((request) => request.answer("<html>", "Content-Type: text/html\r\n"))
        assert.include((yield* failureOf(`${page.origin}/token`)).reason, "answered 200 with what is no JSON object")
        const rude = yield* HostileServer.make((request) => request.connection.reset())
        assert.include((yield* failureOf(`${rude.origin}/token`)).reason, "cannot be reached (ECONNRESET)")
      })
    )
  })

  it.live("a caller that is interrupted while the token comes takes nothing from the others", () =>
    Effect.gen(function* () {
      const { client, login } = yield* setUp()
      const gone = yield* Effect.forkChild(text(client), { startImmediately: true })
      const stays = yield* Effect.forkChild(text(client), { startImmediately: true })
      yield* Fiber.interrupt(gone)
      assert.strictEqual(yield* Fiber.join(stays), "welcome")
      assert.strictEqual(login.asked.length, 1)
    })
  )

  it.live("basic credentials arrive as they are", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => request.answer(request.headers["authorization"] ?? "none"))
      const pool = yield* poolOn(server)
      const auth = yield* Auth.basic({ username: "Jürgen", password: Redacted.make("p:ß") })
      const { wrap } = yield* Auth.policy({ auth, origins: [server.origin] })
      const [, credentials] = (yield* text(wrap(pool.client))).split(" ")
      assert.strictEqual(Buffer.from(credentials ?? "", "base64").toString(), "Jürgen:p:ß")
    })
  )

  it.live("a custom signature covers the body that arrives", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.whole(() =>
          request.answer(
            request.headers["authorization"] === createHash("sha256").update(request.text).digest("hex") ? "same" : "no"
          )
        )
      )
      const pool = yield* poolOn(server)
      const sign: Auth.Custom = (request) =>
        HttpClientRequest.setHeader(
          request,
          "authorization",
          createHash("sha256")
            .update(request.body._tag === "Uint8Array" ? request.body.body : "")
            .digest("hex")
        )
      const { wrap } = yield* Auth.policy({ auth: sign, origins: [server.origin] })
      const post = HttpClientRequest.post("/x").pipe(HttpClientRequest.bodyText("to be signed ü"))
      assert.strictEqual(yield* (yield* wrap(pool.client).execute(post)).text, "same")
    })
  )
})

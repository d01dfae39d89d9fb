/**
 * One connection to Redis, as the service `effect/persistence/Redis`.
 *
 * It is made when a command needs it, and made anew by the next command after it broke: whoever asks decides how often
 * that is tried, and no timer of its own outlives the scope. A command that is interrupted takes the connection with it:
 * nobody knows whether its answer still comes.
 */
import * as Effect from "effect/Effect"
import * as Redis from "effect/persistence/Redis"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { createClient, RedisClientOptions } from "redis"

export interface Target {
  readonly url: Redacted.Redacted | undefined
  readonly host: string | undefined
  readonly port: number | undefined
  readonly username: string | undefined
  readonly password: Redacted.Redacted | undefined
  readonly database: number | undefined
  readonly tls: boolean | undefined
}

const connectTimeout = 2_000

const clientOptions = (target: Target): RedisClientOptions => {
  const { database, host, password, port, tls, url, username } = target
  const socket = { reconnectStrategy: false, connectTimeout } as const
  const address = {
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port })
  }
  return {
    ...(url === undefined ? {} : { url: Redacted.value(url) }),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: Redacted.value(password) }),
    ...(database === undefined ? {} : { database }),
    disableOfflineQueue: true,
    disableClientInfo: true,
    socket: tls === true ? { ...socket, ...address, tls } : { ...socket, ...address }
  }
}

const failed = (cause: unknown): Redis.RedisError => new Redis.RedisError({ cause })

/** What was the master is a replica now: its name may lead to the new one. */
const isReadOnly = ({ cause }: Redis.RedisError): boolean =>
  cause instanceof Error && cause.message.startsWith("READONLY")

const notSupported = Effect.fail(failed(new Error("shared policies neither subscribe nor reserve")))

type Client = Awaited<ReturnType<typeof open>>

const open = async (create: typeof createClient, target: Target) => {
  const client = create(clientOptions(target))
  // Each command hears of it by itself; an error event that nobody listens to would end the process.
  client.on("error", () => {})
  try {
    await client.connect()
  } catch (cause) {
    client.destroy()
    throw cause
  }
  // An idle connection keeps no process alive.
  client.unref()
  return client
}

/** Connects when it is first used. */
export const connect = (
  create: typeof createClient,
  target: Target
): Effect.Effect<Redis.Redis["Service"], never, Scope.Scope> =>
  Effect.gen(function* () {
    let connection: Promise<Client> | undefined
    let closed = false
    const drop = (which: Promise<Client> | undefined): void => {
      if (which === undefined) return
      if (connection === which) connection = undefined
      which.then(
        (client) => client.destroy(),
        () => {}
      )
    }
    const connected = (): Promise<Client> => {
      if (closed) return Promise.reject(new Error("the scope of the shared policies has ended"))
      if (connection !== undefined) return connection
      const opened = open(create, target)
      connection = opened
      // Who waits for it hears why it failed; the next command tries again.
      opened.then(
        (client) => client.once("error", () => drop(opened)).once("end", () => drop(opened)),
        () => drop(opened)
      )
      return opened
    }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        drop(connection)
      })
    )
    return yield* Redis.make({
      send: <A>(command: string, ...args: ReadonlyArray<string>) =>
        Effect.suspend(() => {
          let used: Promise<Client> | undefined
          return Effect.tryPromise({
            try: async () => {
              used = connected()
              const client = await used
              return client.sendCommand<A>([command, ...args])
            },
            catch: failed
          }).pipe(
            Effect.tapError((error) => Effect.sync(() => isReadOnly(error) && drop(used))),
            Effect.onInterrupt(() => Effect.sync(() => drop(used)))
          )
        }),
      subscribe: () => notSupported,
      connect: notSupported
    })
  })

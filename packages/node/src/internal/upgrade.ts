/**
 * A request for another protocol, by `node:http` over a connection of its own.
 *
 * @since 0.1.0
 */
import type { Declined, Failure, Switched, Target, Upgrade } from "@millrace/core/client/Connector"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type { Socket } from "node:net"
import { dial, DialError } from "./dial.ts"
import { classify, collected } from "./nodeHttp.ts"
import { proxyFor } from "./proxy.ts"
import { rawConnection } from "./rawConnection.ts"

/** @internal */
export const upgrade: Upgrade = (target, request) =>
  Effect.flatMap(connected(target), (socket) =>
    Effect.flatMap(answered(target, request, socket), (answer): ReturnType<Upgrade> => {
      if (answer._tag === "Declined") return Effect.succeed(answer)
      return Effect.mapBoth(rawConnection(socket), {
        onSuccess: (connection): Switched => ({ _tag: "Switched", headers: answer.headers, connection }),
        onFailure: (cause): Failure => ({ _tag: "Broken", cause })
      })
    })
  )

/** The scope destroys it, whatever becomes of it. */
const connected = (target: Target): Effect.Effect<Socket, Failure, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.interruptible(
      Effect.callback<Socket, Failure>((resume) => {
        const cancel = dial(target, (result) =>
          resume(result instanceof DialError ? Effect.fail(result.failure) : Effect.succeed(result.socket))
        )
        return Effect.sync(cancel)
      })
    ),
    (socket) => Effect.sync(() => socket.destroy())
  )

interface Upgraded {
  readonly _tag: "Upgraded"
  readonly headers: Switched["headers"]
}

/** Who wants the absolute form of a request: a proxy that is told of a plain origin. */
const aimed = (target: Target, path: string) => {
  const proxy = target.origin.startsWith("http:") ? proxyFor(target) : undefined
  if (proxy === undefined) return { path, headers: [] }
  const { authorization } = proxy
  return {
    path: target.origin + path,
    headers: authorization === undefined ? [] : ["proxy-authorization", authorization]
  }
}

const answered = (
  target: Target,
  request: Parameters<Upgrade>[1],
  socket: Socket
): Effect.Effect<Upgraded | Declined, Failure> =>
  Effect.callback((resume) => {
    const failed = (error: Error) => {
      socket.destroy()
      resume(Effect.fail(classify(error)))
    }
    const { headers, path } = aimed(target, request.path)
    const all: { [name: string]: string | Array<string> } = {
      host: new URL(target.origin).host,
      ...collected([...request.headers, ...headers])
    }
    try {
      const sent = new Http.ClientRequest({
        method: "GET",
        path,
        headers: all,
        maxHeaderSize: target.options.maxHeaderSize,
        createConnection: () => socket
      })
      sent.on("error", failed)
      sent.on("upgrade", (response, _socket, early) => {
        // Now, or the end could come before: of a tunnel each side ends by itself, and what came early is to be read.
        socket.allowHalfOpen = true
        if (early.length > 0) socket.unshift(early)
        resume(Effect.succeed({ _tag: "Upgraded", headers: collected(response.rawHeaders) }))
      })
      sent.on("response", (response) => {
        // To Node one that does not say what it switches to is an answer as any other.
        if (response.statusCode === 101) {
          return failed(Object.assign(new Error("a 101 without a protocol"), { code: "HPE_UPGRADE" }))
        }
        resume(
          Effect.succeed({
            _tag: "Declined",
            status: response.statusCode ?? 0,
            headers: collected(response.rawHeaders),
            body: bytesOf(response)
          })
        )
      })
      sent.end()
    } catch (error) {
      // Node checks path and headers when it is given them.
      failed(error instanceof Error ? error : new Error(String(error)))
    }
    return Effect.sync(() => socket.destroy())
  })

/** As fast as it is read. Its end is that of the connection, too: nobody asks for anything more over it. */
const bytesOf = (response: Http.IncomingMessage): ReadableStream<Uint8Array> => {
  const pieces = response[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const next: IteratorResult<Uint8Array> = await pieces.next()
        if (next.done === true) controller.close()
        else controller.enqueue(next.value)
      },
      cancel: () => void response.destroy()
    },
    { highWaterMark: 0 }
  )
}

/**
 * How the instances of the soak answer: well most of the time, else in one of the ways in which servers, proxies and
 * networks fail. Every right answer names the path it belongs to, so that a caller notices an answer that was meant for
 * another.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { between, type Random, weighted } from "./Random.ts"

export const bodyOf = (path: string): string => `${JSON.stringify({ path })}\n`
const largeLength = 256 * 1024
export const largeBodyOf = (path: string): string => bodyOf(path).padEnd(largeLength, "m")

type Answer = (request: IncomingMessage, response: ServerResponse, random: Random) => void

const whole = (request: IncomingMessage): string => bodyOf(request.url ?? "")

const raw = (request: IncomingMessage, text: string): void => {
  request.socket.write(text)
}

const reset = (request: IncomingMessage, millis: number): void => {
  setTimeout(() => request.socket.resetAndDestroy(), millis)
}

const answers = {
  well: (request, response) => response.end(whole(request)),
  large: (request, response) => response.end(largeBodyOf(request.url ?? "")),
  empty: (_, response) => response.writeHead(204).end(),
  unavailable: (request, response) => response.writeHead(503, { "retry-after": "1" }).end(whole(request)),
  earlyHints: (request, response) =>
    response.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => response.end(whole(request))),
  lastOfConnection: (request, response) => response.writeHead(200, { connection: "close" }).end(whole(request)),
  closedJustAfter: (request, response) => response.end(whole(request), () => request.socket.end()),
  slow: (request, response, random) => setTimeout(() => response.end(whole(request)), between(random, 50, 400)),
  never: () => {},
  trickled: (request, response, random) => {
    const body = whole(request)
    const step = between(random, 5, 40)
    let sent = 0
    const timer = setInterval(() => {
      if (sent >= body.length) {
        clearInterval(timer)
        response.end()
      } else {
        response.write(body.slice(sent, (sent += 8)))
      }
    }, step)
    response.on("close", () => clearInterval(timer))
  },
  stalledBody: (request, response) => response.writeHead(200, { "content-length": "1000" }).write(whole(request)),
  resetBeforeHeaders: (request) => reset(request, 0),
  resetInHeaders: (request) => {
    raw(request, "HTTP/1.1 200 OK\r\ncontent-ty")
    reset(request, 5)
  },
  resetInBody: (request) => {
    raw(request, `HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n${whole(request)}`)
    reset(request, 5)
  },
  endInBody: (request) => {
    raw(request, `HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n${whole(request)}`)
    request.socket.end()
  },
  lengthTooSmall: (request) => {
    raw(request, `HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n${whole(request)}`)
    reset(request, 50)
  },
  twoLengths: (request) => {
    raw(request, `HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n${whole(request)}`)
    reset(request, 50)
  },
  badChunk: (request) => {
    raw(request, `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"pat\r\nxyz\r\n`)
    reset(request, 50)
  },
  garbage: (request) => {
    raw(request, "SSH-2.0-OpenSSH_9.9\r\n")
    reset(request, 50)
  },
  largeHeaders: (request) => {
    raw(request, `HTTP/1.1 200 OK\r\nx-large: ${"h".repeat(256 * 1024)}\r\ncontent-length: 0\r\n\r\n`)
    reset(request, 50)
  }
} satisfies { readonly [name: string]: Answer }

export type AnswerName = keyof typeof answers

/** How often, in parts of their sum. */
const weights: { readonly [K in AnswerName]: number } = {
  well: 800,
  large: 30,
  empty: 10,
  unavailable: 20,
  earlyHints: 10,
  lastOfConnection: 10,
  closedJustAfter: 10,
  slow: 30,
  never: 1,
  trickled: 10,
  stalledBody: 1,
  resetBeforeHeaders: 5,
  resetInHeaders: 5,
  resetInBody: 5,
  endInBody: 5,
  lengthTooSmall: 3,
  twoLengths: 3,
  badChunk: 3,
  garbage: 3,
  largeHeaders: 2
}

export const choose = (random: Random): AnswerName => weighted(random, weights)

/** Some answers do not wait for the request's body: an early answer to an upload. */
export const give = (name: AnswerName, request: IncomingMessage, response: ServerResponse, random: Random): void => {
  const answer: Answer = answers[name]
  const early = random() < 0.1
  if (request.method === "POST" && !early) request.on("end", () => answer(request, response, random))
  else answer(request, response, random)
  request.resume()
}

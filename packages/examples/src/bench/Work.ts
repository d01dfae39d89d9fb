/**
 * What is asked of the server, and what a contender is: the vocabulary that the server, the load processes and the
 * contenders share.
 */
import type * as Effect from "effect/Effect"

/** The requests that scenarios are made of. */
export type WorkName = "small" | "echo" | "large" | "tail"

export interface Work {
  readonly method: "GET" | "POST"
  readonly path: string
  readonly body: string | undefined
  /** How a caller wants the answer: a short text, or bytes. */
  readonly read: "text" | "bytes"
  /** Length of a right answer in bytes. A contender that hands over anything else is wrong, not fast. */
  readonly length: number
}

/** What the server answers to `small` and `tail`. */
export const smallAnswer = JSON.stringify({ id: 4711, name: "millrace", tags: ["a", "b"], active: true })

const kibibyte = JSON.stringify({ text: "x".repeat(1013) })

/** What the server answers to a POST: what it received, in short. */
export const echoAnswer = (received: number): string => JSON.stringify({ received })

export const largeLength = 10 * 1024 * 1024

export const works: { readonly [K in WorkName]: Work } = {
  small: { method: "GET", path: "/small", body: undefined, read: "text", length: smallAnswer.length },
  echo: { method: "POST", path: "/echo", body: kibibyte, read: "text", length: echoAnswer(kibibyte.length).length },
  large: { method: "GET", path: "/large", body: undefined, read: "bytes", length: largeLength },
  tail: { method: "GET", path: "/tail", body: undefined, read: "text", length: smallAnswer.length }
}

/**
 * One request with its body read to the end, in the contender's own style: a promise is not forced on a client that
 * works without, and a fiber is not started for each request where an Effect user would not start one. Gives the number
 * of bytes received.
 */
export type Send =
  | { readonly _tag: "Promise"; readonly send: () => Promise<number> }
  | ByCallback
  | { readonly _tag: "Effect"; readonly send: Effect.Effect<number, unknown> }

export interface ByCallback {
  readonly _tag: "Callback"
  readonly send: (done: (error: Error | undefined, length: number) => void) => void
}

/** A client: given the origin, and then the work, it says how one request is sent. Its process ends with its scenario. */
export type Contender = (origin: string) => Promise<(work: Work) => Send>

/** How many connections each contender may have, if it lets itself be told. */
export const connections = 8

/** How many callers a server has, each on a connection of its own, and how many connections a proxy may keep to its upstream. */
export const sockets = 64

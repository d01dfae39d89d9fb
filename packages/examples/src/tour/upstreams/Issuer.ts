/**
 * An API that wants a bearer token, with the token endpoint that issues them (`/token`). Tokens expire, and some are
 * revoked in mid-traffic. It keeps account of every token: why the next one was asked for, and who came with it.
 */
import { allIsWell, type Options } from "../Cluster.ts"

export interface Issuer {
  readonly reply: NonNullable<Options["reply"]>
  readonly tokens: () => ReadonlyArray<Issued>
  /** How often each call, known by its path, was sent. */
  readonly sent: () => ReadonlyArray<number>
}

export interface Issued {
  /**
   * What made the next one necessary. `ageing`: it had lived for more than half of its life. `nothing`: the next one was
   * asked for while this one was young and good.
   */
  readonly endedBy: "ageing" | "revocation" | "nothing" | null
  readonly accepted: number
  /** Requests with this token that were answered 401. */
  readonly refused: number
}

interface Token {
  readonly issuedAt: number
  endedBy: Issued["endedBy"]
  revoked: boolean
  accepted: number
  refused: number
}

export const make = (options: {
  /** Seconds, as in `expires_in`. */
  readonly lifetime: number
  /** The n-th token is revoked after so many requests; `null`: never. */
  readonly revokedAfter: ReadonlyArray<number | null>
  /** A clock in milliseconds. */
  readonly now?: (() => number) | undefined
}): Issuer => {
  const { lifetime, now = () => performance.now(), revokedAfter } = options
  const tokens: Array<Token> = []
  const calls = new Map<string, number>()

  const age = (token: Token): number => (now() - token.issuedAt) / 1000

  const issue = () => {
    const last = tokens.at(-1)
    if (last !== undefined) {
      last.endedBy = last.revoked ? "revocation" : age(last) > lifetime / 2 ? "ageing" : "nothing"
    }
    const count = tokens.push({ issuedAt: now(), endedBy: null, revoked: false, accepted: 0, refused: 0 })
    return { status: 200, body: { access_token: `token-${count}`, token_type: "Bearer", expires_in: lifetime } }
  }

  const accepts = (authorization: string | undefined): boolean => {
    const index = Number(/^Bearer token-(\d+)$/.exec(authorization ?? "")?.[1]) - 1
    const token = tokens[index]
    if (token === undefined) return false
    if (token.accepted === revokedAfter[index]) token.revoked = true
    const good = !token.revoked && age(token) < lifetime
    if (good) token.accepted++
    else token.refused++
    return good
  }

  return {
    reply: ({ headers, url = "" }) => {
      if (url === "/token") return issue()
      calls.set(url, (calls.get(url) ?? 0) + 1)
      return accepts(headers.authorization) ? allIsWell : { status: 401 }
    },
    tokens: () => tokens.map(({ accepted, endedBy, refused }) => ({ endedBy, accepted, refused })),
    sent: () => [...calls.values()]
  }
}

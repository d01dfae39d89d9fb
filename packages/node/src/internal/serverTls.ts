/**
 * The certificates of a server: whether they can be used, and what Node is told.
 *
 * @since 0.1.0
 */
import { ListenError, type TlsSettings } from "@millrace/core/server/Listener"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { X509Certificate } from "node:crypto"
import * as Tls from "node:tls"

const authorities = (tls: TlsSettings): ReadonlyArray<string> =>
  tls.ca === undefined ? [] : typeof tls.ca === "string" ? [tls.ca] : tls.ca

/**
 * What `https.createServer` needs.
 *
 * @internal
 */
export const tlsOptions = (tls: TlsSettings): Tls.TlsOptions => ({
  cert: tls.cert,
  key: Redacted.value(tls.key),
  minVersion: tls.minVersion,
  // What the servers of Node speak; a client that offers h2 alone is told so in its handshake.
  ALPNProtocols: ["http/1.1"],
  requestCert: tls.clientAuth !== "none",
  rejectUnauthorized: tls.clientAuth === "require",
  ...(tls.ca === undefined ? undefined : { ca: [...authorities(tls)] })
})

/**
 * What a PEM says of itself. OpenSSL tries an encrypted key with an empty passphrase, and one time in 256 takes what comes
 * out for decrypted: then it complains of something else.
 */
const isEncrypted = (pem: string): boolean => /^(-----BEGIN ENCRYPTED |Proc-Type: 4,ENCRYPTED)/m.test(pem)

const advice = (error: unknown, key: string): string => {
  if (isEncrypted(key)) return "`key` is encrypted: give it without a passphrase"
  const code = error instanceof Error && "code" in error ? error.code : undefined
  switch (code) {
    case "ERR_OSSL_X509_KEY_VALUES_MISMATCH":
      return "`key` is not the private key of `cert`: give the pair that was issued together"
    case "ERR_OSSL_PEM_NO_START_LINE":
      return "`cert` is not PEM text: it begins with -----BEGIN CERTIFICATE-----"
    default:
      return `\`cert\` or \`key\` cannot be read as PEM (${error instanceof Error ? error.message : String(error)})`
  }
}

/**
 * Fails unless a handshake with these certificates can work.
 *
 * @internal
 */
export const checkTls = (tls: TlsSettings, address: string): Effect.Effect<void, ListenError> => {
  const unusable = (text: string, cause: unknown) => new ListenError({ reason: "tls", address, advice: text, cause })
  return Effect.gen(function* () {
    const given = authorities(tls)
    if (tls.clientAuth === "require" && given.length === 0) {
      // OpenSSL would take any certificate of a public authority.
      const text = "`clientAuth: require` needs `ca`, the authorities whose clients are let in"
      return yield* Effect.fail(unusable(text, "no `ca`"))
    }
    for (const ca of given) {
      // Node reads text without a certificate as no authority at all, and says nothing.
      yield* Effect.try({
        try: () => new X509Certificate(ca),
        catch: (cause) => unusable("`ca` is not a certificate as PEM text", cause)
      })
    }
    yield* Effect.try({
      try: () => Tls.createSecureContext(tlsOptions(tls)),
      catch: (cause) => unusable(advice(cause, Redacted.value(tls.key)), cause)
    })
  })
}

const sameAuthorities = (one: TlsSettings, other: TlsSettings): boolean => {
  const [left, right] = [authorities(one), authorities(other)]
  return left.length === right.length && left.every((ca, index) => ca === right[index])
}

/**
 * Whether a connection that was let in by `before` may be answered by who demands `now`.
 *
 * @internal
 */
export const admits = (now: TlsSettings | undefined, before: TlsSettings | undefined): boolean => {
  if (now === undefined || before === undefined) return now === before
  if (now.minVersion !== before.minVersion && now.minVersion === "TLSv1.3") return false
  return now.clientAuth === before.clientAuth && (now.clientAuth === "none" || sameAuthorities(now, before))
}

/**
 * A self-signed certificate for a demonstration on this machine, written as DER by hand: it needs neither `openssl` nor a
 * package. For anything else have one issued.
 */
import * as Crypto from "node:crypto"

export interface Certificate {
  readonly cert: string
  readonly key: string
}

const der = (tag: number, ...content: ReadonlyArray<Uint8Array>): Buffer => {
  const body = Buffer.concat(content)
  const { length } = body
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...header]), body])
}

const sequence = (...content: ReadonlyArray<Uint8Array>) => der(0x30, ...content)
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"))
const octets = (content: Uint8Array) => der(0x04, content)
const bits = (content: Uint8Array) => der(0x03, Buffer.from([0]), content)
const explicit = (n: number, content: Uint8Array) => der(0xa0 + n, content)
const time = (date: Date) => der(0x17, Buffer.from(`${date.toISOString().replace(/[-:T]/g, "").slice(2, 14)}Z`))
const truth = der(0x01, Buffer.from([0xff]))

const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))
const day = 86_400_000

/** Valid for a day, for 127.0.0.1 and these names; its own authority. */
export const selfSigned = (...names: ReadonlyArray<string>): Certificate => {
  const { privateKey, publicKey } = Crypto.generateKeyPairSync("ec", { namedCurve: "P-256" })
  const subject = sequence(der(0x31, sequence(oid("550403"), der(0x0c, Buffer.from("millrace gateway demo")))))
  const alternatives = [der(0x87, Buffer.from([127, 0, 0, 1])), ...names.map((name) => der(0x82, Buffer.from(name)))]
  const extensions = sequence(
    sequence(oid("551d13"), truth, octets(sequence(truth))),
    sequence(oid("551d11"), octets(sequence(...alternatives)))
  )
  const content = sequence(
    explicit(0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), Crypto.randomBytes(8)])),
    ecdsaWithSha256,
    subject,
    sequence(time(new Date(Date.now() - day)), time(new Date(Date.now() + day))),
    subject,
    publicKey.export({ type: "spki", format: "der" }),
    explicit(3, extensions)
  )
  const base64 = sequence(content, ecdsaWithSha256, bits(Crypto.sign("sha256", content, privateKey))).toString("base64")
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{1,64}/g, "$&\n")}-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}

"""Tokens that must not be good.

Reads an object from standard input: for each issuer its `iss`, `aud`, its keys (`private`, PEM, the first one signs), and
the address of somebody's own server (`attacker`), which nobody may ask for keys. Prints, for each issuer, one token that
is good and a list of forged and stale ones, `{name, token}`. With `{"generate": true}` it prints keys for an issuer
instead. Most of it is signed by hand, for PyJWT rightly refuses to make such tokens.
"""

import base64
import datetime
import hashlib
import hmac
import json
import sys
import time

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value):
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public(key, encoding):
    return key.public_key().public_bytes(
        encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def jwk(key, **more):
    algorithm = (
        jwt.algorithms.RSAAlgorithm
        if isinstance(key, rsa.RSAPrivateKey)
        else jwt.algorithms.ECAlgorithm
    )
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **more}


def signature(key, alg, message):
    """By whatever key there is, whether or not it goes with `alg`."""
    digest = HASHES.get(alg[-3:], hashes.SHA256)()
    if isinstance(key, bytes):
        return hmac.new(key, message, getattr(hashlib, "sha" + alg[-3:])).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), digest)
    size = (key.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def sign(key, header, claims):
    message = f"{part(header)}.{part(claims)}"
    return f"{message}.{b64(signature(key, header['alg'], message.encode()))}"


def certificate(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "attacker")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    return base64.b64encode(
        built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    ).decode()


def forge(issuer, attacker):
    key = serialization.load_pem_private_key(issuer["private"].encode(), None)
    other_kinds = {
        "an RSA key": rsa.generate_private_key(65537, 2048),
        "a P-256 key": ec.generate_private_key(ec.SECP256R1()),
        "a P-384 key": ec.generate_private_key(ec.SECP384R1()),
        "a P-521 key": ec.generate_private_key(ec.SECP521R1()),
    }
    mine = other_kinds["an RSA key" if issuer["alg"] == "RS256" else "a P-256 key"]
    now = int(time.time())
    head = {"alg": issuer["alg"], "typ": "JWT", "kid": issuer["kid"]}
    good = {**issuer["claims"], "iat": now, "exp": now + 3600}
    tenant = issuer["tenantClaim"]
    token = jwt.encode(good, key, algorithm=issuer["alg"], headers={"kid": issuer["kid"]})
    first, second, third = token.split(".")
    forged = []

    def add(name, text):
        forged.append({"name": name, "token": text})

    def claims(name, **changes):
        changed = {**good, **changes}
        changed = {name: value for name, value in changed.items() if value is not ...}
        add(name, sign(key, head, changed))

    def header(name, by=mine, **changes):
        changed = {**head, **changes}
        changed = {name: value for name, value in changed.items() if value is not ...}
        add(name, sign(by, changed, good))

    # Not signed, or not by the issuer.
    for none in ["none", "None", "NONE", "nOnE", "", None, "none ", 0]:
        unsigned = f"{part({**head, 'alg': none})}.{second}."
        add(f"algorithm {none!r}, no signature", unsigned)
        add(f"algorithm {none!r}, the signature of another", unsigned + third)
    add("no algorithm", f"{part({'typ': 'JWT', 'kid': issuer['kid']})}.{second}.{third}")
    spki = serialization.Encoding
    point = json.dumps(jwk(key)).encode()
    for name, secret in [
        ("PEM", public(key, spki.PEM)),
        ("PEM without its last line feed", public(key, spki.PEM).rstrip()),
        ("DER", public(key, spki.DER)),
        ("JWK", point),
        ("JWK with its id", json.dumps(jwk(key, kid=issuer["kid"])).encode()),
        ("key id", issuer["kid"].encode()),
        ("nothing", b""),
    ]:
        for alg in ["HS256", "HS384", "HS512"]:
            header(f"{alg} with the {name} as its secret", by=secret, alg=alg)
    header("another's key under the issuer's key id")
    for name, by in other_kinds.items():
        header(f"{name} under the issuer's key id", by=by)
        for alg in ["RS256", "ES256", "ES384"]:
            header(f"{name} as {alg}", by=by, alg=alg)
    for alg in ["ES384", "ES512", "ES256K", "PS256", "RS512", "EdDSA", "A128KW", "ES256 "]:
        header(f"the issuer's key as {alg}", by=key, alg=alg)
    add("a signature of zeros", f"{first}.{second}.{b64(bytes(64))}")
    add("a signature of zeros, as long as RSA's", f"{first}.{second}.{b64(bytes(256))}")
    add("no signature", f"{first}.{second}.")

    # Keys that the token brings or points to.
    for kid in ["nobody", "", "../../../../dev/null", "' OR 1=1 --", "\u0000", "a" * 4000]:
        header(f"the key id {kid[:30]!r}", kid=kid)
    header("no key id", kid=...)
    header("a key id that is no text", by=key, kid=7)
    for name in ["jku", "x5u"]:
        header(f"{name} of an attacker", **{name: f"{attacker}/{name}"})
        header(f"{name} of an attacker, and their key id", kid="mine", **{name: f"{attacker}/{name}"})
    header("jwk of an attacker", jwk=jwk(mine))
    header("jwk of an attacker, and their key id", jwk=jwk(mine, kid="mine"), kid="mine")
    header("x5c of an attacker", x5c=[certificate(mine)])
    header("iss in the header", by=mine, iss=attacker)

    # What the issuer has signed, for another purpose or another time.
    iss = good["iss"]
    for wrong in [attacker, iss + "/", iss.upper(), iss + "@evil.example", " " + iss, "", None, [iss], ...]:
        claims(f"issuer {wrong!r:.60}", iss=wrong)
    for wrong in ["another", ["another"], [], "", None, {"a": 1}, good["aud"] + " ", good["aud"].upper() + "X", ...]:
        claims(f"audience {wrong!r}", aud=wrong)
    claims("an audience within another list", aud=[[good["aud"]]])
    for exp in [now - 3600, now - 61, 0, -1, str(now + 3600), True, None, [now + 3600], ...]:
        claims(f"expires {exp!r}", exp=exp)
    for text in [b"NaN", b"Infinity", b"1e999", b"9" * 400]:
        raw = json.dumps({**good, "exp": "X"}).encode().replace(b'"X"', text)
        add(f"expires {text[:20].decode()}", sign(key, head, raw))
    claims("not good before tomorrow", nbf=now + 86_400)
    claims("not before, which is no time", nbf="now")
    claims("issued tomorrow", iat=now + 86_400)
    claims("issued, which is no time", iat={})
    for sub in ["", None, 7, ["a"], ...]:
        claims(f"subject {sub!r}", sub=sub)
    if issuer["tenantIsBelieved"]:
        for of in ["", None, 7, ["a", "b"], [], [""], "a\u0000b", "a\nb", "a" * 300, {"a": "b"}, ...]:
            claims(f"tenant {of!r:.30}", **{tenant: of})
        twice = json.dumps(good).encode()[:-1] + f', "{tenant}": "default"}}'.encode()
        add("two tenants", sign(key, head, twice))
    else:
        claims("a subject that nobody has", sub="ffffffffffffffffffffffffffffffff")
    twice = json.dumps(good).encode()[:-1] + f', "exp": {now + 99999}}}'.encode()
    add("two expiries", sign(key, head, twice))
    header("extensions that must be understood", by=key, crit=["b64"], b64=False)
    header("extensions of which there are none", by=key, crit=[])
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", 7]:
        header(f"type {typ!r}", by=key, typ=typ)
    header("a token within a token", by=key, cty="JWT", typ="JWE")
    add("a token as the claims of another", sign(key, {**head, "cty": "JWT"}, token.encode()))
    add("claims that are a list", sign(key, head, [good]))
    add("claims that are no JSON", sign(key, head, b"iss=" + iss.encode()))
    add("claims that are no UTF-8", sign(key, head, b'{"iss":"\xff"}'))

    # Broken.
    for name, text in [
        ("the header alone", first),
        ("the header and a dot", first + "."),
        ("two parts", f"{first}.{second}"),
        ("no header", f".{second}.{third}"),
        ("no claims", f"{first}..{third}"),
        ("two dots", ".."),
        ("five parts, as an encrypted token", f"{first}.{second}.{third}.{second}.{third}"),
        ("four parts", f"{token}.{third}"),
        ("a dot at its end", token + "."),
        ("rubbish at its end", token + "AAAA"),
        ("padding", token + "=="),
        ("padding in its header", f"{first}=.{second}.{third}"),
        ("a line of JSON", json.dumps({"token": token})),
        ("itself twice", f"{token} {token}"),
        ("itself twice, with a comma", f"{token},{token}"),
        ("the letters of the other base64", f"{first}.{second}.+/{third[2:]}"),
        ("its parts in another order", f"{second}.{first}.{third}"),
    ]:
        add(name, text)
    for name, index in [("header", 0), ("claims", 1), ("signature", 2)]:
        for at in [0, -1]:
            parts = token.split(".")
            data = bytearray(base64.urlsafe_b64decode(parts[index] + "=="))
            data[at] ^= 1
            parts[index] = b64(bytes(data))
            add(f"a flipped bit at the {'end' if at else 'begin'} of its {name}", ".".join(parts))
    add("an enormous one", sign(key, head, {**good, "more": "a" * 13_000}))
    add("a deep one", sign(key, head, b'{"iss":' + b"[" * 5_000 + b"]" * 5_000 + b"}"))
    return {"good": token, "forged": forged}


def main():
    asked = json.load(sys.stdin)
    if asked.get("generate"):
        # Two keys: which one is meant must be said.
        keys = [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())]
        named = [
            jwk(keys[0], kid="of RSA", use="sig", alg="RS256"),
            jwk(keys[1], kid="of P-256", use="sig", alg="ES256"),
        ]
        print(json.dumps({"private": [pem(key) for key in keys], "jwks": {"keys": named}}))
        return
    attacker = asked["attacker"]
    print(json.dumps([forge(issuer, attacker) for issuer in asked["issuers"]]))


main()

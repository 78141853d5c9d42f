"""A mail server that is held to the letter by its own peers: aiosmtpd takes the mail, Python's email package reads it.

Arguments: certificate and key in PEM, user, password, and "starttls" or "tls". Prints its port, then a line of JSON for each
command that it answers for a recipient and for each mail that it takes. Whose mail it does not take is said by the name before
the @: `later` is put off once, `never` is no user, `spam` is refused when it is all there.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

cert, key, user, password, how = sys.argv[1:]


def say(**what):
    print(json.dumps(what), flush=True)


def authenticate(server, session, envelope, mechanism, login):
    good = (login.login, login.password) == (user.encode(), password.encode())
    return AuthResult(success=good, handled=good, auth_data=user if good else None)


def part(part):
    content = part.get_content()
    if isinstance(content, bytes):
        content = content.hex()
    return {
        "type": part.get_content_type(),
        "id": part.get("Content-ID"),
        "disposition": part.get_content_disposition(),
        "content": content,
    }


# Who was told to come back.
put_off = set()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.rsplit("@", 1)[0]
        answer = "250 OK"
        if name == "later" and address not in put_off:
            put_off.add(address)
            answer = "450 4.2.0 come back later"
        if name == "never":
            answer = "550 5.1.1 no such user here"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        say(recipient=address, answer=answer)
        return answer

    async def handle_DATA(self, server, session, envelope):
        to = envelope.rcpt_tos
        if to[0].startswith("spam@"):
            say(recipient=to[0], answer="554 5.7.1 this looks like spam")
            return "554 5.7.1 this looks like spam"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say(
            encrypted=session.ssl is not None,
            user=session.auth_data,
            sender=envelope.mail_from,
            to=to,
            headers=[[name, str(value)] for name, value in mail.items()],
            defects=[repr(d) for p in mail.walk() for d in p.defects + [d for h in p.values() for d in h.defects]],
            shape=[p.get_content_type() for p in mail.walk()],
            parts=[part(p) for p in mail.walk() if not p.is_multipart()],
        )
        return "250 OK"


def smtp():
    return SMTP(
        Handler(),
        authenticator=authenticate,
        auth_required=True,
        auth_require_tls=how == "starttls",
        require_starttls=how == "starttls",
        tls_context=context if how == "starttls" else None,
        enable_SMTPUTF8=True,
    )


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(smtp, "127.0.0.1", 0, ssl=context if how == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends with its standard input.
    await loop.run_in_executor(None, sys.stdin.read)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
asyncio.run(serve())

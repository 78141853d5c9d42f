"""A mail server that is held to the letter by its own peers: aiosmtpd takes the mail, Python's email package reads it.

Arguments: certificate and key in PEM, user, password, and "starttls" or "tls". Prints its port, then a line of JSON for each
command that it answers for a recipient and for each mail that it takes. Whose mail it does not take is said by the name before
the @: `later` is put off once, `never` is no user, `spam` is refused when it is all there.
"""

import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.controller import Controller
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


class Handler:
    def __init__(self):
        self.put_off = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.rsplit("@", 1)[0]
        answer = "250 OK"
        if name == "later" and address not in self.put_off:
            self.put_off.add(address)
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


class Server(Controller):
    def factory(self):
        return SMTP(
            self.handler,
            authenticator=authenticate,
            auth_required=True,
            auth_require_tls=how == "starttls",
            require_starttls=how == "starttls",
            tls_context=context if how == "starttls" else None,
            enable_SMTPUTF8=True,
        )


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server = Server(Handler(), hostname="127.0.0.1", port=0, ssl_context=context if how == "tls" else None)


# The controller asks the port it was given whether it answers; 0 is none.
server._trigger_server = lambda: None
server.start()
print(server.server.sockets[0].getsockname()[1], flush=True)
sys.stdin.read()
server.stop()

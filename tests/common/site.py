"""What a test talks to: a web site, an authority for names that counts, an echo. Says "up" once it answers.

    site.py web ADDRESS DIRECTORY CERTIFICATE KEY   HTTPS on 443 and HTTP on 80; each request is a line of output
    site.py dns ADDRESS NAME=ADDRESS,ADDRESS…       port 53; a name's addresses take turns; each question is a line of output
    site.py echo ADDRESS PORT                       UDP; each datagram is a line of output
"""

import functools
import http.server
import os
import socket
import ssl
import struct
import sys
import threading


def say(*words):
    print(*words, flush=True)


class Site(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        # What the site has there, else what was sent.
        answer = self.translate_path(self.path)
        if os.path.isfile(answer):
            with open(answer, "rb") as file:
                body = file.read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/echo-headers"):
            body = str(self.headers).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            super().do_GET()

    def log_message(self, form, *arguments):
        say(self.command, self.path, "key=" + self.headers.get("x-api-key", "none"))


def web(address, directory, certificate, key):
    handler = functools.partial(Site, directory=directory)
    plain = http.server.ThreadingHTTPServer((address, 80), handler)
    secure = http.server.ThreadingHTTPServer((address, 443), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # The handshake belongs to the connection's own thread, so that one that never comes holds nobody up.
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    say("up")
    secure.serve_forever()


def name_of(question):
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels).lower(), at + 5


def dns(address, *entries):
    names = {name: addresses.split(",") for name, _, addresses in (entry.partition("=") for entry in entries)}
    asked = {}
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    say("up")
    while True:
        question, asker = server.recvfrom(4096)
        name, end = name_of(question)
        kind = struct.unpack("!H", question[end - 4 : end - 2])[0]
        say("asked", name, kind)
        addresses = names.get(name, [])
        answer = b""
        if addresses and kind == 1:
            turn = asked.get(name, 0)
            asked[name] = turn + 1
            chosen = socket.inet_aton(addresses[turn % len(addresses)])
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + chosen
        flags = 0x8580 if addresses else 0x8583
        header = question[:2] + struct.pack("!HHHHH", flags, 1, 1 if answer else 0, 0, 0)
        server.sendto(header + question[12:end] + answer, asker)


def echo(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, int(port)))
    say("up")
    while True:
        datagram, sender = server.recvfrom(4096)
        say("datagram", datagram.decode(errors="replace"))
        server.sendto(datagram, sender)


{"web": web, "dns": dns, "echo": echo}[sys.argv[1]](*sys.argv[2:])

"""Three apps as their authors would push them: Python, Node, and static files served by a few lines of Perl.

Each listens on PORT, knows nothing of flyby, and tells which process answered, so that a test can tell dynos apart.
"""

from __future__ import annotations

PYTHON = {
    "Procfile": "web: python3 app.py\n",
    "requirements.txt": "",
    "app.py": """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(f"python {os.getpid()} {self.path}")

    def do_POST(self):
        self.answer("python took " + self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
}

NODE = {
    "Procfile": "web: node server.js\n",
    "package.json": '{"name": "shop", "version": "1.0.0", "private": true}\n',
    "server.js": """
const http = require("http");

const server = http
  .createServer((request, response) => {
    response.setHeader("Cache-Control", "no-store");
    if (request.method === "POST") {
      let taken = "";
      request.on("data", (part) => (taken += part));
      request.on("end", () => response.end("node took " + taken));
    } else {
      response.write(`node ${process.pid} `);
      setTimeout(() => response.end(request.url), 5);
    }
  })
  .listen(process.env.PORT, "127.0.0.1");

process.on("SIGTERM", () => server.close(() => process.exit(0)));
""",
}

STATIC = {
    "Procfile": "web: perl serve.pl public\n",
    "public/index.html": "<!doctype html><title>static</title>\n",
    "public/style.css": "body { color: teal }\n",
    "serve.pl": """
use strict;
use warnings;
use IO::Socket::INET;

my ($root) = @ARGV;
my %types = (html => "text/html", css => "text/css");
my $server = IO::Socket::INET->new(
    LocalAddr => "127.0.0.1", LocalPort => $ENV{PORT}, Listen => 64, ReuseAddr => 1,
) or die "cannot listen: $!";
$SIG{CHLD} = "IGNORE";
while (my $client = $server->accept) {
    if (fork) { close $client; next }
    local $/ = "\\r\\n";
    while (defined(my $line = <$client>)) {
        my ($path) = $line =~ m{^GET (/[\\w./-]*)} or last;
        while (defined(my $field = <$client>)) { last if $field eq "\\r\\n" }
        $path = "/index.html" if $path eq "/";
        my ($ending) = $path =~ /[.](\\w+)$/;
        my ($status, $body) = ("404 Not Found", "no such file\\n");
        if ($path !~ /[.][.]/ && open my $file, "<", "$root$path") {
            local $/;
            ($status, $body) = ("200 OK", scalar <$file>);
        }
        my $type = $types{$ending // ""} // "text/plain";
        my $length = length $body;
        print $client "HTTP/1.1 $status\\r\\nContent-Type: $type\\r\\nContent-Length: $length\\r\\n"
            . "Cache-Control: public, max-age=60\\r\\n\\r\\n$body";
    }
    exit 0;
}
""",
}


def renamed(app: dict[str, str]) -> dict[str, str]:
    """The app with its `web` process called `app`, so that the platform publishes no port for it."""
    return app | {"Procfile": app["Procfile"].replace("web:", "app:")}


def command(app: dict[str, str]) -> str:
    """What the Procfile's one process runs."""
    return app["Procfile"].partition(":")[2].strip()

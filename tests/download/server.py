"""Serves the files of a folder on a free port of this machine, as servers of archives do, with the faults of a test.

    server.py FOLDER [ranges|no-ranges] [CUT]

Prints the port, then a line for each request: path and Range header. With CUT each answer ends after so many bytes, as
if the connection were lost.
"""

import http.server
import os
import re
import sys
from pathlib import Path

FOLDER, RANGES = Path(sys.argv[1]), sys.argv[2] == "ranges"
CUT = int(sys.argv[3]) if len(sys.argv) > 3 else None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        print(self.path, wanted, flush=True)
        path = FOLDER / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, begin = path.read_bytes(), 0
        if wanted and RANGES:
            begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if begin >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(data[begin:][:CUT])
        except ConnectionError:
            pass  # The other side had enough.

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
# Ends with the test that started it.
sys.stdin.close()
server.serve_forever()

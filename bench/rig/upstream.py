"""The static upstream: nginx that answers every POST with one file, so that it costs little and never varies."""

import os
import pwd
from pathlib import Path

from . import machine, process

PATH = "/v1/chat/completions"

# A static file answers POST with 405; `error_page 405 =200 $uri` turns that into the file itself by an internal
# GET, after which nginx reads and discards the body and keeps the connection.
_CONFIG = """
user {user};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/upstream-{name}.pid;
error_log {folder}/upstream-{name}-error.log;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    etag off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 3600s;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/upstream-{name}-body;
    open_file_cache max=10 inactive=3600s;
    open_file_cache_valid 3600s;
    types {{ }}
    default_type {content_type};
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = {path} {{
            root {folder}/{name};
            error_page 405 =200 $uri;
        }}
    }}
}}
"""


class Static:
    """nginx that serves `answer` as `content_type` at PATH."""

    def __init__(self, name: str, answer: bytes, content_type: str, core: int, folder: Path):
        self.port = process.free_port()
        self.answer = answer
        target = folder / name / PATH.lstrip("/")
        target.parent.mkdir(parents=True)
        target.write_bytes(answer)
        config = folder / f"upstream-{name}.conf"
        config.write_text(
            _CONFIG.format(
                folder=folder, name=name, port=self.port, content_type=content_type, path=PATH, user=user_name()
            )
        )
        command = [machine.find("nginx"), "-p", str(folder), "-e", str(folder / "nginx-early.log"), "-c", str(config)]
        self.process = process.Process(f"upstream-{name}", command, core, folder)
        self.process.wait_until_listening(self.port)

    def stop(self) -> None:
        """Ends it."""
        self.process.stop()


def user_name() -> str:
    """Who we are: nginx started by root would change to a user who may not read our temporary folder."""
    return pwd.getpwuid(os.geteuid()).pw_name

"""Serves a GGUF model by llama.cpp's HTTP server until it is killed. Runs in the model's own environment:
`python serve_model.py MODEL.gguf`; prints its address as one JSON line."""

import json
import signal
import sys

from xllamacpp import CommonParams, Server

params = CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 4096
params.n_parallel = 2
params.cpuparams.n_threads = 2
params.hostnames = ["127.0.0.1"]
params.port = 0
params.model_alias = {"smollm2"}
server = Server(params)
print(json.dumps({"listen": server.listening_address.removeprefix("http://")}), flush=True)
signal.pause()

"""Serves a model by OpenAI's protocol on loopback until it is ended: python serve.py MODEL PORT KEY"""

import importlib
import sys
import threading


def main(model: str, port: str, key: str) -> None:
    llama = importlib.import_module("xllamacpp")  # only here, in a folder of the cache
    wanted = llama.CommonParams()
    wanted.model.path, wanted.hostnames, wanted.port, wanted.api_keys = model, ["127.0.0.1"], int(port), [key]
    wanted.n_ctx, wanted.n_parallel = 8192, 1
    # Threads that wait for each other in a loop are slower than one, where others want the cores, too.
    wanted.cpuparams.n_threads = 1
    server = llama.Server(wanted)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

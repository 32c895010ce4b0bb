"""Somebody in a pod who tries to get in, once with each set of credentials; prints what came of it as JSON."""

import json
import sys

import numpy as np

import mekiki

IMAGE = np.zeros((64, 64, 3), np.uint8)


def attempt(address: str, credentials: dict[str, str], rpc: str) -> str:
    options = mekiki.ClientOptions(
        timeout_s=10, retry=mekiki.RetryPolicy(attempts=1), credentials=mekiki.Credentials(**credentials)
    )
    with mekiki.Client(address, options=options) as client:
        calls = {
            "score": lambda: client.anomaly.score_image("quick", IMAGE),
            "delete": lambda: client.anomaly.delete_detector("no-such"),
        }
        try:
            calls[rpc]()
        except mekiki.MekikiError as error:
            return type(error).__name__
        return "OK"


if __name__ == "__main__":
    wish = json.loads(sys.argv[1])
    print(json.dumps([attempt(wish["address"], *each) for each in wish["attempts"]]))

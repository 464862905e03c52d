"""The official asynchronous client with a semaphore, as people write it: each line of a file sent, each answer written.
Run by the Python that has the client: `batch_client.py URL IN OUT LINES AT_ONCE`; prints what it took as JSON."""

import asyncio
import json
import resource
import sys
import time

import openai


async def main(url: str, source: str, target: str, lines: int, at_once: int) -> dict:
    client = openai.AsyncOpenAI(base_url=url, api_key="sk-test-lab-1")
    semaphore = asyncio.Semaphore(at_once)
    with open(target, "w") as out:

        async def one(line: str) -> None:
            call = json.loads(line)
            async with semaphore:
                answer = await client.chat.completions.create(**call["body"])
            out.write(json.dumps({"custom_id": call["custom_id"], "response": answer.model_dump()}) + "\n")

        with open(source) as file:
            calls = [line for line, _ in zip(file, range(lines), strict=False)]
        # The first call sets up what all share.
        await one(calls[0])
        began, used = time.monotonic(), cpu_s()
        await asyncio.gather(*(one(line) for line in calls))
        return {"lines": lines, "wall_s": time.monotonic() - began, "cpu_s": cpu_s() - used}


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    url, source, target, lines, at_once = sys.argv[1:]
    print(json.dumps(asyncio.run(main(url, source, target, int(lines), int(at_once)))))

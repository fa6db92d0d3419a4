"""Sends requests over HTTP/2 with httpx, several at once. Arguments: base URL."""

import asyncio
import sys

import httpx


async def main():
    headers = {"authorization": "Bearer s3cret"}
    async with httpx.AsyncClient(http1=False, http2=True, base_url=sys.argv[1], headers=headers) as client:
        await client.get("/cart?token=s3cret")
        several = [client.get(f"/items/{number}") for number in range(8)]
        responses = await asyncio.gather(*several, client.post("/orders", content=b"x" * 3000), client.get("/missing"))
        assert [response.status_code for response in responses] == [200] * 9 + [404]


asyncio.run(main())

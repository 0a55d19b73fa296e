"""A client and a server made of aiocoap, for the tests of this folder.

serve HOST PORT         stores what is PUT; GET and Observe follow it
put URI SZX FILE        sends a file
get URI SZX FILE        writes what it got into a file
observe URI             prints each representation in a line
"""

import asyncio
import sys

import aiocoap
import aiocoap.resource


class Store(aiocoap.resource.ObservableResource):
    body = b""

    async def render_get(self, request):
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self.body, content_format=42)

    async def render_put(self, request):
        self.body = request.payload
        self.updated_state()
        return aiocoap.Message(code=aiocoap.CHANGED)


async def serve(host, port):
    site = aiocoap.resource.Site()
    for i in range(20):
        site.add_resource(["r%d" % i], Store())
    await aiocoap.Context.create_server_context(site, bind=(host, int(port)))
    await asyncio.get_running_loop().create_future()


def request(code, uri, szx, payload=b""):
    m = aiocoap.Message(code=code, uri=uri, payload=payload)
    if szx is not None:
        m.remote.maximum_block_size_exp = int(szx)
    return m


async def put(uri, szx, file):
    context = await aiocoap.Context.create_client_context()
    with open(file, "rb") as f:
        m = request(aiocoap.PUT, uri, szx, f.read())
    m.opt.content_format = 42
    response = await context.request(m).response
    await context.shutdown()
    assert response.code.is_successful(), response


async def get(uri, szx, file):
    context = await aiocoap.Context.create_client_context()
    m = request(aiocoap.GET, uri, szx)
    m.opt.block2 = (0, 0, int(szx))
    response = await context.request(m).response
    await context.shutdown()
    assert response.code.is_successful(), response
    with open(file, "wb") as f:
        f.write(response.payload)


async def observe(uri):
    context = await aiocoap.Context.create_client_context()
    r = context.request(aiocoap.Message(code=aiocoap.GET, uri=uri, observe=0))
    print((await r.response).payload.decode(), flush=True)
    async for m in r.observation:
        print(m.payload.decode(), flush=True)


commands = {"serve": serve, "put": put, "get": get, "observe": observe}
asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))

// Sends requests of many sizes, always the same ones. Arguments: library, URL without a path, number of requests, and the most bytes of a body.
// Prints a digest of all responses.

const crypto = require('crypto');
const http = require('http');
const https = require('https');

const [library, url, count, most] = process.argv.slice(2).map((value, index) => (index < 2 ? value : Number(value)));
const own = { Traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
const pattern = Buffer.alloc(2 * most, Buffer.from(Array.from({ length: 251 }, (_, index) => index)));
const protocol = url.startsWith('https:') ? https : http;
const digest = crypto.createHash('sha256');
let agent;

// As in the other languages.
let state = 6n;
function number() {
  state = (state * 1103515245n + 12345n) & 0x7fffffffn;
  return Number(state >> 8n);
}

// As many of each order of magnitude.
function size() {
  const power = 2 ** (number() % Math.floor(Math.log2(most)));
  return power + (number() % power);
}

function parts(body) {
  const found = [];
  for (let at = 0; at < body.length; at += 9000) {
    found.push(body.subarray(at, at + 9000));
  }
  return found;
}

const send = {
  http: (method, path, headers, body, chunked) =>
    new Promise((resolve, reject) => {
      const request = protocol.request(url + path, { method, headers, agent }, (response) => {
        response.on('data', (part) => digest.update(part));
        response.on('end', resolve);
        response.on('error', reject);
      });
      request.on('error', reject);
      if (chunked) {
        parts(body).forEach((part) => request.write(part));
        request.end();
      } else {
        request.end(body);
      }
    }),
  fetch: async (method, path, headers, body, chunked) => {
    const stream = chunked ? ReadableStream.from(parts(body)) : body;
    const response = await fetch(url + path, { method, headers, body: stream, duplex: 'half' });
    digest.update(Buffer.from(await response.arrayBuffer()));
  },
};

async function main() {
  for (let index = 0; index < count; index += 1) {
    if (index % 25 === 0) {
      agent?.destroy();
      agent = new protocol.Agent({ keepAlive: true });
    }
    const [sent, answer] = [size(), size()];
    const kind = number() % 8;
    const body = kind > 2 ? pattern.subarray(0, sent) : undefined;
    const headers = kind === 2 || kind === 7 ? own : {};
    await send[library](body ? 'POST' : 'GET', `/${index}?answer=${answer}`, headers, body, kind === 6);
  }
  agent.destroy();
  console.log(digest.digest('hex'));
}

main();
